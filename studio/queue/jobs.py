"""The queue on disk: what was asked for, how far it is, how it ended. Any process may open it.

folder/queue.sqlite holds one row per job, into which events are folded. folder/jobs/<id>/ is the job's own: the
picture as it was uploaded, previews, latents, and job.json, a copy of the row from which a lost database is made
again. An id is an opaque token: ids from outside are looked up, never made into a path. Tables: schema.py.
"""

import json
import logging
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from studio import filenames
from studio.errors import InputError, StudioError
from studio.events import Event, Failed, Finished, Notice, PhaseStarted, Preview, Progress
from studio.media import read_image
from studio.queue import order, schema
from studio.queue.asked import ASKED, CANCEL, KEPT, STOPPED_AS
from studio.queue.clock import CLOCK, Clock
from studio.queue.database import Database, unwritable
from studio.queue.job import ID, RESUMABLE, STOPS, Job, JobState, Link, Request, asked_now, job_of_row, key
from studio.queue.job_files import write_picture
from studio.queue.kinds import Again, JobKind, SoundOrder, stored
from studio.queue.locks import OwnerLock
from studio.queue.restore import INTERRUPT, restore
from studio.queue.search import ALL, ORDER, RANKED, Rank, Search
from studio.settings import ResolvedSettings

HELD = "held"  # the option that is there while the whole queue is paused
SHARP = "sharp"  # the one that is there while previews are decoded
FIRST_TO_RUN = "ORDER BY state = 'running' DESC, position, number"
UNFINISHED = "state IN ('running', 'queued', 'paused')"
READY = """NOT EXISTS (SELECT 1 FROM jobs AS other WHERE other.id = mine.source AND mine.cut = 0
    AND other.state IN ('running', 'queued', 'paused'))"""  # what a clip goes on from has ended, in whatever way
FIRST = f"""SELECT number FROM jobs AS mine WHERE state = 'queued' AND kind = ? AND {READY}
    ORDER BY position, number LIMIT 1"""
NOT_HELD = f"NOT EXISTS (SELECT 1 FROM options WHERE name = '{HELD}')"
NOTED = """CASE WHEN EXISTS (SELECT 1 FROM json_each(notices) WHERE value = json(?)) THEN notices
    ELSE json_insert(notices, '$[#]', json(?)) END"""  # a job that was skipped and runs again says nothing twice
ALONE = Link()
Rows = list[sqlite3.Row]  # JobQueue.list hides the builtin from the annotations after it
Jobs = list[Job]
Ids = list[str]
Folders = list[Path]
Times = list[float]
Ranks = list[Rank]
Work = Callable[[sqlite3.Connection], Rows]
Words = Callable[[], str]
_log = logging.getLogger(__name__)


