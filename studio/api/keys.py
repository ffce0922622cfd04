"""API keys: made and revoked on the command line, known to the running page without a restart.

The file holds the SHA-256 of each key, never the key. A key is 32 random bytes, so that nothing slower is needed: there
is no list of likely ones to try.
"""

import hashlib
import json
import logging
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from studio.errors import InputError, StudioError
from studio.filenames import write_whole
from studio.queue.locks import FileLock
from studio.service.gate import Key

KEYS_FILE = "keys.json"  # inside the queue's folder
BEGINNING = "svs_"  # of every key, so that one is recognised where it should not lie
NAME = re.compile(r"[\w.-]{1,64}")
HIGHEST_RATE = 100_000
_log = logging.getLogger(__name__)


class Scope(StrEnum):
    """What a key opens."""

    READ = "read"  # look at videos and fetch them
    WRITE = "write"  # also make, stop, resume and delete them


SCOPES = {Scope.READ: frozenset({"read"}), Scope.WRITE: frozenset({"read", "write"})}


@dataclass(frozen=True)
class Entry:
    """A key as it is stored. rate: requests a minute; created: Unix seconds; sha256: of the key, in hexadecimal."""

    name: str
    scope: str
    rate: int
    created: float
    sha256: str


@dataclass
class _Allowance:
    """Requests that a key has left at the time `at` (of the clock)."""

    left: float
    at: float


class Keys:
    """The keys in a file. Every method may be called from any thread, and the file changed by any process."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock, self._lock = path, clock, threading.Lock()
        self._found: tuple[int, int, int] | None = None  # what says that the file is still the one that was read
        self._known: Mapping[str, Entry] = {}
        self._allowances: dict[str, _Allowance] = {}

    def check(self, text: str) -> Key | None:
        """The key as the gate knows it, a request of it counted; None for an unknown one."""
        with self._lock:
            self._refresh()
            entry = self._known.get(_digest(text))
            return Key(entry.name, SCOPES[Scope(entry.scope)], self._wait(entry)) if entry else None

    def entries(self) -> list[Entry]:
        """All keys, oldest first. Raises StudioError where their file cannot be read."""
        try:
            return _read(self._path)
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            reason = str(error) or type(error).__name__
            raise StudioError("keys_unreadable", file=str(self._path), reason=reason) from None

    def new(self, name: str, scope: Scope, rate: int) -> str:
        """Make a key and store its hash; what is returned is nowhere else. Raises InputError or StudioError."""
        if not NAME.fullmatch(name):
            raise InputError("key_name", value=name)
        if not 1 <= rate <= HIGHEST_RATE:
            raise InputError("number_range", field="rate", value=rate, low=1, high=HIGHEST_RATE)
        text = BEGINNING + secrets.token_urlsafe(32)
        with FileLock(self._path.with_suffix(".lock"), "changing the API keys"):
            entries = self.entries()
            if name in (entry.name for entry in entries):
                raise InputError("key_exists", name=name)
            self._write([*entries, Entry(name, scope.value, rate, time.time(), _digest(text))])
        return text

    def revoke(self, name: str) -> None:
        """Remove a key; it opens nothing from now on. Raises InputError where there is none of that name."""
        with FileLock(self._path.with_suffix(".lock"), "changing the API keys"):
            entries = self.entries()
            kept = [entry for entry in entries if entry.name != name]
            if len(kept) == len(entries):
                raise InputError("key_absent", name=name, known=", ".join(entry.name for entry in entries) or "-")
            self._write(kept)

    def _refresh(self) -> None:
        """Read the file again where it changed; one that cannot be read knows no key."""
        try:
            now = self._path.stat()
            found = (now.st_mtime_ns, now.st_ino, now.st_size)
        except OSError:
            found = None
        if found == self._found:
            return
        try:
            self._known = {entry.sha256: entry for entry in self.entries()}
        except StudioError as error:
            _log.error("%s", error)
            self._known = {}
        self._found = found
        self._allowances = {sha256: left for sha256, left in self._allowances.items() if sha256 in self._known}

    def _wait(self, entry: Entry) -> float:
        """Count a request: 0.0 where it may pass, else the seconds until one may. Unused ones are kept for a minute."""
        now = self._clock()
        allowance = self._allowances.setdefault(entry.sha256, _Allowance(entry.rate, now))
        allowance.left = min(allowance.left + (now - allowance.at) * entry.rate / 60, entry.rate)
        allowance.at = now
        if allowance.left < 1:
            return (1 - allowance.left) * 60 / entry.rate
        allowance.left -= 1
        return 0.0

    def _write(self, entries: list[Entry]) -> None:
        data = {"keys": [asdict(entry) for entry in entries]}
        try:
            write_whole(self._path, json.dumps(data, indent=1).encode())
            self._path.chmod(0o600)
        except OSError as error:
            raise StudioError("write_failed", file=str(self._path), reason=error.strerror or str(error)) from None


def _read(path: Path) -> list[Entry]:
    """The entries of a file, none where there is no file. Raises OSError, ValueError, TypeError, KeyError."""
    if not path.exists():
        return []
    entries = [Entry(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))["keys"]]
    for entry in entries:
        texts = isinstance(entry.name, str) and isinstance(entry.sha256, str) and isinstance(entry.created, float)
        if not (texts and isinstance(entry.rate, int) and 1 <= entry.rate <= HIGHEST_RATE and Scope(entry.scope)):
            raise ValueError(f"the entry of {entry.name} is none")
    return entries


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
