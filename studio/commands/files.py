"""`inspect`, `download` and `quantize`: commands about a model's files."""

import argparse

from studio.checkpoints.download import download
from studio.checkpoints.inspect import inspect
from studio.checkpoints.quantize import quantize
from studio.commands.machine import find_model, studio_config
from studio.pipeline.engine import part_folders


def run_inspect(options: argparse.Namespace) -> int:
    """Say what a checkpoint folder holds; 1 when something is missing or corrupt."""
    report = inspect(options.folder)
    print("\n".join(report.lines()))
    return 0 if report.ok else 1


def run_download(options: argparse.Namespace) -> int:
    """Fetch the files of a model that are needed."""
    config = studio_config(options)
    model = find_model(options.model, config)
    download(model, options.source, options.to or config.model_dir / model.name, print)
    return 0


def run_quantize(options: argparse.Namespace) -> int:
    """Write int8 weights beside a model's own."""
    config = studio_config(options)
    model = find_model(options.model, config)
    for has_image in sorted({variant.takes_image for variant in model.variants}):
        quantize(part_folders(model, has_image, config.model_dir), print)
    return 0
