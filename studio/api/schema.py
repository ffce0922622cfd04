"""A job as the video of the dialect, with our own fields beside; and pages of them."""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from studio.api.provenance import provenance
from studio.config import ModelConfig
from studio.errors import InputError
from studio.messages import message
from studio.queue.job import ENDED, Job, JobState
from studio.queue.jobs import JobQueue
from studio.queue.kinds import JobKind
from studio.settings import FPS

PREFIX = "video_"  # of ids
STATUSES = {
    JobState.QUEUED: "queued",
    JobState.RUNNING: "in_progress",
    JobState.FINISHED: "completed",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "failed",
    JobState.INTERRUPTED: "failed",
}
WAITING = "queued"  # the status of any other state: the job has not ended
# Percent at which a phase begins and ends; within, the steps divide it.
SHARES = {"load": (0, 2), "encode_text": (2, 4), "encode_image": (4, 5), "denoise": (5, 90), "decode": (90, 99)}
LAST_SHARE = (99, 99)
# The error of a job that was stopped: its code, and that of its sentence.
STOPPED = {
    JobState.CANCELLED: ("cancelled", "video_cancelled"),
    JobState.INTERRUPTED: ("interrupted", "video_interrupted"),
}
READ_AGAIN = 3  # times at most that a page is read again because the queue changed meanwhile


def video_id(id: str) -> str:
    """A job's id as clients see it."""
    return PREFIX + id


def job_id(text: str) -> str:
    """A client's text as a job's id, which need not exist."""
    return text.removeprefix(PREFIX) if text.startswith(PREFIX) else ""


def video(job: Job, ahead: int, language: str = "en") -> dict[str, Any]:
    """The video object. ahead: how many jobs come before it. language: of sentences."""
    settings, progress = asdict(job.settings), job.progress
    width, height, frames = settings.pop("width"), settings.pop("height"), settings["num_frames"]
    source = provenance(job.folder).remixed_from
    result = job.result
    return {
        "id": video_id(job.id),
        "object": "video",
        "status": STATUSES.get(job.state, WAITING),
        "progress": percent(job),
        "created_at": int(job.created),
        "completed_at": int(job.ended) if job.ended and job.state == JobState.FINISHED else None,
        "expires_at": None,
        "seconds": f"{frames / FPS:g}",
        "size": f"{width}x{height}",
        "remixed_from_video_id": video_id(source) if source else None,
        "error": _error(job, language),
        **settings,
        "width": width,
        "height": height,
        "fps": FPS,
        "first_image": job.settings.first_image is not None,
        "state": job.state,
        "phase": job.phase,
        "step": progress.step if progress else None,
        "steps": progress.steps if progress else None,
        "eta_s": round(progress.seconds_left, 1) if progress and progress.seconds_left is not None else None,
        "ahead": ahead,
        "worker": job.worker or None,
        "started_at": int(job.started) if job.started else None,
        "stopping": job.stopping,
        "resumable": job.resumable,
        "attempts": job.attempts,
        "notices": [message(notice.code, notice.values, language) for notice in job.notices],
        "file_name": result.path.rpartition("/")[2] if result else None,
        "inference_time_s": round(sum(result.seconds.values()), 3) if result else None,
        "stage_durations": dict(result.seconds) if result else None,
        "peak_memory_mb": result.vram_peak_bytes >> 20 if result else None,
    }


def percent(job: Job) -> int:
    """0 to 100; it never falls within one attempt."""
    if job.state == JobState.FINISHED:
        return 100
    if job.state != JobState.RUNNING:
        return 0
    low, high = SHARES.get(job.phase, LAST_SHARE if job.phase else (0, 0))
    done = job.progress.step / job.progress.steps if job.progress and job.progress.steps else 0.0
    return int(low + (high - low) * done)


def model(config: ModelConfig) -> dict[str, Any]:
    """A model as GET /v1/models lists it."""
    return {
        "id": config.name,
        "object": "model",
        "created": 0,
        "owned_by": config.sources.get("hf", "step-video-studio").partition("/")[0],
        "title": config.title["en"],
        "takes_text_alone": config.takes_text_alone,
        "takes_image": config.takes_image,
        "max_frames": config.max_frames,
        "sizes": [f"{width}x{height}" for height, width in config.sizes],
        "defaults": dict(config.defaults),
    }


def _error(job: Job, language: str) -> Mapping[str, Any] | None:
    if job.state in STOPPED:
        code, sentence = STOPPED[job.state]
        return {"code": code, "message": message(sentence, {}, language)}
    if job.state == JobState.FAILED and job.error:
        return {"code": job.error.code, "message": message(job.error.code, job.error.values, language)}
    return None


@dataclass(frozen=True)
class Page:
    """Jobs of a page, and whether others follow it."""

    jobs: list[Job]
    has_more: bool


def page(queue: JobQueue, limit: int, after: str | None, *, newest_first: bool) -> Page:
    """The next `limit` videos behind the one with the job id `after`. Raises InputError where that is none."""
    for _ in range(READ_AGAIN):
        version = queue.version()
        before = _place(queue, after) if after is not None else None
        if newest_first:
            jobs = queue.list(limit=limit + 1, offset=0 if before is None else before + 1)
        else:
            end = queue.count() if before is None else before
            begin = max(end - limit - 1, 0)
            jobs = queue.list(limit=end - begin, offset=begin)[::-1]
        if queue.version() == version:
            break
    videos = [job for job in jobs[:limit] if job.kind == JobKind.VIDEO]
    return Page(videos, len(jobs) > limit)


def _place(queue: JobQueue, id: str) -> int:
    """How many jobs are newer than this one."""
    if (job := queue.get(id)) is None:
        raise InputError("video_absent", value=video_id(id), field="after")
    times = [-time for time in queue.times()]
    first = bisect_left(times, -job.created)
    same = bisect_right(times, -job.created) - first  # asked for in the same moment
    for place, other in enumerate(queue.list(limit=max(same, 1), offset=first)):
        if other.id == id:
            return first + place
    return first


def ended(job: Job) -> bool:
    """Whether nothing more happens to the job by itself."""
    return job.state in ENDED
