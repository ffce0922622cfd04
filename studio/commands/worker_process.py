"""The command line of a worker process."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from studio import IS_INSTALLED
from studio.config import ROOT

# Starts the worker. -P: the installed module, never one that lies in the working directory.
START = [sys.executable, "-P", "-m", "studio"] if IS_INSTALLED else [sys.executable, str(ROOT / "app.py")]
FLAGS = ("model_dir", "output_dir", "device", "offload", "quantize", "attention", "vram", "ram")


def worker_command(options: argparse.Namespace, queue: Path, program: str = "worker", /, **others: object) -> list[str]:
    """This program's worker of the queue in that folder, with this command's flags about the machine.

    program: "worker" or "sound_worker". others: further flags of it by name, or other values for those; None leaves one
    out.
    """
    given = {name: vars(options).get(name) for name in FLAGS} | others
    return [*START, program, "--queue", str(queue), *flags(given)]


def flags(given: Mapping[str, object]) -> list[str]:
    """Values by the names of flags as words of a command line, without those that are None."""
    words = []
    for name, value in given.items():
        if value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return words
