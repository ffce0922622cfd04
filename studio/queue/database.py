"""An SQLite file that survives what happens to files: many processes, kill -9, a full disk, damage.

Write-ahead log, so that readers never wait; one connection per thread. A damaged file, or one of another version, is
set aside under a dated name and a new one is made by the owner of the data (`create`).
"""

import logging
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
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

_log = logging.getLogger(__name__)
Result = TypeVar("Result")


class Database:
    """`create(connection)` makes the tables and fills them with what is known; `version` changes with the tables."""

    def __init__(self, path: Path, version: int, create: Callable[[sqlite3.Connection], None]) -> None:
        self.path, self._version, self._create = path, version, create
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
        """Leave a sound file at `path`. One process at a time; a new file appears there complete."""
        with FileLock(self.path.with_suffix(".lock"), "opening the queue"):
            if self.path.exists() and self._is_sound():
                return
            self._set_aside()
            fresh = self.path.with_suffix(".new")
            fresh.unlink(missing_ok=True)
            db = _connect(fresh)
            try:
                db.execute("BEGIN")
                with db:
                    self._create(db)
                    db.execute(f"PRAGMA user_version = {self._version}")
                db.execute("PRAGMA journal_mode = WAL")
            finally:
                db.close()
            fresh.replace(self.path)

    def _is_sound(self) -> bool:
        db = _connect(self.path)
        try:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            return version == self._version and db.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok"
        except sqlite3.DatabaseError as error:
            if _code(error) in DAMAGED:
                return False
            raise
        finally:
            db.close()

    def _set_aside(self) -> None:
        """Keep what is left of the old file under a dated name; its log must never meet the new file."""
        kept = f"{self.path.name}.{time.strftime('%Y%m%d-%H%M%S')}.{time.time_ns() % 1000:03d}"
        for suffix in ("", "-wal", "-shm"):
            part = self.path.with_name(self.path.name + suffix)
            if part.exists():
                part.replace(part.with_name(kept + suffix))
                _log.warning("%s cannot be used (damage, or another version): kept as %s", part, kept + suffix)

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
