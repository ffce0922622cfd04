"""`quantize`: int8 weights beside a model's own."""

import argparse

from studio.checkpoints.quantize import quantize
from studio.commands.machine import find_model, studio_config
from studio.pipeline.engine import part_folders


def run(options: argparse.Namespace) -> int:
    """Write the int8 weights of every variant of a model."""
    config = studio_config(options)
    model = find_model(options.model, config)
    for has_image in sorted({variant.takes_image for variant in model.variants}):
        quantize(part_folders(model, has_image, config.model_dir), print)
    return 0
