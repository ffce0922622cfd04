"""Removed jobs, until they are removed for good: a person may want one back, also after the program was killed.

trash/<id>.json says that job <id> is removed: when, and its row. trash/<id>/ has its folder and its result's files.
What a kill left half done is settled by the table of jobs alone: a job that stands in it is not removed, and its files
go back; of one that does not, all files belong here. All of it happens inside transactions.
"""

import json
import logging
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio import filenames
from studio.errors import StudioError
from studio.queue import schema
from studio.queue.job import JobState, key
from studio.queue.jobs import JobQueue, Rows

KEPT_SECONDS = 24 * 3600
MOST_BYTES = 2 * 2**30  # the oldest go first
FILES = "result"  # inside a removed job's folder: the files of its result
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Removed:
    """A job in the trash: when it was removed (Unix seconds), its prompt, and the bytes it takes on disk."""

    id: str
    removed: float
    prompt: str
    size_bytes: int


class Trash:
    """The removed jobs of a queue."""

    def __init__(self, queue: JobQueue) -> None:
        self._queue, self._folder = queue, queue.folder / "trash"

    @property
    def queue(self) -> JobQueue:
        return self._queue

    def remove(self, id: str) -> bool:
        """Take a job out of the queue, with its folder and its result's files. Raises StudioError while it runs.

        On a full disk it is removed for good: nothing could tell where it was.
        """

        def work(db: sqlite3.Connection) -> Rows:
            rows = db.execute("SELECT * FROM jobs WHERE id = ?", (key(id),)).fetchall()
            for row in rows:
                if row["state"] == JobState.RUNNING:
                    raise StudioError("job_running")
                self._note(row)
                db.execute("DELETE FROM jobs WHERE id = ?", (row["id"],))
                self._move_in(self._read(row["id"]))
            return rows

        try:
            return bool(self._queue.changed(work))
        except StudioError as error:
            if error.code != "queue_unwritable":
                raise
            _log.warning("job %s is removed for good, the trash takes no files: %s", key(id), error)
            return self._queue.delete(id)

    def undo(self, id: str = "") -> str | None:
        """Put a removed job back as it was (default: the latest one). Its id; None where there is none such."""
        chosen = next((removed.id for removed in self.list() if id in ("", removed.id)), None)
        if chosen is None:
            return None

        def work(db: sqlite3.Connection) -> Rows:
            note = self._read(chosen)
            rows = schema.insert(db, note["row"])
            self._move_out(note)
            return rows

        self._queue.changed(work)
        self._note_path(chosen).unlink(missing_ok=True)
        return chosen

    def list(self) -> list[Removed]:
        """What is in the trash, the latest first."""
        found = []
        for note in self._notes():
            id = note["row"]["id"]
            prompt = str(json.loads(note["row"]["settings"]).get("prompt", ""))
            found.append(Removed(id, float(note["removed"]), prompt, _size(self._folder / id)))
        return sorted(found, key=lambda removed: removed.removed, reverse=True)

    def holds(self, id: str) -> bool:
        """Whether a removed job of that id can be put back."""
        return bool(key(id)) and self._note_path(key(id)).is_file()

    def maker(self, id: str) -> str:
        """Who made a removed job, "" where there is none of that id."""
        return next((note["row"]["maker"] for note in self._notes() if note["row"]["id"] == id), "")

    def purge(self, kept_seconds: float = KEPT_SECONDS, most_bytes: int = MOST_BYTES) -> None:
        """Remove for good what has been here for that long, and the oldest ones beyond so many bytes."""
        size, due = 0, self._queue.clock.now() - kept_seconds
        known = self.list()
        for removed in known:
            size += removed.size_bytes
            if removed.removed <= due or size > most_bytes:
                self._remove(removed.id)
        for id in {path.stem for path in self._folder.glob("*")} - {removed.id for removed in known}:
            if _changed(self._folder / id, self._note_path(id)) <= due:  # notes of another version
                self._remove(id)

    def _remove(self, id: str) -> None:
        shutil.rmtree(self._folder / id, ignore_errors=True)
        self._note_path(id).unlink(missing_ok=True)

    def settle(self) -> None:
        """Finish or take back what a killed process left half done."""
        if not self._folder.is_dir():
            return

        def work(db: sqlite3.Connection) -> Rows:
            for note in self._notes():
                id = note["row"]["id"]
                if db.execute("SELECT 1 FROM jobs WHERE id = ?", (id,)).fetchone():
                    self._move_out(note)
                    self._note_path(id).unlink(missing_ok=True)
                else:
                    self._move_in(note)
            return []

        try:
            self._queue.changed(work)
        except StudioError as error:
            _log.warning("the trash cannot be settled: %s", error)

    def _note(self, row: sqlite3.Row) -> None:
        """Write down that the job is removed, before anything is."""
        copied = json.loads(schema.copied(row))
        copied.pop(schema.FORMAT)
        note = {schema.FORMAT: schema.VERSION, "removed": self._queue.clock.now(), "row": copied}
        filenames.write_whole(self._note_path(row["id"]), json.dumps(note, ensure_ascii=False).encode())

    def _read(self, id: str) -> dict[str, Any]:
        """The note of a removed job. Raises OSError, ValueError."""
        note = json.loads(self._note_path(id).read_bytes())
        if note[schema.FORMAT] != schema.VERSION or note["row"]["id"] != id or not key(id):
            raise ValueError("it is no note of this version")
        json.loads(note["row"]["settings"])
        return note

    def _notes(self) -> Iterator[dict[str, Any]]:
        for path in sorted(self._folder.glob("*.json")):
            try:
                yield self._read(path.stem)
            except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
                _log.warning("%s says nothing of a removed job: %s", path, error)

    def _move_in(self, note: dict[str, Any]) -> None:
        """Files that are here already stay."""
        folder = self._folder / note["row"]["id"]
        own = self._queue.job_folder(note["row"]["id"])
        if own.is_dir() and not folder.is_dir():
            own.replace(folder)
        kept = folder / FILES
        kept.mkdir(parents=True, exist_ok=True)
        for file in self._result_files(note):
            if file.is_file():
                shutil.move(file, kept / file.name)

    def _move_out(self, note: dict[str, Any]) -> None:
        """Files that are back already stay."""
        folder = self._folder / note["row"]["id"]
        for file in self._result_files(note):
            if (kept := folder / FILES / file.name).is_file():
                shutil.move(kept, file)
        with suppress(OSError):
            (folder / FILES).rmdir()
        own = self._queue.job_folder(note["row"]["id"])
        if folder.is_dir() and not own.is_dir():
            folder.replace(own)

    def _result_files(self, note: dict[str, Any]) -> tuple[Path, ...]:
        """Where the files of the job's result belong; none outside the output folder are touched."""
        result = Path(json.loads(note["row"]["result"])["path"]) if note["row"]["result"] else None
        if result is None or self._queue.folder.parent not in result.resolve().parents:
            return ()
        return tuple(filenames.beside(result, suffix) for suffix in filenames.RESULT_SUFFIXES)

    def _note_path(self, id: str) -> Path:
        return self._folder / f"{id}.json"


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _changed(*paths: Path) -> float:
    """When the latest of the paths changed, in Unix seconds; 0 where none is there."""
    times = [0.0]
    for path in paths:
        with suppress(OSError):
            times.append(path.stat().st_mtime)
    return max(times)
