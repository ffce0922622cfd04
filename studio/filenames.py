"""The names by which rooms find each other's files, in a job's folder and beside a result, and how files appear."""

import errno
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
LAST_FRAME = "last_frame.png"  # of the video, as it was decoded: what the next clip begins with
JOB_DIGITS = 6  # of a job's id, in the name of its result
UNFINISHED = ".tmp"  # at the end of a file that is not whole yet
RESULT_SUFFIXES = (".mp4", ".png", ".json", ".jpg", ".first.png", ".latents.safetensors")
# What a result's file that is not whole ends with; its group: the id of the process that writes it, where it is named.
UNFINISHED_ENDING = rf"(?:{'|'.join(map(re.escape, RESULT_SUFFIXES))})(?:\.([0-9]{{1,9}}))?{re.escape(UNFINISHED)}"


def beside(result: Path, suffix: str) -> Path:
    """The file of a result (NAME.mp4, or NAME.png for one frame) that has another of RESULT_SUFFIXES."""
    return result.with_name(result.stem + suffix)


def remove_result(result: Path) -> None:
    """Delete all files of a result, itself last: while it is there, it can be deleted again. Raises OSError."""
    for suffix in reversed(RESULT_SUFFIXES):
        beside(result, suffix).unlink(missing_ok=True)


def job_result_stem(folder: Path, prompt: str, seed: int, created: float, id: str) -> Path:
    """The path without suffix of a job's result; its end names the job, so that what a killed one left is known."""
    return folder / f"{result_name(prompt, seed, created)}-{id[:JOB_DIGITS]}"


def unfinished_results(folder: Path, id: str = "") -> list[Path]:
    """Files of results that are not whole, in the folder: of one job, or of any result (""). Of those that name the
    process that writes them (`write_whole`), too."""
    fits = re.compile(f".*{re.escape(f'-{id[:JOB_DIGITS]}' if id else '')}{UNFINISHED_ENDING}", re.DOTALL)
    return [path for path in folder.glob(f"*{UNFINISHED}") if fits.fullmatch(path.name)]


def result_name(prompt: str, seed: int, created: float) -> str:
    """A name that sorts by date and tells the prompt: 20261121-101502-a-cat-runs-42. `created` in Unix seconds."""
    words = re.sub(r"\W+", "-", prompt).strip("-")[:32].strip("-")
    return f"{datetime.fromtimestamp(created):%Y%m%d-%H%M%S}-{words}-{seed}"


def write_whole(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Write a file that appears complete or not at all: .tmp first, then renamed. Raises OSError, leaving nothing.

    durable: it outlives a power cut too, once this returns.
    """
    unfinished = path.with_name(f"{path.name}.{os.getpid()}{UNFINISHED}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        unfinished.write_bytes(data)
        if durable:
            put_durably(unfinished, path)
        else:
            unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def put_durably(unfinished: Path, path: Path) -> None:
    """Give a whole file its name; once this returns, both outlive a power cut. Raises OSError."""
    sync_file(unfinished)
    unfinished.replace(path)
    sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Return once the file's content is on the disk. Raises OSError."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def sync_folder(folder: Path) -> None:
    """Return once the names in the folder are on the disk, as far as its file system can say so. Raises OSError."""
    try:
        sync_file(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EACCES):  # network file systems: no folder is synced
            raise
