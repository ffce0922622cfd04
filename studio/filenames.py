"""The names by which rooms find each other's files, in a job's folder and beside a result, and how files appear."""

import os
import re
from datetime import datetime
from pathlib import Path

QUEUE_FOLDER = ".queue"  # inside the output folder
FIRST_IMAGE = "first_image"  # the picture as it was uploaded, whatever its format; "first_image-2" after an edit
PICTURE_NAME = re.compile(rf"{FIRST_IMAGE}(?:-[0-9]{{1,9}})?")
THUMBNAIL = "first_image.jpg"  # the picture as it is used, small
LATENTS = "latents.safetensors"  # what a stopped job goes on from
PREVIEW = "preview.webp"
UNFINISHED = ".tmp"  # at the end of a file that is not whole yet
RESULT_SUFFIXES = (".mp4", ".png", ".json", ".jpg", ".first.png", ".latents.safetensors")


def beside(result: Path, suffix: str) -> Path:
    """The file of a result (NAME.mp4, or NAME.png for one frame) that has another of RESULT_SUFFIXES."""
    return result.with_name(result.stem + suffix)


def remove_result(result: Path) -> None:
    """Delete all files of a result, itself last: while it is there, it can be deleted again. Raises OSError."""
    for suffix in reversed(RESULT_SUFFIXES):
        beside(result, suffix).unlink(missing_ok=True)


def result_name(prompt: str, seed: int, created: float) -> str:
    """A name that sorts by date and tells the prompt: 20261121-101502-a-cat-runs-42. `created` in Unix seconds."""
    words = re.sub(r"\W+", "-", prompt).strip("-")[:32].strip("-")
    return f"{datetime.fromtimestamp(created):%Y%m%d-%H%M%S}-{words}-{seed}"


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that appears complete or not at all: .tmp first, then renamed. Raises OSError, leaving nothing."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        unfinished.write_bytes(data)
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
