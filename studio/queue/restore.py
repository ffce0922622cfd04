"""A lost database is made again from the jobs' folders."""

import logging
import sqlite3
from pathlib import Path

from studio.errors import StudioError
from studio.queue import schema
from studio.queue.clock import Clock
from studio.queue.database import Restore
from studio.queue.job import job_of_row, key
from studio.queue.locks import OwnerLock

INTERRUPT = "state = 'interrupted', ended = ?, request = '', progress = NULL"
_log = logging.getLogger(__name__)


def restore(jobs_folder: Path, owner: OwnerLock, clock: Clock) -> Restore:
    """Every job that has a folder is in the new database. Raises StudioError as schema.read_copies.

    A copy may be older than the job was: after a power cut, one that had ended may say that it waits. So nothing runs
    by itself: what waited or ran comes back as interrupted, unless somebody works on the queue just now.
    """
    rows = schema.read_copies(jobs_folder)

    def fill(db: sqlite3.Connection, version: int) -> None:
        schema.restore(db, rows.get(version, ()))
        if version == schema.VERSION:
            _remove_unreadable(db, jobs_folder)
            if owner.acquire():
                owner.release()
                db.execute(f"UPDATE jobs SET {INTERRUPT} WHERE state IN ('queued', 'running')", (clock.now(),))

    return fill


def _remove_unreadable(db: sqlite3.Connection, jobs_folder: Path) -> None:
    for row in db.execute("SELECT * FROM jobs").fetchall():
        try:
            if not key(row["id"]):
                raise ValueError("its id is none")
            job_of_row(row, jobs_folder / row["id"])
        except (ValueError, TypeError, KeyError, RecursionError, StudioError) as error:
            _log.warning("job %s cannot be read from its folder: %s", row["id"], error)
            db.execute("DELETE FROM jobs WHERE number = ?", (row["number"],))
