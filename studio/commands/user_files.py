"""Files that the command line is given, and the names of those that it makes."""

import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from models.regular_files import read_regular
from studio.config import StudioConfig, resolved
from studio.embedded import carried_picture
from studio.errors import InputError
from studio.events import Event, notice
from studio.filenames import RESULT_SUFFIXES, UNFINISHED, result_name
from studio.media import read_image
from studio.messages import clean
from studio.pipeline.output import check_place
from studio.settings import ResolvedSettings

NAME_BYTES, PATH_BYTES = 255, 4095  # the most that Linux takes


def read_file(path: Path, limit_mb: int = 1) -> bytes:
    """The content of a regular file. Raises InputError where it cannot be read, or is longer."""
    try:
        return read_regular(path, limit_mb << 20)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in its name
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError("file_unreadable", file=path, reason=reason) from None


def read_picture(path: str | Path | None, config: StudioConfig) -> Image.Image | None:
    """The upright picture, None for no path. Raises InputError for a file that is none, or not a regular one."""
    original = read_original(path, config)
    return None if original is None else read_image(original, config.image_limit_megapixels)


def read_original(path: str | Path | None, config: StudioConfig) -> bytes | None:
    """The picture's file, of an mp4 the first image that it carries; None for no path. Raises as `read_file`."""
    if path is None:
        return None
    if Path(path).suffix.lower() == ".mp4" and (inside := carried_picture(Path(path), config.upload_limit_mb << 20)):
        return inside
    return read_file(Path(path), config.upload_limit_mb)


def original_inside(path: str | Path | None, config: StudioConfig, emit: Callable[[Event], None]) -> bytes | None:
    """The picture's file for a video to carry; None, with a notice, for one that is larger than the config lets in."""
    original, limit = read_original(path, config), config.picture_inside_mb
    if original is None or limit <= 0:
        return None
    if len(original) <= limit * 2**20:
        return original
    emit(notice("picture_outside", mb=len(original) / 2**20, limit=limit))
    return None


def result_stem(output: Path | None, settings: ResolvedSettings, config: StudioConfig) -> Path:
    """The result's path without suffix: --output as a file or a folder, else a name in the output folder.

    A name made here is free. Raises InputError where a file of the name that was asked for stands already, or where no
    file system takes it; StudioError where nothing can be written there. Nothing is computed before that is known.
    """
    folder = config.output_dir if output is None else resolved(output)
    if output is None or os.path.isdir(folder):
        name = result_name(settings.prompt, settings.seed, time.time())
        names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
        stem = next(folder / name for name in names if not _taken(folder / name))
    else:
        stem = folder.with_suffix("") if folder.suffix.lower() in (".mp4", ".png") else folder
        if taken := _taken(stem):
            raise InputError("output_exists", file=taken)
    _check_name(stem)
    check_place(stem.parent, settings)
    return stem


def _check_name(stem: Path) -> None:
    """Raise InputError unless every file of the result can have such a name, sidecars and unfinished ones included."""
    longest = max(map(len, RESULT_SUFFIXES)) + len(UNFINISHED)
    name, path = len(os.fsencode(stem.name)), len(os.fsencode(stem))
    if (over := max(name + longest - NAME_BYTES, path + longest - PATH_BYTES)) > 0:
        raise InputError("output_long", file=stem, over=over)
    if clean(str(stem), PATH_BYTES) != str(stem):
        raise InputError("output_odd", file=stem)


def _taken(stem: Path) -> Path | None:
    """A file that a result of this name would replace."""
    files = (stem.with_name(stem.name + suffix) for suffix in RESULT_SUFFIXES)
    return next((file for file in files if os.path.exists(file)), None)
