"""Flags that several commands share, and the values they take. Nothing here imports torch."""

import argparse
import math
from pathlib import Path

from studio.memory.plan import ATTENTIONS, OFFLOADS, WeightMode

SETTING_FLAGS = {
    "negative_prompt": str,
    "motion_score": float,
    "infer_steps": int,
    "cfg_scale": float,
    "time_shift": float,
    "num_frames": int,
    "height": int,
    "width": int,
    "seed": int,
    "crop_left": float,
    "crop_top": float,
}


def machine_flags() -> argparse.ArgumentParser:
    """The flags about this machine, as a parent of each command's parser. A flag that is not given sets nothing."""
    flags = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    group = flags.add_argument_group("this machine")
    group.add_argument("--model-dir", type=Path, help="where models lie (default ./checkpoints)")
    group.add_argument("--output-dir", type=Path, help="where results go (default ./outputs)")
    group.add_argument(
        "--device",
        help="auto (default), cpu, cuda or cuda:N; for the page several too, a worker on each: cuda:0,cuda:1 or all",
    )
    group.add_argument(
        "--offload",
        nargs="?",
        const="auto",
        choices=OFFLOADS,
        help="auto (default): as free memory allows; none: all on the device; blocks: stream all; disk: from disk",
    )
    group.add_argument(
        "--quantize",
        choices=[mode.value for mode in WeightMode],
        help="none (default); int8: weights that `quantize` wrote; int8-compute: multiply in int8 too, coarser",
    )
    group.add_argument(
        "--attention",
        choices=ATTENTIONS,
        metavar="KERNEL",
        help=f"{', '.join(ATTENTIONS)}; auto (default): the fastest exact one on this GPU. sageattention is not exact",
    )
    group.add_argument(
        "--vram", type=gigabytes, metavar="GB", help="never use more GPU memory than this (default: what is free)"
    )
    group.add_argument(
        "--ram", type=gigabytes, metavar="GB", help="never use more host memory than this (default: what is free)"
    )
    return flags


def gigabytes(text: str) -> float:
    """A budget in GB. Raises ArgumentTypeError."""
    return _number(text, 1e-3, 1e6)


def speed(text: str) -> float:
    """TFLOP/s or GB/s. Raises ArgumentTypeError."""
    return _number(text, 1e-6, 1e6)


def _number(text: str, low: float, high: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not low <= number <= high:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from {low:g} to {high:g}")
    return number


def count(text: str) -> int:
    """A whole number from 1 on. Raises ArgumentTypeError."""
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text} is no number from 1 on")
    return int(text)


def port(text: str) -> int:
    """A port number. Raises ArgumentTypeError."""
    if not (text.isdecimal() and 0 < int(text) < 2**16):
        raise argparse.ArgumentTypeError(f"{text!r} is no port: they go from 1 to 65535")
    return int(text)
