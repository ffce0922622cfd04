"""`quantize`: int8 weights beside a model's own."""

import argparse

from studio.checkpoints.quantize import quantize
from studio.commands.machine import find_model, studio_config
from studio.config import load_speech
from studio.pipeline.engine import part_folders
from studio.pipeline.speech import speech_folders


def run(options: argparse.Namespace) -> int:
    """Write the int8 weights of every variant of a model, or of the language model of one that speaks."""
    config = studio_config(options)
    if options.model in load_speech():
        quantize(speech_folders(options.model, config.model_dir), print)
        return 0
    model = find_model(options.model, config)
    for has_image in sorted({variant.takes_image for variant in model.variants}):
        quantize(part_folders(model, has_image, config.model_dir), print)
    return 0
