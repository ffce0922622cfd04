"""`download`: the files of a model that are needed."""

import argparse
import json

from studio.checkpoints.download import download
from studio.commands.machine import find_model, studio_config
from studio.config import load_speech
from studio.errors import StudioError


def run(options: argparse.Namespace) -> int:
    """Download a model's files; a stopped download goes on with the same command."""
    config = studio_config(options)
    model = load_speech().get(options.model) or find_model(options.model, config)
    to = options.to or config.model_dir / model.name
    try:
        download(
            model,
            options.source,
            to,
            _say_json if options.json else print,
            options.revision,
            tokenizers_only=options.tokenizers,
        )
    except StudioError as error:
        if not options.json:
            raise
        values = {name: value if isinstance(value, int | float) else str(value) for name, value in error.values.items()}
        print(json.dumps({"error": error.code, "values": values, "text": str(error)}), flush=True)
        return error.exit_code
    return 0


def _say_json(line: str) -> None:
    print(json.dumps({"said": line}), flush=True)
