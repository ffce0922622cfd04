"""The queue on disk: what was asked for, how far it is, how it ended. Any process may open it.

folder/queue.sqlite holds one row per job, into which events are folded. folder/jobs/<id>/ is the job's own: the
picture as it was uploaded, previews, latents, and job.json, a copy of the row from which a lost database is made
again. An id is an opaque token: ids from outside are looked up, never made into a path.
"""

from __future__ import annotations  # JobQueue.list hides the builtin from the annotations after it

import json
import logging
import re
import secrets
import shutil
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from studio import filenames
from studio.errors import InputError, StudioError
from studio.events import Event, Failed, Finished, Notice, PhaseStarted, Preview, Progress
from studio.media import read_image
from studio.queue.database import Database, unwritable
from studio.settings import ResolvedSettings

ROW_FILE = "job.json"
ID = re.compile(r"[0-9a-f]{16}")
SCHEMA = """
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, state TEXT NOT NULL, settings TEXT NOT NULL,
    created REAL NOT NULL, started REAL, ended REAL, phase TEXT NOT NULL, progress TEXT, preview TEXT,
    notices TEXT NOT NULL, error TEXT, result TEXT, attempts INTEGER NOT NULL, cancel INTEGER NOT NULL,
    version INTEGER NOT NULL
);
CREATE INDEX jobs_by_state ON jobs (state, number);
CREATE TABLE clock (version INTEGER NOT NULL)
"""
NEXT_VERSION = "(SELECT version + 1 FROM clock)"
# What makes a job, in the table and in job.json alike.
COLUMNS = tuple(
    "id state settings created started ended phase progress preview notices error result attempts cancel".split()
)
# Changes with the tables and with every class stored in them: rows of another version are read from job.json.
STORED = (ResolvedSettings, Progress, Notice, Failed, Finished)
VERSION = zlib.crc32(repr((SCHEMA, [[field.name for field in fields(kind)] for kind in STORED])).encode()) >> 1

Work = Callable[[sqlite3.Connection], list[sqlite3.Row]]
_log = logging.getLogger(__name__)


