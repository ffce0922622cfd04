"""Files that the command line is given, and the names of those that it makes."""

import itertools
import os
import time
from pathlib import Path

from PIL import Image

from studio.config import StudioConfig
from studio.errors import InputError
from studio.filenames import RESULT_SUFFIXES, result_name
from studio.media import read_image
from studio.settings import ResolvedSettings


def read_file(path: Path) -> bytes:
    """The file's bytes. Raises InputError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError("file_unreadable", file=path, reason=error.strerror or str(error)) from None


def read_picture(path: str | Path | None, config: StudioConfig) -> Image.Image | None:
    """The upright picture, None for no path. Raises InputError for a file that is none."""
    return None if path is None else read_image(read_file(Path(path)), config.image_limit_megapixels)


def result_stem(output: Path | None, settings: ResolvedSettings, config: StudioConfig) -> Path:
    """The result's path without suffix: --output as a file or a folder, else a name in the output folder.

    A name made here is free; raises InputError where a file of the name that was asked for stands already.
    """
    folder = config.output_dir if output is None else output.resolve()
    if output is None or folder.is_dir():
        name = result_name(settings.prompt, settings.seed, time.time())
        names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
        return next(folder / name for name in names if not _taken(folder / name))
    stem = folder.with_suffix("") if folder.suffix.lower() in (".mp4", ".png") else folder
    if taken := _taken(stem):
        raise InputError("output_exists", file=taken)
    return stem


def _taken(stem: Path) -> Path | None:
    """A file that a result of this name would replace."""
    files = (stem.with_name(stem.name + suffix) for suffix in RESULT_SUFFIXES)
    return next((file for file in files if os.path.exists(file)), None)