class JobQueue:
    """Jobs in `folder`, worked in the order of their positions, which begin as the order of asking.

    Every method may be called from any thread of any process. All raise StudioError where the folder takes no writes or
    is locked by a stuck process. Ids are arbitrary text: an unknown one is no error, the call does nothing and says so.
    What else a person does to jobs that wait or run: verbs.py. maker: who asks, for what is queued (Job.maker).
    """

    def __init__(
        self, folder: Path, *, limit_megapixels: float | None = None, clock: Clock = CLOCK, maker: Words = str
    ) -> None:
        self.folder, self.clock, self._maker = Path(folder).resolve(), clock, maker
        self.limits = () if limit_megapixels is None else (limit_megapixels,)
        owner = OwnerLock(self.folder, "bringing the queue up to date")
        restored = partial(restore, self.folder / "jobs", owner, clock)
        self._db = Database(self.folder / "queue.sqlite", schema.MIGRATIONS, restored, owner, schema.CHECKSUMS)

    def submit(self, settings: ResolvedSettings, image: bytes | None = None, again: Again | None = None) -> Job:
        """Queue resolved settings with the picture they start from, as its file was uploaded.

        Raises InputError for a picture that cannot be used, or where settings name one and none is given: a path in
        settings is never opened.
        """
        return self.submit_all([settings], image, again=again)[0]

    def submit_all(
        self,
        wanted: Sequence[ResolvedSettings],
        image: bytes | None = None,
        *,
        behind: str = "",
        files: Mapping[str, Path] = MappingProxyType({}),
        link: Link = ALONE,
        sound: SoundOrder | None = None,
        again: Again | None = None,
    ) -> Jobs:
        """Queue several that start from one picture, all or none. Raises as `submit`.

        behind: the waiting job that they follow, "" for the end of the queue. files: copied into each job's folder, by
        the names that they have there. sound: what a job of kind SOUND makes of the clip with these settings. again: of
        each, see Job.again.
        """
        goes_on = [bool(link.source) and not (link.cut and index == 0) for index in range(len(wanted))]
        settings = [self.storable(one, image is not None or on) for one, on in zip(wanted, goes_on, strict=True)]
        picture = None if image is None else read_image(image, *self.limits)
        folders, maker = [self.job_folder(secrets.token_hex(8)) for _ in wanted], self._maker()

        def add(db: sqlite3.Connection) -> Rows:
            now = self.clock.now()
            places, pushed = order.behind(db, key(behind), len(folders), now)
            rows: Rows = []
            source, cut = key(link.source), link.cut
            for folder, one, place in zip(folders, settings, places, strict=True):
                kind = JobKind.SOUND if sound else JobKind.VIDEO
                row: dict[str, Any] = {"id": folder.name, "kind": kind, "state": JobState.QUEUED}
                row |= {"settings": stored(one, sound, again), "created": now, "position": place}
                row |= {"project": link.project, "source": source, "cut": int(cut), "maker": maker}
                rows += schema.insert(db, row | {"phase": "", "notices": "[]", "attempts": 0})
                source, cut = folder.name if source else "", False
            for changed in (*rows, *pushed):
                self.write_copy(changed)
            return rows

        try:
            for folder, one in zip(folders, settings, strict=True):
                folder.mkdir(parents=True)
                if image is not None and picture is not None:
                    write_picture(folder, filenames.FIRST_IMAGE, image, picture, one)
                for name, file in files.items():
                    shutil.copyfile(file, folder / name)
            return [self.job(row) for row in self.changed(add)]
        except (OSError, StudioError) as error:
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, StudioError):
                raise
            raise unwritable(self.folder, error.strerror or str(error)) from error

    def storable(
        self, settings: ResolvedSettings, has_image: bool, name: str = filenames.FIRST_IMAGE
    ) -> ResolvedSettings:
        """The settings as a row holds them, with their picture by its name. Raises InputError."""
        if settings.first_image is not None and not has_image:
            raise InputError("image_needed", model=settings.model)
        own = {"first_image": name if has_image else None}
        return ResolvedSettings.from_dict(asdict(settings) | own)  # what cannot be stored is refused here

    def get(self, id: str) -> Job | None:
        """The job, or None where there is none of that id."""
        rows = self._db.read("SELECT * FROM jobs WHERE id = ?", (key(id),))
        return self.job(rows[0]) if rows else None

    def list(
        self, states: Iterable[JobState] | None = None, limit: int | None = None, offset: int = 0, search: Search = ALL
    ) -> Jobs:
        """A page of the jobs in these states (None: in any) that a search finds, in its order.

        limit: how many at most (None: all); offset: how many come before the page.
        """
        chosen, values = search.page("number", states, limit, offset)
        rows = self._db.read(f"SELECT * FROM jobs WHERE number IN ({chosen}) {ORDER[search.sort]}", values)
        return [self.job(row) for row in rows]

    def linked(self, *, project: str = "", source: str = "") -> Jobs:
        """The jobs of one project, or those that follow one job; in the order of asking."""
        where, value = ("project", project) if project else ("source", key(source))
        rows = self._db.read(f"SELECT * FROM jobs WHERE {where} = ? AND {where} <> '' ORDER BY number", (value,))
        return [self.job(row) for row in rows]

    def in_order(self, limit: int | None = None, offset: int = 0) -> Jobs:
        """A page of what runs and what waits, in the order of running; paused jobs stand where they will run."""
        page = f"SELECT number FROM jobs WHERE {UNFINISHED} {FIRST_TO_RUN} LIMIT ? OFFSET ?"
        sql = f"SELECT * FROM jobs WHERE number IN ({page}) {FIRST_TO_RUN}"
        return [self.job(row) for row in self._db.read(sql, (-1 if limit is None else limit, offset))]

    def order_version(self) -> tuple[int, int]:
        """Changes whenever something begins or ends to wait, is moved, or waits with other settings; reads an index."""
        row = self._db.read("SELECT count(*), coalesce(max(version), 0) FROM jobs WHERE state IN ('queued', 'paused')")
        return row[0][0], row[0][1]

    def count(self, states: Iterable[JobState] | None = None, search: Search = ALL) -> int:
        """How many jobs in these states (None: in any) a search finds."""
        where, values = search.where(states)
        return self._db.read(f"SELECT count(*) FROM jobs {where}", values)[0][0]

    def times(self, states: Iterable[JobState] | None = None) -> Times:
        """When the jobs in these states were submitted, newest first, in Unix seconds."""
        return [row[0] for row in self._db.read(*ALL.page("created", states))]

    def ranks(self, states: Iterable[JobState], limit: int | None, search: Search) -> Ranks:
        """The ranks of the first `limit` jobs that a search finds, in its order."""
        return [tuple(row) for row in self._db.read(*search.page(RANKED[search.sort], states, limit))]

    def ahead(self, id: str) -> int:
        """How many jobs of its kind run or wait before this queued one; 0 for any other."""
        before = "other.state = 'queued' AND (other.position, other.number) < (mine.position, mine.number)"
        return self._db.read(
            f"SELECT count(*) FROM jobs AS mine JOIN jobs AS other ON other.state = 'running' OR ({before}) "
            "WHERE mine.id = ? AND mine.state = 'queued' AND other.kind = mine.kind",
            (key(id),),
        )[0][0]

    def result_paths(self) -> set[str]:
        """Where the results of all jobs lie."""
        rows = self._db.read("SELECT json_extract(result, '$.path') FROM jobs WHERE result IS NOT NULL")
        return {row[0] for row in rows}

    def ids(self) -> set[str]:
        """The ids of all jobs."""
        return {row[0] for row in self._db.read("SELECT id FROM jobs")}

    def job_folders(self) -> Folders:
        """The folders that are named as a job's would be, whether there is a job of that name or not."""
        return [path for path in (self.folder / "jobs").glob("*") if ID.fullmatch(path.name) and path.is_dir()]

    def was_never_run(self, folder: Path) -> bool:
        """Whether the copy in a job's folder is that of a job nobody took yet, or there is none."""
        return schema.was_never_run(folder / schema.ROW_FILE)

    def version(self) -> int:
        """A number that grows whenever anything changes, in whatever process."""
        return self._db.read("SELECT version FROM clock")[0][0]

    def option(self, name: str) -> str:
        """An option of the whole queue, "" where it was not set."""
        rows = self._db.read("SELECT value FROM options WHERE name = ?", (name,))
        return rows[0][0] if rows else ""

    def set_option(self, name: str, value: str) -> None:
        """Set an option of the whole queue; "" removes it."""

        def work(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM options WHERE name = ?", (name,))
            if value:
                db.execute("INSERT INTO options VALUES (?, ?)", (name, value))
            db.execute("UPDATE clock SET version = version + 1")

        self._db.change(work)

    def cancel(self, id: str) -> bool:
        """End a waiting job now, a running one as soon as its worker looks (see `request`)."""
        return bool(self.turn(CANCEL, f"id = ? AND {UNFINISHED}", self.clock.now(), key(id)))

    def request(self, id: str) -> Request:
        """What is asked of the running job. Costs microseconds and waits for nobody: poll it per block."""
        rows = self._db.read("SELECT request FROM jobs WHERE id = ?", (key(id),))
        return asked_now(rows[0][0]) if rows else Request.NONE

    def resume(self, id: str) -> bool:
        """Queue a failed, stopped, interrupted or paused job again, at its old place; it goes on from its latents, of a
        paused one that was to be decoded to that.

        A running one that was asked to stop runs on. Only a person does this, never the program by itself.
        """
        marks, stops = ", ".join("?" * len(RESUMABLE)), ", ".join("?" * len(STOPS))
        again = "state = 'queued', ended = NULL, phase = '', notices = '[]', error = NULL, request = " + KEPT
        if self.turn(again, f"id = ? AND state IN ({marks})", key(id), *RESUMABLE):
            return True
        running = f"id = ? AND state = 'running' AND {ASKED} IN ({stops})"
        return bool(self.turn(f"request = {KEPT}", running, key(id), *STOPS))

    def delete(self, id: str) -> bool:
        """Remove the job, its folder and its result's files. Raises StudioError while it runs."""

        def remove(db: sqlite3.Connection) -> Rows:
            gone = db.execute("DELETE FROM jobs WHERE id = ? RETURNING *", (key(id),)).fetchall()
            for job in map(self.job, gone):
                if job.state == JobState.RUNNING:
                    raise StudioError("job_running")
                if job.result:
                    filenames.remove_result(Path(job.result.path))
                if job.folder.exists():
                    shutil.rmtree(job.folder)
            return gone  # only now is the row gone: whatever goes wrong before leaves a job that can be deleted

        return bool(self.changed(remove))

    def waits(self, kind: JobKind) -> bool:
        """Whether a job of that kind could be taken."""
        return bool(self._db.read(f"SELECT 1 WHERE EXISTS ({FIRST}) AND {NOT_HELD}", (kind,)))

    def claim(self, worker: str = "", kind: JobKind = JobKind.VIDEO) -> Job | None:
        """Take the first job of that kind: RUNNING now, for the caller (by the name `worker`) and nobody else.

        None where none waits, or the whole queue is paused.
        """
        if not self.waits(kind):
            return None
        rows = self.turn(
            "state = 'running', started = ?, ended = NULL, attempts = attempts + 1, worker = ?",
            f"number = ({FIRST}) AND {NOT_HELD}",
            self.clock.now(),
            worker,
            kind,
        )
        return self.job(rows[0]) if rows else None

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
                told = _json(event)
                return self._report(id, f"notices = {NOTED}", told, told)
            case Finished():
                return self.finish(id, JobState.FINISHED, result=event)
            case Failed():
                return self.finish(id, JobState.FAILED, error=event)

    def finish(self, id: str, state: JobState, *, result: Finished | None = None, error: Failed | None = None) -> bool:
        """End a running job in `state`. Its latents stay within their limit (disk.py): frames are decoded from them."""
        ended = self.turn(
            "state = ?, ended = ?, request = '', progress = NULL, result = ?, error = ?",
            "id = ? AND state = 'running'",
            *(state, self.clock.now(), _json(result), _json(error), key(id)),
        )
        return bool(ended)

    def stopped(self, id: str) -> JobState | None:
        """A running job has stopped between blocks: it becomes what was asked of it. None where it does not run."""
        now = self.clock.now()
        rows = self.turn(STOPPED_AS, "id = ? AND state = 'running'", now, now, key(id))
        return JobState(rows[0]["state"]) if rows else None

    def interrupt_running(self, worker: str | None = None) -> Ids:
        """Mark what runs (of this worker; None: of all) as interrupted, for when it is surely gone. Returns the ids."""
        fits = "state = 'running' AND substr(worker || '/', 1, length(?)) = ?"
        prefix = "" if worker is None else f"{worker}/"
        return [row["id"] for row in self.turn(INTERRUPT, fits, self.clock.now(), prefix, prefix)]

    def close(self) -> None:
        """Close this thread's connection."""
        self._db.close()

    def _report(self, id: str, change: str, *values: Any) -> bool:
        """Progress: matters while the job runs only, so it costs no disk flush."""
        fits = "id = ? AND state = 'running'"
        return bool(self.changed(lambda db: self.update(db, change, fits, *values, key(id)), durable=False))

    def turn(self, change: str, condition: str, *values: Any) -> Rows:
        """A change of state of the rows that fit: flushed to the disk, with a copy in each job's folder."""
        return self.changed(lambda db: self.copied(self.update(db, change, condition, *values)))

    def update(self, db: sqlite3.Connection, change: str, condition: str, *values: Any) -> Rows:
        """Inside a transaction: change the rows that fit, and return them."""
        sql = f"UPDATE jobs SET {change}, version = {schema.NEXT_CHANGE} WHERE {condition} RETURNING *"
        return db.execute(sql, values).fetchall()

    def copied(self, rows: Rows) -> Rows:
        """The rows, each with its job.json written anew where the disk takes it."""
        for row in rows:
            try:
                self.write_copy(row)
            except OSError as error:  # the copy is for bad days; a full disk must not keep a job from ending
                _log.warning("%s of job %s could not be written: %s", schema.ROW_FILE, row["id"], error)
        return rows

    def changed(self, work: Work, durable: bool = True) -> Rows:
        """Run `work` in a transaction; the clock moves on where it returns rows."""

        def transaction(db: sqlite3.Connection) -> Rows:
            rows = work(db)
            if rows:
                db.execute("UPDATE clock SET version = version + 1")
            return rows

        return self._db.change(transaction, durable=durable)

    def write_copy(self, row: schema.Row) -> None:
        """Write job.json into the job's folder. Raises OSError."""
        filenames.write_whole(self.job_folder(row["id"]) / schema.ROW_FILE, schema.copied(row))

    def job_folder(self, id: str) -> Path:
        """The folder of a job; `id` must be one."""
        return self.folder / "jobs" / id

    def job(self, row: schema.Row) -> Job:
        """A row as a job. Raises as job_of_row."""
        return job_of_row(row, self.job_folder(row["id"]))


def _json(event: Any) -> str | None:
    return None if event is None else json.dumps(asdict(event), default=str)
