"""What was made and what made it: jobs that ended, and results on disk that no job knows (from the command line)."""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from studio.errors import InputError, StudioError
from studio.events import Failed
from studio.filenames import beside, remove_result, unfinished_results
from studio.media import read_metadata_file
from studio.queue.job import ENDED, Job, JobState
from studio.queue.jobs import JobQueue
from studio.queue.result_files import ResultFile, ResultFiles
from studio.queue.search import ALL, Rank, Search, Sort
from studio.settings import ResolvedSettings


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


@dataclass(frozen=True)
class _Untracked:
    """A result that no job knows, with the settings that its json holds."""

    id: str
    file: ResultFile
    settings: ResolvedSettings


@dataclass(frozen=True)
class _UntrackedResults:
    """All of them by id, newest first, as they were found from these files and this version of the queue."""

    files: Sequence[ResultFile] = ()
    version: int = -1
    by_id: Mapping[str, _Untracked] = field(default_factory=dict)


Untracked = list[_Untracked]  # Gallery.list hides the builtin from the annotations after it


class Gallery:
    """Ended jobs of `queue` and the other results in `output_dir` and its folders. Ids are arbitrary text here too."""

    def __init__(self, queue: JobQueue, output_dir: Path) -> None:
        self._queue, self.folder = queue, Path(output_dir).resolve()
        self._files = ResultFiles(self.folder)
        self._known = _UntrackedResults()

    def list(
        self, states: Iterable[JobState] = ENDED, limit: int | None = None, offset: int = 0, search: Search = ALL
    ) -> list[Entry]:
        """A page of what ended in these states and a search finds, in its order. A result without a job counts as
        FINISHED.

        limit: how many at most (None: all); offset: how many come before the page. In the order of time it hardly
        grows with what is not on the page: jobs off it are counted in an index, files in memory.
        """
        wanted = _ended(states)
        untracked = self._found(search) if JobState.FINISHED in wanted else []
        if not untracked:
            return [_job_entry(job) for job in self._queue.list(wanted, limit, offset, search)]
        end = None if limit is None else offset + limit
        ranks: list[tuple[Rank, bool]] = [(rank, True) for rank in self._queue.ranks(wanted, end, search)]
        ranks += [(search.rank(result.settings, result.file.changed), False) for result in untracked[:end]]
        is_job = [of_job for _, of_job in sorted(ranks, reverse=True)][:end]
        before, here = sum(is_job[:offset]), sum(is_job[offset:])
        entries = [_job_entry(job) for job in self._queue.list(wanted, here, before, search)]
        first, last = offset - before, len(is_job) - before - here
        entries += [self._entry(result) for result in untracked[first:last]]
        return sorted(entries, key=lambda entry: search.rank(entry.settings, entry.created), reverse=True)

    def count(self, states: Iterable[JobState] = ENDED, search: Search = ALL) -> int:
        """How many entries `list` has in these states for this search, on all pages."""
        wanted = _ended(states)
        untracked = len(self._found(search)) if JobState.FINISHED in wanted else 0
        return self._queue.count(wanted, search) + untracked

    def _found(self, search: Search) -> Untracked:
        """The results that no job knows and that a search finds, in its order."""
        found = [result for result in self._untracked().values() if search.finds(result.settings)]
        if search.sort == Sort.NEWEST:
            return found
        return sorted(found, key=lambda result: search.rank(result.settings, result.file.changed), reverse=True)

    def get(self, id: str) -> Entry | None:
        """The entry, or None where there is none of that id."""
        if job := self._queue.get(id):
            return _job_entry(job) if job.state in ENDED else None
        result = self._untracked().get(id) if isinstance(id, str) else None
        return self._entry(result) if result else None

    def delete(self, id: str) -> bool:
        """Remove a job or a result with all its files. Raises StudioError where a file cannot be removed."""
        if self._queue.delete(id):
            for path in unfinished_results(self.folder, id):
                path.unlink(missing_ok=True)
            return True
        entry = self.get(id)
        if entry is None or entry.path is None:
            return False
        try:
            remove_result(entry.path)
        except OSError as error:
            raise StudioError("remove_failed", file=entry.path.name, reason=error.strerror or str(error)) from None
        return True

    def _untracked(self) -> Mapping[str, _Untracked]:
        """Results that no job knows, by id, newest first."""
        version, files = self._queue.version(), self._files.newest_first()
        if version != self._known.version or files is not self._known.files:
            own = self._queue.result_paths()
            found = [(file, _recorded(file.path, file.changed)) for file in files if str(file.path) not in own]
            untracked = [_Untracked(self._token(file.path), file, settings) for file, settings in found if settings]
            self._known = _UntrackedResults(files, version, {result.id: result for result in untracked})
        return self._known.by_id

    def _entry(self, result: _Untracked) -> Entry:
        path, settings = result.file.path, result.settings
        picture = _existing(beside(path, ".first.png"))
        settings = replace(settings, first_image=str(picture) if settings.first_image and picture else None)
        poster = _existing(beside(path, ".jpg"))
        return Entry(result.id, JobState.FINISHED, settings, result.file.changed, path, poster)

    def _token(self, path: Path) -> str:
        return hashlib.blake2b(os.fsencode(path.relative_to(self.folder)), digest_size=8).hexdigest()


def _job_entry(job: Job) -> Entry:
    path = _existing(Path(job.result.path)) if job.result else None
    poster = _existing(beside(path, ".jpg")) if path else None
    return Entry(job.id, job.state, job.settings, job.created, path, poster, job.error, job)


def _existing(path: Path) -> Path | None:
    return path if path.is_file() else None


def _ended(states: Iterable[JobState]) -> tuple[JobState, ...]:
    wanted = set(states)
    return tuple(state for state in ENDED if state in wanted)


@lru_cache(maxsize=20_000)
def _recorded(path: Path, changed: float) -> ResolvedSettings | None:
    """The settings in a result's json as it was at the time `changed`; None where it holds none of ours."""
    try:
        return ResolvedSettings.from_record(read_metadata_file(beside(path, ".json")))
    except InputError:
        return None
