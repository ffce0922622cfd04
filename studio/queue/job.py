"""One job as it stood when read from its row: what it makes, its state, how far it is."""

import json
import re
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from studio import filenames
from studio.events import Failed, Finished, Notice, Progress
from studio.queue.kinds import Again, JobKind, SoundOrder, read_stored
from studio.queue.schema import Row
from studio.settings import ResolvedSettings

ID = re.compile(r"[0-9a-f]{16}")


class JobState(StrEnum):
    """QUEUED -> RUNNING -> one of the others; those but FINISHED may be resumed. PAUSED ones keep their place."""

    QUEUED = "queued"
    PAUSED = "paused"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


class Request(StrEnum):
    """What a person asks of a job. A running one's worker looks between blocks, and after each step for FINISH."""

    NONE = ""
    CANCEL = "cancel"  # end; what is done is kept
    PAUSE = "pause"  # release the device; the job keeps its place and waits for a person
    SKIP = "skip"  # let the others go first
    HOLD = "hold"  # as PAUSE, because the whole queue is paused: it runs again with the queue
    FINISH = "finish"  # decode what there is and end
    DECODE = "decode"  # of one that waits: decode its saved latents, after one step more
    EDIT = "edit"  # of a paused one: a person has it in the form


FINISHED_EARLY = "finished_early"  # the notice of a video that was decoded before its last step
STOPS = (Request.CANCEL, Request.PAUSE, Request.SKIP, Request.HOLD)
WAITING = (JobState.QUEUED, JobState.PAUSED)
STOPPED = (JobState.FAILED, JobState.CANCELLED, JobState.INTERRUPTED)
RESUMABLE = (*STOPPED, JobState.PAUSED)
ENDED = (JobState.FINISHED, *STOPPED)


@dataclass(frozen=True)
class Link:
    """How jobs that are asked for together belong together: see project, source and cut of Job. source and cut are of
    the first of them; where it has a source, each other one goes on from the one before it."""

    project: str = ""
    source: str = ""
    cut: bool = False


@dataclass(frozen=True)
class Job:
    """A job as it stood when read. Times in Unix seconds; `started` is the latest attempt's.

    settings.first_image is the picture's path inside `folder`, or None; of a job that makes a sound, the settings are
    its clip's, and `sound` is what it makes (kinds.py). `attempts` counts how often it ran,
    `version` grows with every change of it. Queued jobs run in the order of `position`, which is the time of
    submitting until somebody changes it. `request` is what is asked of it; `stopping`: a running one is asked to stop.
    `worker`: who runs it or ran it last, "" for nobody. `tags` and `favourite` are a person's own; of one `project` are
    jobs that were asked for together, to be looked at together. `source`: the job whose video this one goes on from, ""
    for none; unless `cut`, its first image is the last frame of that one, and it waits for it. `maker`: which guest of
    the page asked for it, "" for none. `again`: of a video that is made once more with all its settings, what decides
    its bits beside them, as plain data: `plan`, and `model_fingerprint` of the model that it was made with.
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
    request: Request = Request.NONE
    kind: JobKind = JobKind.VIDEO
    sound: SoundOrder | None = None
    position: float = 0.0
    worker: str = ""
    project: str = ""
    favourite: bool = False
    tags: tuple[str, ...] = ()
    source: str = ""
    cut: bool = False
    maker: str = ""
    again: Again | None = None

    @property
    def result_path(self) -> Path | None:
        """The video, None where there is none (any more)."""
        path = Path(self.result.path) if self.result else None
        return path if path is not None and path.is_file() else None

    @property
    def goes_on(self) -> bool:
        """Whether it begins where another video ends."""
        return bool(self.source) and not self.cut

    @property
    def is_whole(self) -> bool:
        """Whether it is finished with every step of it done."""
        return self.state == JobState.FINISHED and self.finished_early is None

    @property
    def finished_early(self) -> Notice | None:
        """The notice that tells after which step of how many the video was decoded, None for a whole one."""
        return next((notice for notice in self.notices if notice.code == FINISHED_EARLY), None)


def key(id: object) -> str:
    """The id itself where it can be one, else "", which no job has: arbitrary text goes no further."""
    return id if isinstance(id, str) and ID.fullmatch(id) else ""


def asked_now(request: str) -> Request:
    """What the column `request` says is asked, without a wish that is kept beside it (asked.py). ValueError."""
    return Request(request.partition("+")[0])


def job_of_row(row: Row, folder: Path) -> Job:
    """A row of the table as a job; `folder` is the job's own.

    Raises ValueError, TypeError, KeyError or StudioError where the row does not hold one.
    """
    state, kind, request = JobState(row["state"]), JobKind(row["kind"]), asked_now(row["request"])
    settings, sound, again = read_stored(kind, row["settings"])
    if settings.first_image is not None:
        if not filenames.PICTURE_NAME.fullmatch(settings.first_image):
            raise ValueError("its picture is none of its own")
        settings = replace(settings, first_image=str(folder / settings.first_image))
    return Job(
        id=row["id"],
        kind=kind,
        sound=sound,
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
        stopping=state == JobState.RUNNING and request in STOPS,
        request=request,
        position=row["position"],
        worker=row["worker"],
        project=row["project"],
        favourite=bool(row["favourite"]),
        tags=tuple(json.loads(row["tags"])),
        source=row["source"],
        cut=bool(row["cut"]),
        maker=row["maker"],
        again=again,
    )


def _object(kind: type, text: str | None) -> Any:
    return None if text is None else kind(**json.loads(text))
