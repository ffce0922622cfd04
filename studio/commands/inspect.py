"""`inspect`: what a checkpoint folder holds."""

import argparse

from studio.checkpoints.inspect import inspect


def run(options: argparse.Namespace) -> int:
    """Say what a checkpoint folder holds; 1 when something is missing or corrupt."""
    report = inspect(options.folder)
    print("\n".join(report.lines()))
    return 0 if report.ok else 1