class JobState(StrEnum):
    """QUEUED -> RUNNING -> one of the others; those but FINISHED may be resumed."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


RESUMABLE = (JobState.FAILED, JobState.CANCELLED, JobState.INTERRUPTED)


@dataclass(frozen=True)
class Job:
    """A job as it stood when read. Times in Unix seconds; `started` is the latest attempt's.

    settings.first_image is the picture's path inside `folder`, or None. `attempts` counts how often it ran,
    `version` grows with every change of it.
    """

    id: str
    state: JobState
    settings: ResolvedSettings
    folder: Path
    created: float
    started: float | None
    ended: float | None
    phase: str
    progress: Progress | None
    preview: Path | None
    notices: tuple[Notice, ...]
    error: Failed | None
    result: Finished | None
    attempts: int
    resumable: bool
    version: int
    stopping: bool = False


class JobQueue:
    """Jobs in `folder`, worked oldest first. Every method may be called from any thread of any process.

    All raise StudioError where the folder takes no writes or is locked by a stuck process. Ids are arbitrary text:
    an unknown one is no error, the call does nothing and says so.
    """

    def __init__(self, folder: Path, *, limit_megapixels: float | None = None) -> None:
        self.folder = Path(folder).resolve()
        self._limits = () if limit_megapixels is None else (limit_megapixels,)
        self._db = Database(self.folder / "queue.sqlite", VERSION, self._create)

    def submit(self, settings: ResolvedSettings, image: bytes | None = None) -> Job:
        """Queue settings with the picture they start from, as its file was uploaded.

        Raises InputError for a picture that cannot be used, or where settings name one and none is given: a path in
        settings is never opened.
        """
        if settings.first_image is not None and image is None:
            raise InputError("image_needed", model=settings.model)
        if image is not None:
            read_image(image, *self._limits)
        own = {"first_image": filenames.FIRST_IMAGE if image is not None else None}
        settings = ResolvedSettings.from_dict(asdict(settings) | own)  # what cannot be stored is refused here
        row = _blank_row(settings)
        folder = self._job_folder(row["id"])
        try:
            folder.mkdir(parents=True)
            if image is not None:
                (folder / filenames.FIRST_IMAGE).write_bytes(image)
            self._write_row(row)
            return self._job(self._changed(lambda db: _insert(db, row))[0])
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

    def list(self, states: Iterable[JobState] | None = None, limit: int = 200) -> list[Job]:
        """Jobs in these states (None: in any), newest first."""
        wanted = tuple(JobState if states is None else states)
        marks = ", ".join("?" * len(wanted))
        rows = self._db.read(
            f"SELECT * FROM jobs WHERE state IN ({marks}) ORDER BY number DESC LIMIT ?", (*wanted, limit)
        )
        return [self._job(row) for row in rows]

    def result_paths(self) -> set[str]:
        """Where the results of all jobs lie."""
        rows = self._db.read("SELECT json_extract(result, '$.path') FROM jobs WHERE result IS NOT NULL")
        return {row[0] for row in rows}

    def version(self) -> int:
        """A number that grows whenever anything changes, in whatever process."""
        return self._db.read("SELECT version FROM clock")[0][0]

    def cancel(self, id: str) -> bool:
        """End a queued job now, a running one as soon as its worker looks (cancel_requested)."""
        return bool(
            self._turn(
                "cancel = 1, state = CASE state WHEN 'queued' THEN 'cancelled' ELSE state END, "
                "ended = CASE state WHEN 'queued' THEN ? ELSE ended END",
                "id = ? AND state IN ('queued', 'running')",
                time.time(),
                _key(id),
            )
        )

    def cancel_requested(self, id: str) -> bool:
        """Whether the running job should stop. Costs microseconds and waits for nobody: poll it per block."""
        rows = self._db.read("SELECT cancel FROM jobs WHERE id = ?", (_key(id),))
        return bool(rows and rows[0][0])

    def resume(self, id: str) -> bool:
        """Queue a failed, stopped or interrupted job again, at its old place; it goes on from its latents.

        Only a person does this: nothing in the program restarts a job by itself.
        """
        marks = ", ".join("?" * len(RESUMABLE))
        return bool(
            self._turn(
                "state = 'queued', cancel = 0, ended = NULL, phase = '', progress = NULL, notices = '[]', error = NULL",
                f"id = ? AND state IN ({marks})",
                _key(id),
                *RESUMABLE,
            )
        )

    def delete(self, id: str) -> bool:
        """Remove the job, its folder and its result's files. Raises StudioError while it runs."""

        def remove(db: sqlite3.Connection) -> list[sqlite3.Row]:
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

    def claim(self) -> Job | None:
        """Take the oldest queued job: RUNNING now, for the caller and nobody else."""
        if not self._db.read("SELECT 1 FROM jobs WHERE state = 'queued' LIMIT 1"):
            return None
        rows = self._turn(
            "state = 'running', started = ?, ended = NULL, attempts = attempts + 1, cancel = 0",
            "number = (SELECT min(number) FROM jobs WHERE state = 'queued')",
            time.time(),
        )
        return self._job(rows[0]) if rows else None

    def record(self, id: str, event: Event) -> bool:
        """Fold what a running job tells into its row; news of a job that does not run changes nothing."""
        match event:
            case PhaseStarted(phase):
                return self._tell(id, "phase = ?, progress = NULL", phase)
            case Progress(phase):
                return self._tell(id, "phase = ?, progress = ?", phase, _json(event))
            case Preview(_, path):
                return self._tell(id, "preview = ?", Path(path).name)
            case Notice():
                return self._tell(id, "notices = json_insert(notices, '$[#]', json(?))", _json(event))
            case Finished():
                return self.finish(id, JobState.FINISHED, result=event)
            case Failed():
                return self.finish(id, JobState.FAILED, error=event)

    def finish(self, id: str, state: JobState, *, result: Finished | None = None, error: Failed | None = None) -> bool:
        """End a running job in `state`. A finished one needs its latents no more."""
        ended = self._turn(
            "state = ?, ended = ?, progress = NULL, result = ?, error = ?",
            "id = ? AND state = 'running'",
            *(state, time.time(), _json(result), _json(error), _key(id)),
        )
        if ended and state == JobState.FINISHED:
            (self._job_folder(id) / filenames.LATENTS).unlink(missing_ok=True)
        return bool(ended)

    def interrupt_running(self) -> list[str]:
        """Mark what runs as interrupted, for when its worker is surely gone. Returns the ids."""
        rows = self._turn("state = 'interrupted', ended = ?, progress = NULL", "state = 'running'", time.time())
        return [row["id"] for row in rows]

    def close(self) -> None:
        """Close this thread's connection."""
        self._db.close()

    def _tell(self, id: str, change: str, *values: Any) -> bool:
        """Progress: matters while the job runs only, so it costs no disk flush."""
        update = self._updating(change, "id = ? AND state = 'running'", *values, _key(id))
        return bool(self._changed(update, durable=False))

    def _turn(self, change: str, condition: str, *values: Any) -> list[sqlite3.Row]:
        """A change of state of the rows that fit: flushed to the disk, with a copy in each job's folder."""
        update = self._updating(change, condition, *values)

        def work(db: sqlite3.Connection) -> list[sqlite3.Row]:
            rows = update(db)
            for row in rows:
                try:
                    self._write_row(row)
                except OSError as error:  # the copy is for bad days; a full disk must not keep a job from ending
                    _log.warning("%s of job %s could not be written: %s", ROW_FILE, row["id"], error)
            return rows

        return self._changed(work)

    def _updating(self, change: str, condition: str, *values: Any) -> Work:
        sql = f"UPDATE jobs SET {change}, version = {NEXT_VERSION} WHERE {condition} RETURNING *"
        return lambda db: db.execute(sql, values).fetchall()

    def _changed(self, work: Work, durable: bool = True) -> list[sqlite3.Row]:
        """Run `work` in a transaction; the clock moves on where it returns rows."""

        def transaction(db: sqlite3.Connection) -> list[sqlite3.Row]:
            rows = work(db)
            if rows:
                db.execute("UPDATE clock SET version = version + 1")
            return rows

        return self._db.change(transaction, durable=durable)

    def _create(self, db: sqlite3.Connection) -> None:
        """Make the tables, with every job that has a folder. The clock starts where no page has been before."""
        for statement in SCHEMA.split(";"):
            db.execute(statement)
        db.execute("INSERT INTO clock VALUES (?)", (time.time_ns() // 1000,))
        rows = [row for path in self.folder.glob(f"jobs/*/{ROW_FILE}") if (row := self._read_row(path))]
        for row in sorted(rows, key=lambda row: row["created"]):
            _insert(db, row)
        db.execute("UPDATE clock SET version = version + 1")

    def _read_row(self, path: Path) -> dict[str, Any] | None:
        try:
            row = json.loads(path.read_text(encoding="utf-8"))
            if set(row) == set(COLUMNS) and row["id"] == path.parent.name == _key(row["id"]):
                self._job(row | {"version": 0})
                return row
            reason = "it is of another version"
        except (OSError, ValueError, TypeError, KeyError, StudioError) as error:
            reason = str(error)
        _log.warning("%s is no job of this queue: %s", path, reason)
        return None

    def _write_row(self, row: Mapping[str, Any] | sqlite3.Row) -> None:
        text = json.dumps({name: row[name] for name in COLUMNS}, ensure_ascii=False)
        filenames.write_whole(self._job_folder(row["id"]) / ROW_FILE, text.encode())

    def _job_folder(self, id: str) -> Path:
        return self.folder / "jobs" / id

    def _job(self, row: Mapping[str, Any] | sqlite3.Row) -> Job:
        folder, state = self._job_folder(row["id"]), JobState(row["state"])
        settings = ResolvedSettings.from_json(row["settings"])
        if settings.first_image is not None:
            settings = replace(settings, first_image=str(folder / filenames.FIRST_IMAGE))
        return Job(
            id=row["id"],
            state=state,
            settings=settings,
            folder=folder,
            created=row["created"],
            started=row["started"],
            ended=row["ended"],
            phase=row["phase"],
            progress=_object(Progress, row["progress"]),
            preview=folder / row["preview"] if row["preview"] else None,
            notices=tuple(Notice(**notice) for notice in json.loads(row["notices"])),
            error=_object(Failed, row["error"]),
            result=_object(Finished, row["result"]),
            attempts=row["attempts"],
            resumable=state in RESUMABLE,
            version=row["version"],
            stopping=state == JobState.RUNNING and bool(row["cancel"]),
        )


def _blank_row(settings: ResolvedSettings) -> dict[str, Any]:
    row = dict.fromkeys(COLUMNS)
    filled = {"id": secrets.token_hex(8), "state": JobState.QUEUED, "settings": settings.to_json()}
    return row | filled | {"created": time.time(), "phase": "", "notices": "[]", "attempts": 0, "cancel": 0}


def _insert(db: sqlite3.Connection, row: Mapping[str, Any]) -> list[sqlite3.Row]:
    """Add the row; where a lost database has just been made again, the job's folder has already brought it."""
    names, marks = ", ".join(COLUMNS), ", ".join("?" * len(COLUMNS))
    sql = f"INSERT OR REPLACE INTO jobs ({names}, version) VALUES ({marks}, {NEXT_VERSION}) RETURNING *"
    return db.execute(sql, tuple(row[name] for name in COLUMNS)).fetchall()


def _key(id: object) -> str:
    """The id itself where it can be one, else "", which no job has: arbitrary text goes no further."""
    return id if isinstance(id, str) and ID.fullmatch(id) else ""


def _json(event: Any) -> str | None:
    return None if event is None else json.dumps(asdict(event), default=str)


def _object(kind: type, text: str | None) -> Any:
    return None if text is None else kind(**json.loads(text))
