"""Where an API's video came from, in a file of its job's folder; and that a repeated request makes one video."""

import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from studio.errors import InputError, StudioError
from studio.filenames import write_whole
from studio.queue.job import Job
from studio.queue.jobs import JobQueue
from studio.settings import GenerationSettings

FILE = "api.json"  # inside the job's folder
LONGEST_KEY = 255  # characters of an Idempotency-Key


@dataclass(frozen=True)
class Provenance:
    """remixed_from: the id of the job it was made from. request_key, request_hash: SHA-256 of the Idempotency-Key with
    its sender and of what was asked for, in hexadecimal. "" where there is none."""

    remixed_from: str = ""
    request_key: str = ""
    request_hash: str = ""


def provenance(folder: Path) -> Provenance:
    """What the job's folder says; nothing where it says nothing."""
    try:
        found = Provenance(**json.loads((folder / FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return Provenance()
    return found if all(isinstance(value, str) for value in asdict(found).values()) else Provenance()


def request_provenance(
    sender: str, key: str | None, settings: GenerationSettings, picture: bytes | None, remixed_from: str = ""
) -> Provenance:
    """Of a new request. key: its Idempotency-Key. Raises InputError for a key that is none."""
    if key is None:
        return Provenance(remixed_from)
    if not (key.isprintable() and 0 < len(key) <= LONGEST_KEY):
        raise InputError("request_key", limit=LONGEST_KEY)
    asked = [settings.to_json(), hashlib.sha256(picture or b"").hexdigest(), remixed_from]
    return Provenance(remixed_from, _digest(sender, key), _digest(*asked))


class Requests:
    """Which job a repeated request has already made. Safe from any thread of the process that owns the queue.

    A key is known as long as its video is there, also after a restart.
    """

    def __init__(self, queue: JobQueue) -> None:
        self._queue, self._lock = queue, threading.Lock()
        self._jobs: dict[str, str] | None = None  # request_key -> id of the job

    def once(self, origin: Provenance, make: Callable[[], Job]) -> tuple[Job, bool]:
        """The job of this request, and whether it was made before. Raises InputError for a key of another request."""
        if not origin.request_key:
            return _noted(make(), origin), False
        with self._lock:
            if self._jobs is None:
                self._jobs = self._read()
            made = self._queue.get(self._jobs.get(origin.request_key, ""))
            if made is None:
                job = _noted(make(), origin)
                self._jobs[origin.request_key] = job.id
                return job, False
            if provenance(made.folder).request_hash != origin.request_hash:
                raise InputError("request_key_reused")
            return made, True

    def _read(self) -> dict[str, str]:
        folders = (path.parent for path in (self._queue.folder / "jobs").glob(f"*/{FILE}"))
        return {key: folder.name for folder in folders if (key := provenance(folder).request_key)}


def _noted(job: Job, origin: Provenance) -> Job:
    if origin != Provenance():
        try:
            write_whole(job.folder / FILE, json.dumps(asdict(origin)).encode())
        except OSError as error:
            raise StudioError("write_failed", file=FILE, reason=error.strerror or str(error)) from None
    return job


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
