"""When what waits will be done, by the clock."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from studio.queue.job import Job, JobState
from studio.queue.jobs import HELD
from studio.queue.kinds import JobKind
from studio.service.backend import Backend
from studio.settings import ResolvedSettings

KEPT_SECONDS = 30.0  # an estimate learns from every job; asked anew for every row it would be slow
Clock = Callable[[], float]  # Unix seconds


class Schedule:
    """Estimates of whole videos, added up along the line."""

    def __init__(self, backend: Backend, clock: Clock = time.time) -> None:
        self._backend, self._clock = backend, clock
        self._known: dict[ResolvedSettings, tuple[float, float | None]] = {}

    def ends(self, jobs: Sequence[Job]) -> list[float | None]:
        """Unix seconds at which each of these ends, given in the order of running. None: nobody can tell (a paused job
        or queue, or a job before it whose time is unknown; a job that makes sound)."""
        held = bool(self._backend.queue.option(HELD))
        at: float | None = None if held else self._clock()
        found: list[float | None] = []
        for job in jobs:
            if job.state == JobState.PAUSED or job.kind is not JobKind.VIDEO:  # sound is made beside the videos
                found.append(None)
                continue
            seconds = self._left(job) if job.state == JobState.RUNNING else self._whole(job.settings)
            at = None if at is None or seconds is None else at + seconds
            found.append(at)
        return found

    def _left(self, job: Job) -> float | None:
        """Seconds that a running job still takes."""
        whole, progress = self._whole(job.settings), job.progress
        if progress and progress.phase == "denoise" and progress.seconds_left is not None:
            after = 0.0 if whole is None else max(whole - progress.seconds - progress.seconds_left, 0.0)
            return progress.seconds_left + after
        if whole is None or job.started is None:
            return None
        return max(whole - (self._clock() - job.started), 0.0)

    def _whole(self, settings: ResolvedSettings) -> float | None:
        """Seconds of a whole video; words and seed do not matter."""
        key = replace(
            settings, prompt="", negative_prompt="", seed=0, first_image="x" if settings.first_image else None
        )
        asked, seconds = self._known.get(key, (-KEPT_SECONDS, None))
        if self._clock() - asked >= KEPT_SECONDS:
            model = self._backend.models.get(settings.model)
            seconds = self._backend.plan(key).get("seconds_total") if model else None
            self._known[key] = (self._clock(), seconds)
        return seconds
