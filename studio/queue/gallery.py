"""What was made and what made it: jobs that ended, and results on disk that no job knows (from the command line)."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from studio.errors import InputError, StudioError
from studio.events import Failed
from studio.filenames import beside, remove_result
from studio.media import read_metadata
from studio.queue.job import ENDED, Job, JobState
from studio.queue.jobs import JobQueue
from studio.settings import GenerationSettings, ResolvedSettings

MEDIA = (".mp4", ".png")


@dataclass(frozen=True)
class Entry:
    """One tile of the gallery. `id` is an opaque token; `created` in Unix seconds; `job` is None for others' results.

    path: the mp4 (png for one frame), poster: its picture, each None where there is no such file.
    settings.first_image: a file of this program's own, or None; it is for the server, not for the page.
    """

    id: str
    state: JobState
    settings: ResolvedSettings
    created: float
    path: Path | None
    poster: Path | None
    error: Failed | None = None
    job: Job | None = None


class Gallery:
    """Ended jobs of `queue` and the other results in `output_dir` and its folders. Ids are arbitrary text here too."""

    def __init__(self, queue: JobQueue, output_dir: Path) -> None:
        self._queue, self._folder = queue, Path(output_dir).resolve()

    def list(self, limit: int = 200) -> list[Entry]:
        """Everything that ended, newest first."""
        entries = [_job_entry(job) for job in self._queue.list(ENDED, limit)]
        strangers = sorted(self._strangers(), reverse=True)[:limit]
        entries += [entry for changed, path in strangers if (entry := self._entry(changed, path))]
        return sorted(entries, key=lambda entry: entry.created, reverse=True)[:limit]

    def get(self, id: str) -> Entry | None:
        """The entry, or None where there is none of that id."""
        if job := self._queue.get(id):
            return _job_entry(job) if job.state in ENDED else None
        for changed, path in self._strangers():
            if self._token(path) == id:
                return self._entry(changed, path)
        return None

    def settings(self, id: str) -> ResolvedSettings | None:
        """What made it, without a path: the picture is `first_image(id)`."""
        entry = self.get(id)
        return replace(entry.settings, first_image=None) if entry else None

    def first_image(self, id: str) -> bytes | None:
        """The picture it started from: a job's as it was uploaded, a stranger's as it was cropped."""
        entry = self.get(id)
        path = Path(entry.settings.first_image) if entry and entry.settings.first_image else None
        return path.read_bytes() if path and path.is_file() else None

    def delete(self, id: str) -> bool:
        """Remove a job or a result with all its files. Raises StudioError where a file cannot be removed."""
        if self._queue.delete(id):
            return True
        entry = self.get(id)
        if entry is None or entry.path is None:
            return False
        try:
            remove_result(entry.path)
        except OSError as error:
            raise StudioError("remove_failed", file=entry.path.name, reason=error.strerror or str(error)) from None
        return True

    @staticmethod
    def settings_from_file(data: bytes) -> GenerationSettings:
        """The settings inside an mp4, png or json from anywhere. Raises InputError where there are none.

        Types are checked here and ranges by `problems`; the name of a picture in it is dropped, never opened.
        """
        return replace(GenerationSettings.from_record(read_metadata(data)), first_image=None)

    def _strangers(self) -> Iterator[tuple[float, Path]]:
        """Results that no job knows, with the time of their last change: a json with its mp4 or png beside it."""
        own = self._queue.result_paths()
        for pattern in ("*.json", "[!.]*/*.json"):
            for record in self._folder.glob(pattern):
                path = next((path for kind in MEDIA if (path := beside(record, kind)).is_file()), None)
                if path and str(path) not in own:
                    yield os.path.getmtime(record), path

    def _entry(self, changed: float, path: Path) -> Entry | None:
        settings = _recorded(beside(path, ".json"), changed)
        if settings is None:
            return None
        picture = _existing(beside(path, ".first.png"))
        settings = replace(settings, first_image=str(picture) if settings.first_image and picture else None)
        poster = _existing(beside(path, ".jpg"))
        return Entry(self._token(path), JobState.FINISHED, settings, changed, path, poster)

    def _token(self, path: Path) -> str:
        return hashlib.blake2b(os.fsencode(path.relative_to(self._folder)), digest_size=8).hexdigest()


def _job_entry(job: Job) -> Entry:
    path = _existing(Path(job.result.path)) if job.result else None
    poster = _existing(beside(path, ".jpg")) if path else None
    return Entry(job.id, job.state, job.settings, job.created, path, poster, job.error, job)


def _existing(path: Path) -> Path | None:
    return path if path.is_file() else None


@lru_cache(maxsize=1024)
def _recorded(record: Path, changed: float) -> ResolvedSettings | None:
    """The settings in a result's json as it was at the time `changed`; None where it holds none of ours."""
    try:
        return ResolvedSettings.from_record(read_metadata(record.read_bytes()))
    except (OSError, InputError):
        return None
