"""Locks that die with their process: one owner per queue, one user per device.

flock belongs to an open file: the kernel releases it when the last process that holds the file open ends, however
it ends. The file's text says who holds it; the file itself stays, because removing it would let two lock two files.
"""

import fcntl
import os
import re
import stat
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from studio.errors import Cancelled, StudioError
from studio.queue.clock import CLOCK, Clock

POLL_SECONDS = 0.1


class FileLock:
    """An exclusive lock on `path`. `purpose` is what others read while they wait, e.g. "the page on port 7860"."""

    def __init__(self, path: Path, purpose: str = "", clock: Clock = CLOCK) -> None:
        self._path, self._purpose, self._clock, self._file = path, purpose, clock, -1

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._file >= 0

    def fileno(self) -> int:
        """The descriptor that carries the lock: a child process that inherits it holds the lock too."""
        return self._file

    def acquire(self) -> bool:
        """Try once; True when the lock is held now. Raises StudioError when its file cannot be made."""
        if self.held:
            return True
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StudioError("write_failed", file=str(self._path), reason=error.strerror or str(error)) from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        self._file = file
        self._sign()
        return True

    def wait(self, on_wait: Callable[[str], None] | None = None, cancelled: Callable[[], bool] = lambda: False) -> None:
        """Acquire, however long it takes. `on_wait` is given who holds the lock, again whenever that changes.

        Raises Cancelled as soon as `cancelled()` is true.
        """
        reported = None
        while not self.acquire():
            if cancelled():
                raise Cancelled
            if on_wait and (holder := self.holder()) != reported:
                on_wait(holder)
                reported = holder
            self._clock.sleep(POLL_SECONDS)

    def release(self) -> None:
        """Release the lock; nothing happens when it is not held."""
        if self.held:
            os.close(self._file)
            self._file = -1

    def holder(self) -> str:
        """Who holds the lock, as its purpose says; "" when its file is empty."""
        try:
            return self._path.read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return ""

    def _sign(self) -> None:
        text = f"{self._purpose or 'another process'} (process {os.getpid()})"
        os.ftruncate(self._file, 0)
        try:
            os.pwrite(self._file, text.encode(), 0)
        except OSError:  # a full disk: the lock holds without its signature
            return

    def __enter__(self) -> "FileLock":
        self.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class OwnerLock(FileLock):
    """Who works a queue: the page that holds it, and the worker process it started."""

    def __init__(self, folder: Path, purpose: str = "the page") -> None:
        super().__init__(folder / "owner.lock", purpose)


class DeviceLock(FileLock):
    """Who computes on a device ("cuda:0", "cpu"): one process of this user at a time."""

    def __init__(self, folder: Path, device: str, purpose: str = "", clock: Clock = CLOCK) -> None:
        super().__init__(folder / f"device-{re.sub(r'[^A-Za-z0-9]+', '-', device)}.lock", purpose, clock)


class DeviceLocks:
    """Several devices as one: all of them are held, or none. They are taken in the order given, which must be the same
    for everybody, so that no two wait for each other."""

    def __init__(self, locks: Sequence[DeviceLock]) -> None:
        self._locks = tuple(locks)

    @property
    def held(self) -> bool:
        """Whether all are held."""
        return all(lock.held for lock in self._locks)

    def acquire(self) -> bool:
        """Try once to hold all; where one is in use, none is held. Raises as FileLock.acquire."""
        if not all(lock.acquire() for lock in self._locks):
            self.release()
        return self.held

    def wait(self, on_wait: Callable[[str], None] | None = None, cancelled: Callable[[], bool] = lambda: False) -> None:
        """Hold all, however long that takes. Raises Cancelled, and holds none then."""
        try:
            for lock in self._locks:
                lock.wait(on_wait, cancelled)
        except Cancelled:
            self.release()
            raise

    def release(self) -> None:
        """Release all."""
        for lock in self._locks:
            lock.release()


def runtime_folder() -> Path:
    """This user's folder for device locks. Raises StudioError when another user made it.

    Not XDG_RUNTIME_DIR: a desktop session has it and a cron job has not, and the two must meet at one lock.
    """
    folder = Path(tempfile.gettempdir()) / f"step-video-studio-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise StudioError("write_failed", file=str(folder), reason=error.strerror or str(error)) from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise StudioError("write_failed", file=str(folder), reason="it belongs to another user")
    return folder
