"""The slim bar: what runs, on which device where there are several, and how full VRAM and RAM are."""

import time

from studio.messages import message
from studio.queue.job import JobState
from studio.service.backend import Backend
from studio.service.rights import limit
from studio.ui import markup
from studio.ui.job_panels import percent_of
from studio.ui.labels import Updates, html
from studio.ui.worker_lines import worker_lines

USAGE_SECONDS = 2.0  # however many pages are open, the machine is asked no more often


class SystemBar:
    """Read anew at every look."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._asked_at, self._usage = -USAGE_SECONDS, dict[str, float | None]()
        self.bar = html(elem_id="system")
        self.banner = html(elem_id="banner")

    def look(self, language: str) -> Updates:
        """The bar, and a banner where nothing can run here."""
        queue = self.backend.queue
        running, waiting = (queue.count([state]) for state in (JobState.RUNNING, JobState.QUEUED))
        percent = next((percent_of(job) for job in queue.list((JobState.RUNNING,), limit=1)), "")
        told = [] if self.backend.owner() else [message("queue_elsewhere", {}, language)]
        if code := limit():
            told.append(message(code, {}, language))
        if trouble := self.backend.trouble():
            told.append(markup.sentence(trouble, language))
        return {
            self.bar: markup.system_bar(self._memory(), running, waiting, language, percent)
            + worker_lines(self.backend.workers(), language),
            self.banner: markup.alert(told, "warn"),
        }

    def _memory(self) -> dict[str, float | None]:
        if time.monotonic() - self._asked_at > USAGE_SECONDS:
            self._asked_at, self._usage = time.monotonic(), dict(self.backend.usage())
        return self._usage
