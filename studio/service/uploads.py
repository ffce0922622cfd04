"""Uploaded files until a job owns them: one folder under one quota, from which the longest unused ones go first."""

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from studio.errors import InputError
from studio.filenames import write_whole

FORM_BYTES = 2**20  # what a form says around its file
LEAST_BYTES = 4096  # that a file takes on a disk, however small


@dataclass(frozen=True)
class _File:
    path: Path
    used: float  # Unix seconds
    size: int


class Uploads:
    """The folder of uploads. Whoever writes into it reserves the room first; whoever reads a file touches it.

    file_bytes: of one file at most, quota_bytes: of all together, running uploads included. Safe from any thread.
    """

    def __init__(self, folder: Path, file_bytes: int, quota_bytes: int, clock: Callable[[], float] = time.time) -> None:
        self.folder, self.file_bytes = Path(folder).resolve(), file_bytes
        self._quota, self._clock, self._lock = max(quota_bytes, file_bytes + FORM_BYTES), clock, threading.Lock()
        self._running: list[tuple[int, float]] = []  # bytes and begin of each upload under way

    @property
    def request_limit(self) -> int:
        """Bytes of a request that uploads."""
        return self.file_bytes + FORM_BYTES

    def clear(self) -> None:
        """Remove everything, at the start: no page knows these files any more."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)

    def reserve(self, size: int) -> bool:
        """Make room for an upload that begins; false where others under way leave none."""
        with self._lock:
            taken = size + sum(other for other, _ in self._running)
            if taken > self._quota:
                return False
            since = min((begin for _, begin in self._running), default=self._clock())
            files = sorted(self._files(), key=lambda file: file.used)
            excess = sum(file.size for file in files) + taken - self._quota
            for file in files:
                if excess <= 0:
                    break
                if file.used < since:  # not one that is being written
                    self._remove(file.path)
                    excess -= file.size
            self._running.append((size, self._clock()))
            return True

    def release(self, size: int) -> None:
        """The upload of that size has ended: its file counts itself now."""
        with self._lock:
            self._running.remove(next(upload for upload in self._running if upload[0] == size))

    def contains(self, path: str) -> bool:
        """Whether a path that a client names lies in the folder; its file may have been dropped."""
        try:
            return Path(path).is_absolute() and Path(path).resolve().is_relative_to(self.folder)
        except (OSError, ValueError, RuntimeError):  # too long, with a null character, links in a circle
            return False

    def read(self, path: str) -> bytes:
        """An uploaded file that is used now. Raises InputError where it is none, or was dropped."""
        try:
            if self.contains(path):
                os.utime(path, (self._clock(),) * 2)
                return Path(path).read_bytes()
        except OSError:  # dropped meanwhile
            pass
        raise InputError("upload_gone")

    def keep(self, data: bytes, name: str) -> Path:
        """Store data of our own as if it had been uploaded: a form that is filled again needs its picture."""
        folder = self.folder / hashlib.sha256(data).hexdigest()
        self.reserve(len(data))
        self.release(len(data))
        write_whole(folder / name, data)
        return folder / name

    def _files(self) -> Iterator[_File]:
        for path in self.folder.rglob("*"):
            try:
                found = path.lstat()
            except OSError:  # removed meanwhile
                continue
            if not path.is_dir():
                yield _File(path, found.st_mtime, max(found.st_size, LEAST_BYTES))

    def _remove(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
            if path.parent != self.folder:
                path.parent.rmdir()
        except OSError:  # another file beside it
            return
