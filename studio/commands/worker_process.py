"""The command line of a worker process."""

import argparse
import sys
from pathlib import Path

from studio import IS_INSTALLED
from studio.config import ROOT

# Starts the worker. -P: the installed module, never one that lies in the working directory.
START = [sys.executable, "-P", "-m", "studio"] if IS_INSTALLED else [sys.executable, str(ROOT / "app.py")]
FLAGS = ("model_dir", "output_dir", "device", "offload", "quantize", "vram", "ram")


def worker_command(options: argparse.Namespace, queue: Path, **others: object) -> list[str]:
    """This program's worker of the queue in that folder, with this command's flags about the machine.

    others: further flags of the worker by name, or other values for those; None leaves one out.
    """
    given = {name: vars(options).get(name) for name in FLAGS} | others
    command = [*START, "worker", "--queue", str(queue)]
    for name, value in given.items():
        if value is not None:
            command += [f"--{name.replace('_', '-')}", str(value)]
    return command
