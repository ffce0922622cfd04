"""What the queue and its results take on disk, and what of it is kept within limits: latents and first images."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from studio import filenames
from studio.embedded import carried_picture
from studio.queue.job import ENDED, Job, JobState
from studio.queue.jobs import JobQueue

LATENTS_BESIDE = ".latents.safetensors"
KINDS = ("videos", "originals", "latents", "trash")


@dataclass(frozen=True)
class Use:
    """Bytes. videos: results with their pictures; originals: first images as they were uploaded, outside videos."""

    videos: int = 0
    originals: int = 0
    latents: int = 0
    trash: int = 0


def disk_use(queue: JobQueue, folder: Path) -> Use:
    """Of a queue and of the folder of its results; names and sizes alone are read."""
    sizes = dict.fromkeys(KINDS, 0)
    for path, size in _files(folder, 1):
        sizes["latents" if path.endswith(LATENTS_BESIDE) else "videos"] += size
    for path, size in _files(queue.folder / "jobs", 1):
        name = os.path.basename(path)
        if name == filenames.LATENTS:
            sizes["latents"] += size
        elif filenames.PICTURE_NAME.fullmatch(name):
            sizes["originals"] += size
    sizes["trash"] = sum(size for _, size in _files(queue.folder / "trash", 9))
    return Use(**sizes)


def keep_within(queue: JobQueue, latents_bytes: float, originals_bytes: float) -> list[Path]:
    """Remove the oldest beyond each limit; returns what was removed.

    Latents go of jobs that ended, those of whole videos first; a stopped one without them begins anew. First images go
    of finished jobs alone, and of those whose video carries them: from there they are taken again.
    """
    ended = queue.list(ENDED)
    whole_last = sorted(ended, key=lambda job: job.is_whole)
    latents = [job.folder / filenames.LATENTS for job in whole_last]
    removed = _remove_beyond(latents, latents_bytes)
    originals = [Path(job.settings.first_image) for job in ended if job.settings.first_image is not None]
    known = {job.folder.name: job for job in ended}
    safe = [path for path in originals if _carries(known[path.parent.name])]
    others = sum(_size(path) for path in originals) - sum(_size(path) for path in safe)
    return removed + _remove_beyond(safe, originals_bytes - others)


def _carries(job: Job) -> bool:
    path = job.result_path if job.state == JobState.FINISHED else None
    return path is not None and carried_picture(path, 2**30) is not None


def _remove_beyond(newest_first: list[Path], limit: float) -> list[Path]:
    size, removed = 0, []
    for path in newest_first:
        size += _size(path)
        if size > limit and path.is_file():
            with suppress(OSError):
                path.unlink()
                removed.append(path)
    return removed


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0


def _files(folder: Path | str, depth: int) -> Iterator[tuple[str, int]]:
    """Path and size of the files in a folder and in those below it, hidden folders apart."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                with suppress(OSError):
                    if entry.is_file(follow_symlinks=False):
                        yield entry.path, entry.stat(follow_symlinks=False).st_size
                    elif depth and entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                        yield from _files(entry.path, depth - 1)
    except OSError:
        return
