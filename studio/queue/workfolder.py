"""Where `generate` keeps what a stopped run goes on from: one folder per request, locked while a process works in it.

Folders that nobody came back to are removed: KEPT_DAYS after their last change, and only by whoever holds their lock,
so never under a process that works in them, however long it takes.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from studio.queue.clock import CLOCK, Clock
from studio.queue.locks import FileLock

KEPT_DAYS = 30  # after the last change; `generate` says so when it is stopped
DAY = 24 * 3600
SUFFIX = ".lock"


class FolderLock(FileLock):
    """Who works in a work folder. The lock lies beside it and goes with it, unlike other locks."""

    def __init__(self, folder: Path, clock: Clock = CLOCK) -> None:
        self._lock = folder.with_name(folder.name + SUFFIX)
        super().__init__(self._lock, "generate on the command line", clock)

    def acquire(self) -> bool:
        """As FileLock.acquire. Another process may remove the file between its opening and its locking: then anew."""
        while super().acquire():
            if self._is_there():
                return True
            self.release()
        return False

    def remove(self) -> None:
        """Release the lock and remove its file; only with the lock held, so that no two files are locked."""
        self._lock.unlink(missing_ok=True)
        self.release()

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self.fileno()), os.stat(self._lock))
        except FileNotFoundError:
            return False


@contextmanager
def work_folder(
    folder: Path, on_wait: Callable[[str], None], cancelled: Callable[[], bool], clock: Clock = CLOCK
) -> Iterator[None]:
    """Hold the folder, there or not; where another process works in it (the same command, twice), wait for it.

    Raises Cancelled while it waits.
    """
    lock = FolderLock(folder, clock)
    lock.wait(on_wait, cancelled)
    try:
        yield
    finally:
        lock.remove()


def remove_leftovers(root: Path, clock: Clock = CLOCK) -> list[str]:
    """Remove the work folders in `root` that are due; their names. One that cannot be removed stays."""
    due, removed = clock.now() - KEPT_DAYS * DAY, []
    for folder in sorted({path.with_name(path.name.removesuffix(SUFFIX)) for path in _entries(root)}):
        lock = FolderLock(folder)
        if _changed(folder) >= due or not lock.acquire():
            continue
        try:
            if folder.is_dir() and _changed(folder) < due:  # not worked in before the lock was ours
                shutil.rmtree(folder, ignore_errors=True)
                removed += [] if folder.exists() else [folder.name]
        finally:
            lock.remove()  # also one whose process was killed
    return removed


def _changed(folder: Path) -> float:
    """When the folder or something in it changed last; 0 where it is not there."""
    times = [0.0]
    for path in (folder, *_entries(folder)):
        with suppress(OSError):  # absent, or gone just now
            times.append(path.stat().st_mtime)
    return max(times)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
