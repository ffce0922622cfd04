"""What processes left that were killed, or lost their power: removed once nobody can be at work on it any more.

Unfinished files of results, job folders whose submission was never acknowledged, unfinished copies in the caches.
"""

import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from studio.filenames import JOB_DIGITS, UNFINISHED, UNFINISHED_ENDING, unfinished_results
from studio.queue.clock import CLOCK, Clock
from studio.queue.job import JobState
from studio.queue.jobs import JobQueue
from studio.queue.trash import Trash

IN_FLIGHT_SECONDS = 600.0  # a younger file may be on its way in another process: a page, `generate`
KEPT_SECONDS = 30 * 86400.0  # of unfinished results whose maker is not known to be gone: `generate` writes to its own
_ENDING = re.compile(rf"-([0-9a-f]{{{JOB_DIGITS}}}){UNFINISHED_ENDING}")
_log = logging.getLogger(__name__)


def remove_leftovers(queue: JobQueue, output_dir: Path, cache: Path, clock: Clock = CLOCK) -> list[Path]:
    """Remove what nobody works on; returns it. Only for the owner of the queue, before it starts a worker.

    Raises StudioError where the queue cannot be read.
    """
    running = {job.id[:JOB_DIGITS] for job in queue.list([JobState.RUNNING])}
    ids = queue.ids() | {removed.id for removed in Trash(queue).list()}
    known = {id[:JOB_DIGITS] for id in ids} - running
    now = clock.now()
    of_jobs = [path for path in unfinished_results(output_dir) if _job_of(path) in known and not _in_work(path, now)]
    removed = [path for path in of_jobs if _remove(path)]
    removed += remove_abandoned(output_dir, clock)
    within = (
        (queue.folder, f"jobs/*/*{UNFINISHED}"),
        (queue.folder, f"trash/*{UNFINISHED}"),
        (cache, f"**/*{UNFINISHED}"),
    )
    unfinished = [path for folder, pattern in within for path in folder.glob(pattern)]
    removed += [path for path in unfinished if now - _changed(path) > IN_FLIGHT_SECONDS and _remove(path)]
    removed += [folder for folder in _half_submitted(queue, now) if _remove(folder)]
    for path in removed:
        _log.info("removed what was left: %s", path)
    return removed


def remove_abandoned(folder: Path, clock: Clock = CLOCK) -> list[Path]:
    """Remove unfinished results that nobody has touched for KEPT_SECONDS; returns them."""
    now = clock.now()
    return [path for path in unfinished_results(folder) if now - _changed(path) > KEPT_SECONDS and _remove(path)]


def _half_submitted(queue: JobQueue, now: float) -> Iterator[Path]:
    """Folders of jobs that are in no row, and were never worked on."""
    known = queue.ids()
    for folder in queue.job_folders():
        if folder.name not in known and now - _changed(folder) > IN_FLIGHT_SECONDS and queue.was_never_run(folder):
            yield folder


def _job_of(path: Path) -> str:
    found = _ENDING.search(path.name)
    return found[1] if found else ""


def _in_work(path: Path, now: float) -> bool:
    """Whether the process that the file names may still write to it. Its id alone proves nothing: ids come again."""
    found = _ENDING.search(path.name)
    writer = found[2] if found else None
    return writer is not None and now - _changed(path) <= IN_FLIGHT_SECONDS and psutil.pid_exists(int(writer))


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return float("inf")  # gone


def _remove(path: Path) -> bool:
    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        return True
    return False
