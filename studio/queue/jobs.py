"""The queue on disk: what was asked for, how far it is, how it ended. Any process may open it.

folder/queue.sqlite holds one row per job, into which events are folded. folder/jobs/<id>/ is the job's own: the
picture as it was uploaded, previews, latents, and job.json, a copy of the row from which a lost database is made
again. An id is an opaque token: ids from outside are looked up, never made into a path. Tables: schema.py.
"""

import json
import logging
import re
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from studio import filenames
from studio.errors import InputError, StudioError
from studio.events import Event, Failed, Finished, Notice, PhaseStarted, Preview, Progress
from studio.media import read_image
from studio.queue import schema
from studio.queue.clock import CLOCK, Clock
from studio.queue.database import Database, Restore, unwritable
from studio.queue.job import RESUMABLE, Job, JobKind, JobState, Request, job_of_row
from studio.queue.locks import OwnerLock
from studio.settings import ResolvedSettings

ID = re.compile(r"[0-9a-f]{16}")
NEWEST_FIRST = "ORDER BY created DESC, number DESC"
FIRST_TO_RUN = "ORDER BY position, number"
CANCEL = """
    request = CASE state WHEN 'running' THEN 'cancel' ELSE '' END,
    ended = CASE state WHEN 'queued' THEN ? ELSE ended END,
    state = CASE state WHEN 'queued' THEN 'cancelled' ELSE state END
"""
Rows = list[sqlite3.Row]  # JobQueue.list hides the builtin from the annotations after it
Ids = list[str]
Times = list[float]
Work = Callable[[sqlite3.Connection], Rows]
_log = logging.getLogger(__name__)


