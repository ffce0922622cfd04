"""A job that is made on another machine: its files go there, what it reports comes back. Plain values and bytes alone.

Latents travel as often as they are saved, so that a job whose machine is lost goes on elsewhere from its last ones.
"""

import json
import logging
import queue
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from studio import filenames
from studio.errors import Cancelled, StudioError
from studio.events import EVENTS, Event, Finished, Preview
from studio.queue.job import Job, job_of_row
from studio.queue.schema import FORMAT, ROW_FILE, VERSION
from studio.queue.worker import Runner, caught

LOOK_SECONDS = 0.2  # between two looks at the latents while nothing is reported
Message = tuple[str, str, Any]  # what it is; a name or code; its value
_log = logging.getLogger(__name__)


def package(job: Job) -> dict[str, bytes]:
    """The files that another machine needs for the job: its row, its picture, the latents that it goes on from."""
    names = [ROW_FILE, filenames.LATENTS]
    names += [Path(job.settings.first_image).name] if job.settings.first_image else []
    return {name: (job.folder / name).read_bytes() for name in names if (job.folder / name).is_file()}


class Wishes:
    """Orders of a job that runs here for a machine elsewhere: set by calls from there."""

    def __init__(self) -> None:
        self._stop, self._finish = threading.Event(), threading.Event()

    def set(self, wish: str) -> None:
        """wish: "stop" or "finish"."""
        (self._finish if wish == "finish" else self._stop).set()

    def stop(self) -> bool:
        """Orders.stop."""
        return self._stop.is_set()

    def finish(self) -> bool:
        """Orders.finish."""
        return self._finish.is_set()

    def sharp(self) -> bool:
        """Orders.sharp: previews of other machines are rough."""
        return False


def serve(files: dict[str, bytes], folder: Path, runner: Runner, wishes: Wishes) -> Iterator[Message]:
    """Make the job of a package in `folder`, which is emptied; yields what happens, as messages for `Replay`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / Path(name).name).write_bytes(data)
    row = json.loads(files[ROW_FILE])
    if row.pop(FORMAT, None) != VERSION:
        raise ValueError("the job comes from a program of another version")
    job = job_of_row(row | {"version": 0}, folder)
    told: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
    ended: list[Finished | Exception] = []

    def work() -> None:
        ended.append(caught(lambda: runner.run(job, told.put, wishes)))
        told.put(None)

    thread = threading.Thread(target=work, name="job", daemon=True)
    thread.start()
    yield from _reports(told, folder)
    thread.join()
    yield from _end(ended[0], runner, job)


def _reports(told: "queue.SimpleQueue[Event | None]", folder: Path) -> Iterator[Message]:
    """Events as they come, pictures before them, and latents whenever they were saved, until None is told."""
    latents, sent, working = folder / filenames.LATENTS, 0, True
    while working:
        event = None
        with suppress(queue.Empty):  # then this is a look at the latents alone
            event = told.get(timeout=LOOK_SECONDS)
            working = event is not None
        if latents.is_file() and (changed := latents.stat().st_mtime_ns) != sent:
            sent = changed
            yield "file", filenames.LATENTS, latents.read_bytes()
        if event is None:
            continue
        if isinstance(event, Preview):
            yield "file", Path(event.path).name, (folder / Path(event.path).name).read_bytes()
        yield "event", type(event).__name__, asdict(event)


def _end(ended: Finished | Exception, runner: Runner, job: Job) -> Iterator[Message]:
    match ended:
        case Finished():
            path = Path(ended.path)
            for suffix in reversed(filenames.RESULT_SUFFIXES):  # the result itself last: where it is, everything is
                if (file := filenames.beside(path, suffix)).is_file():
                    yield "result", suffix, file.read_bytes()
            yield "finished", path.suffix, asdict(ended)
            caught(lambda: runner.after(job, ended))
            filenames.remove_result(path)
        case Cancelled():
            yield "cancelled", "", None
        case StudioError():
            yield "failed", ended.code, ended.values
        case _:
            yield "failed", "unexpected", {"kind": type(ended).__name__, "reason": str(ended).strip() or "-"}


class Replay:
    """Does here what the messages of a job elsewhere say. stem: of the result here, without suffix."""

    def __init__(self, job: Job, stem: Path, emit: Callable[[Event], None]) -> None:
        self._job, self._stem, self._emit = job, stem, emit

    def take(self, message: Message) -> Finished | None:
        """One message; the result once it is whole and outlives a power cut. Raises Cancelled or StudioError as the job
        there did, or where a file of the result cannot be written here.
        """
        try:
            return self._take(*message)
        except OSError as error:
            reason = error.strerror or str(error)
            raise StudioError("write_failed", file=error.filename or self._stem.name, reason=reason) from None

    def _take(self, kind: str, name: str, value: Any) -> Finished | None:
        match kind:
            case "file":
                try:
                    filenames.write_whole(self._job.folder / Path(name).name, value)
                except OSError as error:  # the job goes on there; the next latents may find room
                    _log.warning("%s of job %s cannot be written: %s", name, self._job.id, error)
            case "event":
                self._emit(EVENTS[name](**value))
            case "result":
                if name in filenames.RESULT_SUFFIXES:
                    filenames.write_whole(self._stem.with_name(self._stem.name + name), value, durable=True)
            case "finished":
                filenames.sync_folder(self._stem.parent.parent)  # in which its own may be new
                return Finished(**value | {"path": str(self._stem.with_name(self._stem.name + name))})
            case "cancelled":
                raise Cancelled
            case "failed":
                raise StudioError(name, **value)
        return None
