"""`download`: the files of a model that are needed."""

import argparse

from studio.checkpoints.download import download
from studio.commands.machine import find_model, studio_config


def run(options: argparse.Namespace) -> int:
    """Download a model's files; a stopped download goes on with the same command."""
    config = studio_config(options)
    model = find_model(options.model, config)
    download(model, options.source, options.to or config.model_dir / model.name, print, options.revision)
    return 0