class JobQueue:
    """Jobs in `folder`, worked oldest first. Every method may be called from any thread of any process.

    All raise StudioError where the folder takes no writes or is locked by a stuck process. Ids are arbitrary text:
    an unknown one is no error, the call does nothing and says so.
    """

    def __init__(self, folder: Path, *, limit_megapixels: float | None = None, clock: Clock = CLOCK) -> None:
        self.folder, self._clock = Path(folder).resolve(), clock
        self._limits = () if limit_megapixels is None else (limit_megapixels,)
        owner = OwnerLock(self.folder, "bringing the queue up to date")
        self._db = Database(self.folder / "queue.sqlite", schema.MIGRATIONS, self._restored, owner, schema.CHECKSUMS)

    def submit(self, settings: ResolvedSettings, image: bytes | None = None) -> Job:
        """Queue resolved settings with the picture they start from, as its file was uploaded.

        Raises InputError for a picture that cannot be used, or where settings name one and none is given: a path in
        settings is never opened.
        """
        if settings.first_image is not None and image is None:
            raise InputError("image_needed", model=settings.model)
        if image is not None:
            read_image(image, *self._limits)
        own = {"first_image": filenames.FIRST_IMAGE if image is not None else None}
        settings = ResolvedSettings.from_dict(asdict(settings) | own)  # what cannot be stored is refused here
        id = secrets.token_hex(8)
        folder = self._job_folder(id)

        def add(db: sqlite3.Connection) -> Rows:
            rows = schema.insert(db, _new_row(db, id, settings, self._clock.now()))
            self._write_copy(rows[0])
            return rows

        try:
            folder.mkdir(parents=True)
            if image is not None:
                (folder / filenames.FIRST_IMAGE).write_bytes(image)
            return self._job(self._changed(add)[0])
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise unwritable(self.folder, error.strerror or str(error)) from error
        except StudioError:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def get(self, id: str) -> Job | None:
        """The job, or None where there is none of that id."""
        rows = self._db.read("SELECT * FROM jobs WHERE id = ?", (_key(id),))
        return self._job(rows[0]) if rows else None

    def list(self, states: Iterable[JobState] | None = None, limit: int | None = None, offset: int = 0) -> list[Job]:
        """A page of the jobs in these states (None: in any), newest first.

        limit: how many at most (None: all); offset: how many newer ones come before the page.
        """
        chosen, values = _newest("number", states, limit, offset)
        rows = self._db.read(f"SELECT * FROM jobs WHERE number IN ({chosen}) {NEWEST_FIRST}", values)
        return [self._job(row) for row in rows]

    def count(self, states: Iterable[JobState] | None = None) -> int:
        """How many jobs are in these states (None: in any)."""
        where, values = _in_states(states)
        return self._db.read(f"SELECT count(*) FROM jobs {where}", values)[0][0]

    def times(self, states: Iterable[JobState] | None = None, limit: int | None = None) -> Times:
        """When the newest `limit` jobs in these states were submitted, newest first, in Unix seconds."""
        return [row[0] for row in self._db.read(*_newest("created", states, limit))]

    def ahead(self, id: str) -> int:
        """How many jobs run or wait before this queued one; 0 for any other."""
        before = "other.state = 'queued' AND (other.position, other.number) < (mine.position, mine.number)"
        return self._db.read(
            f"SELECT count(*) FROM jobs AS mine JOIN jobs AS other ON other.state = 'running' OR ({before}) "
            "WHERE mine.id = ? AND mine.state = 'queued'",
            (_key(id),),
        )[0][0]

    def result_paths(self) -> set[str]:
        """Where the results of all jobs lie."""
        rows = self._db.read("SELECT json_extract(result, '$.path') FROM jobs WHERE result IS NOT NULL")
        return {row[0] for row in rows}

    def version(self) -> int:
        """A number that grows whenever anything changes, in whatever process."""
        return self._db.read("SELECT version FROM clock")[0][0]

    def cancel(self, id: str) -> bool:
        """End a queued job now, a running one as soon as its worker looks (cancel_requested)."""
        return bool(self._turn(CANCEL, "id = ? AND state IN ('queued', 'running')", self._clock.now(), _key(id)))

    def cancel_requested(self, id: str) -> bool:
        """Whether the running job should stop. Costs microseconds and waits for nobody: poll it per block."""
        rows = self._db.read("SELECT request FROM jobs WHERE id = ?", (_key(id),))
        return bool(rows) and rows[0][0] == Request.CANCEL

    def resume(self, id: str) -> bool:
        """Queue a failed, stopped or interrupted job again, at its old place; it goes on from its latents.

        Only a person does this: nothing in the program restarts a job by itself.
        """
        marks = ", ".join("?" * len(RESUMABLE))
        return bool(
            self._turn(
                "state = 'queued', ended = NULL, phase = '', progress = NULL, notices = '[]', error = NULL",
                f"id = ? AND state IN ({marks})",
                _key(id),
                *RESUMABLE,
            )
        )

    def delete(self, id: str) -> bool:
        """Remove the job, its folder and its result's files. Raises StudioError while it runs."""

        def remove(db: sqlite3.Connection) -> Rows:
            gone = db.execute("DELETE FROM jobs WHERE id = ? RETURNING *", (_key(id),)).fetchall()
            for job in map(self._job, gone):
                if job.state == JobState.RUNNING:
                    raise StudioError("job_running")
                if job.result:
                    filenames.remove_result(Path(job.result.path))
                if job.folder.exists():
                    shutil.rmtree(job.folder)
            return gone  # only now is the row gone: whatever goes wrong before leaves a job that can be deleted

        return bool(self._changed(remove))

    def claim(self, worker: str = "") -> Job | None:
        """Take the first job to run: RUNNING now, for the caller (by the name `worker`) and nobody else."""
        if not self._db.read("SELECT 1 FROM jobs WHERE state = 'queued' LIMIT 1"):
            return None
        rows = self._turn(
            "state = 'running', started = ?, ended = NULL, attempts = attempts + 1, worker = ?",
            f"number = (SELECT number FROM jobs WHERE state = 'queued' {FIRST_TO_RUN} LIMIT 1)",
            self._clock.now(),
            worker,
        )
        return self._job(rows[0]) if rows else None

    def record(self, id: str, event: Event) -> bool:
        """Fold an event of a running job into its row; events of a job that does not run change nothing."""
        match event:
            case PhaseStarted(phase):
                return self._report(id, "phase = ?, progress = NULL", phase)
            case Progress(phase):
                return self._report(id, "phase = ?, progress = ?", phase, _json(event))
            case Preview(_, path):
                return self._report(id, "preview = ?", Path(path).name)
            case Notice():
                return self._report(id, "notices = json_insert(notices, '$[#]', json(?))", _json(event))
            case Finished():
                return self.finish(id, JobState.FINISHED, result=event)
            case Failed():
                return self.finish(id, JobState.FAILED, error=event)

    def finish(self, id: str, state: JobState, *, result: Finished | None = None, error: Failed | None = None) -> bool:
        """End a running job in `state`. A finished one needs its latents no more."""
        ended = self._turn(
            "state = ?, ended = ?, request = '', progress = NULL, result = ?, error = ?",
            "id = ? AND state = 'running'",
            *(state, self._clock.now(), _json(result), _json(error), _key(id)),
        )
        if ended and state == JobState.FINISHED:
            (self._job_folder(id) / filenames.LATENTS).unlink(missing_ok=True)
        return bool(ended)

    def interrupt_running(self) -> Ids:
        """Mark what runs as interrupted, for when its worker is surely gone. Returns the ids."""
        rows = self._turn(
            "state = 'interrupted', ended = ?, request = '', progress = NULL", "state = 'running'", self._clock.now()
        )
        return [row["id"] for row in rows]

    def close(self) -> None:
        """Close this thread's connection."""
        self._db.close()

    def _report(self, id: str, change: str, *values: Any) -> bool:
        """Progress: matters while the job runs only, so it costs no disk flush."""
        update = self._updating(change, "id = ? AND state = 'running'", *values, _key(id))
        return bool(self._changed(update, durable=False))

    def _turn(self, change: str, condition: str, *values: Any) -> Rows:
        """A change of state of the rows that fit: flushed to the disk, with a copy in each job's folder."""
        update = self._updating(change, condition, *values)

        def work(db: sqlite3.Connection) -> Rows:
            rows = update(db)
            for row in rows:
                try:
                    self._write_copy(row)
                except OSError as error:  # the copy is for bad days; a full disk must not keep a job from ending
                    _log.warning("%s of job %s could not be written: %s", schema.ROW_FILE, row["id"], error)
            return rows

        return self._changed(work)

    def _updating(self, change: str, condition: str, *values: Any) -> Work:
        sql = f"UPDATE jobs SET {change}, version = {schema.NEXT_CHANGE} WHERE {condition} RETURNING *"
        return lambda db: db.execute(sql, values).fetchall()

    def _changed(self, work: Work, durable: bool = True) -> Rows:
        """Run `work` in a transaction; the clock moves on where it returns rows."""

        def transaction(db: sqlite3.Connection) -> Rows:
            rows = work(db)
            if rows:
                db.execute("UPDATE clock SET version = version + 1")
            return rows

        return self._db.change(transaction, durable=durable)

    def _restored(self) -> Restore:
        """For a lost database: every job that has a folder is in the new one."""
        rows = schema.read_copies(self.folder / "jobs")

        def restore(db: sqlite3.Connection, version: int) -> None:
            schema.restore(db, rows.get(version, ()))
            if version == schema.VERSION:
                self._remove_unreadable(db)

        return restore

    def _remove_unreadable(self, db: sqlite3.Connection) -> None:
        for row in db.execute("SELECT * FROM jobs").fetchall():
            try:
                if not _key(row["id"]):
                    raise ValueError("its id is none")
                self._job(row)
            except (ValueError, TypeError, KeyError, RecursionError, StudioError) as error:
                _log.warning("job %s cannot be read from its folder: %s", row["id"], error)
                db.execute("DELETE FROM jobs WHERE number = ?", (row["number"],))

    def _write_copy(self, row: schema.Row) -> None:
        filenames.write_whole(self._job_folder(row["id"]) / schema.ROW_FILE, schema.copied(row))

    def _job_folder(self, id: str) -> Path:
        return self.folder / "jobs" / id

    def _job(self, row: schema.Row) -> Job:
        return job_of_row(row, self._job_folder(row["id"]))


