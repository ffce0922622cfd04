"""`download`: the files of a model that are needed."""

import argparse

from studio.checkpoints.download import download
from studio.commands.machine import find_model, studio_config
from studio.config import load_speech


def run(options: argparse.Namespace) -> int:
    """Download a model's files; a stopped download goes on with the same command."""
    config = studio_config(options)
    model = load_speech().get(options.model) or find_model(options.model, config)
    download(model, options.source, options.to or config.model_dir / model.name, print, options.revision)
    return 0
