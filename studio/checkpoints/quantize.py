"""int8 weights beside a model's own: made once, found again, and refused when the model has changed since.

They lie in MODEL_FOLDER/int8, a checkpoint folder of the public layout with the networks that are worth it: the two
large ones of a model that makes video, the language model of one that speaks.
"""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from models.checkpoint import CheckpointError
from models.int8_files import Int8Files, int8_record_of, read_int8_record
from models.layout import LAYOUT
from studio.errors import InputError, StudioError
from studio.units import GB

FOLDER = "int8"
NETWORKS = ("transformer", "step_llm")
SPEAKING = ("step_audio_llm",)
SPARE_BYTES = 64 << 20  # index files, and what a file system takes for itself


def quantize(folders: Mapping[str, Path], report: Callable[[str], None]) -> None:
    """Write the int8 files of a model; `folders`: component -> its checkpoint folder. `report` hears of progress.

    What an earlier call finished is kept. Raises InputError for a full disk, StudioError for files that cannot be read
    or written.
    """
    for component in _networks(folders):
        folder = folders[component]
        target = folder / FOLDER
        try:
            files = Int8Files(folder, component, target)
            if files.is_current:
                report(f"{component}: {target} is up to date")
                continue
            _check_space(target, files)
            _write(component, files, report)
        except CheckpointError as error:
            raise StudioError("checkpoint", reason=str(error)) from None
        except OSError as error:
            raise StudioError("write_failed", file=target, reason=error.strerror or str(error)) from None


def int8_folders(folders: Mapping[str, Path]) -> dict[str, Path]:
    """The folders with those of the int8 networks in their places. InputError where these are absent or out of date."""
    return {**folders, **{component: _int8_folder(folders[component], component) for component in _networks(folders)}}


def _networks(folders: Mapping[str, Path]) -> tuple[str, ...]:
    return SPEAKING if SPEAKING[0] in folders else NETWORKS


def _int8_folder(folder: Path, component: str) -> Path:
    target = folder / FOLDER
    record = read_int8_record(target / LAYOUT[component].folder)
    if record is None:
        raise InputError("int8_missing", folder=folder, part=component)
    try:
        if record != int8_record_of(folder, component):
            raise InputError("int8_outdated", folder=folder, part=component)
    except CheckpointError as error:
        raise StudioError("checkpoint", reason=str(error)) from None
    return target


def _check_space(target: Path, files: Int8Files) -> None:
    target.mkdir(parents=True, exist_ok=True)
    free, needed = shutil.disk_usage(target).free, files.nbytes - files.nbytes_done + SPARE_BYTES
    if free < needed:
        raise InputError("disk_full", folder=target, free_gb=free / GB, need_gb=needed / GB)


def _write(component: str, files: Int8Files, report: Callable[[str], None]) -> None:
    size = files.nbytes / GB

    def progress(done: int, total: int) -> None:
        report(f"{component}: {done} of {total} files, {size:.2f} GB in all")

    files.write(progress)