def _new_row(db: sqlite3.Connection, id: str, settings: ResolvedSettings, now: float) -> dict[str, Any]:
    """A job that waits behind all others, also where the clock was set back."""
    last = db.execute("SELECT max(position) FROM jobs WHERE state = 'queued'").fetchone()[0]
    made = {"id": id, "kind": JobKind.VIDEO, "state": JobState.QUEUED, "settings": settings.to_json(), "created": now}
    return made | {"position": max(now, last or 0.0), "phase": "", "notices": "[]", "attempts": 0}


def _newest(
    column: str, states: Iterable[JobState] | None, limit: int | None = None, offset: int = 0
) -> tuple[str, tuple[JobState | int, ...]]:
    """A query, with its values, for one column of the newest jobs; an index answers it without reading the rows."""
    where, values = _in_states(states)
    page = (-1 if limit is None else limit, offset)  # -1 means no limit in SQLite
    return f"SELECT {column} FROM jobs {where} {NEWEST_FIRST} LIMIT ? OFFSET ?", (*values, *page)


def _in_states(states: Iterable[JobState] | None) -> tuple[str, tuple[JobState, ...]]:
    wanted = () if states is None else tuple(states)
    return "" if states is None else f"WHERE state IN ({', '.join('?' * len(wanted))})", wanted


def _key(id: object) -> str:
    """The id itself where it can be one, else "", which no job has: arbitrary text goes no further."""
    return id if isinstance(id, str) and ID.fullmatch(id) else ""


def _json(event: Any) -> str | None:
    return None if event is None else json.dumps(asdict(event), default=str)
