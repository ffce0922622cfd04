"""An SQLite file that survives what happens to files: many processes, kill -9, a full disk, damage.

Write-ahead log, so that readers never wait; one connection per thread. A file of an older version is migrated; a
damaged one is set aside under a dated name, and a new one is made from what the owner of the data knows elsewhere.
"""

import logging
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from studio.errors import StudioError
from studio.queue.locks import FileLock

BUSY_SECONDS = 15.0
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
UNWRITABLE = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
)
BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)

MOST_VERSIONS = 10_000  # a larger user_version was a checksum, in development before f100660: as good as damaged

Restore = Callable[[sqlite3.Connection, int], None]
_log = logging.getLogger(__name__)
Result = TypeVar("Result")


class Database:
    """A file whose tables are made by `migrations`: statements per version, from none to the last.

    `user_version` says how many of them a file has had (`checksums`: old files hold one of these instead). A file of
    an older version gets the rest of them, unless another process holds the lock `owner`: it works with the old tables.
    A newer file is refused and left as it is. `restored()` is called for a new file that takes the place of a lost one:
    it gives a function that, after each migration, adds what is known of the data in that version elsewhere.
    """

    def __init__(
        self,
        path: Path,
        migrations: Sequence[Sequence[str]],
        restored: Callable[[], Restore],
        owner: FileLock,
        checksums: Mapping[int, int],
    ) -> None:
        self.path, self._migrations, self._restored = path, migrations, restored
        self._owner, self._checksums = owner, checksums
        self._local = threading.local()
        self._retrying(self._prepare)

    def read(self, sql: str, values: tuple[Any, ...] = ()) -> list[sqlite3.Row]:
        """The rows of a query."""
        return self._retrying(lambda: self._connection().execute(sql, values).fetchall())

    def change(self, work: Callable[[sqlite3.Connection], Result], *, durable: bool = True) -> Result:
        """Run `work` in one transaction: all of it is done, or nothing when it raises.

        durable: outlives a power cut (one fsync); everything else outlives the process, however it ends.
        """

        def transaction() -> Result:
            db = self._connection()
            db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            db.execute("BEGIN IMMEDIATE")
            with db:  # commits, or rolls back when something is raised
                return work(db)

        return self._retrying(transaction)

    def close(self) -> None:
        """Close this thread's connection; the next use opens another."""
        db = getattr(self._local, "db", None)
        self._local.db = None
        if db is not None:
            db.close()

    def _retrying(self, use: Callable[[], Result]) -> Result:
        """`use()`; where the file turns out to be damaged, again on a new one. SQLite's errors become sentences."""
        try:
            try:
                return use()
            except sqlite3.DatabaseError as error:
                if _code(error) not in DAMAGED:
                    raise
                self.close()
                self._prepare()
                return use()
        except sqlite3.DatabaseError as error:
            raise self._explain(error) from error
        except OSError as error:
            raise unwritable(self.path.parent, error.strerror or str(error)) from error

    def _connection(self) -> sqlite3.Connection:
        """This thread's connection to the file that is at `path` now (another process may have replaced it)."""
        try:
            inode = os.stat(self.path).st_ino
        except FileNotFoundError:
            self._prepare()
            inode = os.stat(self.path).st_ino
        if getattr(self._local, "db", None) is None or self._local.inode != inode:
            self.close()
            self._local.db, self._local.inode = _connect(self.path), inode
        return self._local.db

    def _prepare(self) -> None:
        """Leave a sound file of this version at `path`. One process at a time; a new file appears there complete."""
        with FileLock(self.path.with_suffix(".lock"), "opening the queue"):
            version = self._found_version()
            if version == len(self._migrations):
                return
            if version is None or not self._migrated(version):
                self._set_aside()
                self._make_new()

    def _found_version(self) -> int | None:
        """How many migrations the file at `path` has had; None where there is none that can be used."""
        if not self.path.exists():
            return None
        db = _connect(self.path)
        try:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            version = self._checksums.get(version, version)
            if len(self._migrations) < version < MOST_VERSIONS:
                raise StudioError(
                    "queue_newer", folder=str(self.path.parent), found=version, known=len(self._migrations)
                )
            sound = db.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok"
            return version if sound and 0 < version < MOST_VERSIONS else None
        except sqlite3.DatabaseError as error:
            if _code(error) in DAMAGED:
                return None
            raise
        finally:
            db.close()

    def _migrated(self, version: int) -> bool:
        """Bring the file from `version` to the newest, wholly or not at all; False where it is not what it says.

        Raises StudioError where another process works with it: that one knows the old tables alone.
        """
        if not self._owner.acquire():
            raise StudioError("queue_older", folder=str(self.path.parent), holder=self._owner.holder() or "?")
        db = _connect(self.path)
        try:
            db.execute("BEGIN IMMEDIATE")
            with db:
                for number in range(version, len(self._migrations)):
                    self._migrate(db, number)
        except sqlite3.DatabaseError as error:
            if _code(error) in (*BUSY, *UNWRITABLE):
                raise
            _log.warning("%s cannot be brought from version %d on: %s", self.path, version, error)
            return False
        finally:
            db.close()
            self._owner.release()
        _log.info("%s is of version %d now, it was of %d", self.path, len(self._migrations), version)
        return True

    def _make_new(self) -> None:
        fresh = self.path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        restore = self._restored()
        db = _connect(fresh)
        try:
            db.execute("BEGIN")
            with db:
                for number in range(len(self._migrations)):
                    self._migrate(db, number)
                    restore(db, number + 1)
            db.execute("PRAGMA journal_mode = WAL")
        finally:
            db.close()
        fresh.replace(self.path)

    def _migrate(self, db: sqlite3.Connection, number: int) -> None:
        for statement in self._migrations[number]:
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {number + 1}")

    def _set_aside(self) -> None:
        """Keep what is left of the old file under a dated name; its log must never meet the new file."""
        kept = f"{self.path.name}.{time.strftime('%Y%m%d-%H%M%S')}.{time.time_ns() % 1000:03d}"
        for suffix in ("", "-wal", "-shm"):
            part = self.path.with_name(self.path.name + suffix)
            if part.exists():
                part.replace(part.with_name(kept + suffix))
                _log.warning("%s cannot be used: kept as %s", part, kept + suffix)

    def _explain(self, error: sqlite3.DatabaseError) -> Exception:
        code, folder = _code(error), self.path.parent
        if code in BUSY:
            return StudioError("queue_busy", folder=str(folder), seconds=BUSY_SECONDS)
        if code in UNWRITABLE or code in DAMAGED:
            return unwritable(folder, str(error))
        return error


def unwritable(folder: Path, reason: str) -> StudioError:
    """The error of a folder that takes no writes, with the space that is left there."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        free = 0
    return StudioError("queue_unwritable", folder=str(folder), reason=reason, free_gb=free / 2**30)


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    db.row_factory = sqlite3.Row
    return db


def _code(error: sqlite3.DatabaseError) -> int:
    """SQLite's primary result code (the lower byte); 0 for errors of the binding itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
