"""The slim bar: what runs, and how full VRAM and RAM are."""

from studio.jobs import JobState
from studio.ui import markup
from studio.ui.backend import Backend
from studio.ui.labels import Updates, html
from studio.ui.strings import say


class SystemBar:
    """Read anew at every look; nothing is kept."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.bar = html(elem_id="system")
        self.banner = html(elem_id="banner")

    def look(self, language: str) -> Updates:
        """The bar, and a banner where nothing can run here."""
        queue = self.backend.queue
        running, waiting = (len(queue.list(states=(state,))) for state in (JobState.RUNNING, JobState.QUEUED))
        told = [] if self.backend.owner() else [say("app.watching", language)]
        if trouble := self.backend.trouble():
            told.append(markup.sentence(trouble, language))
        return {
            self.bar: markup.system_bar(self.backend.usage(), running, waiting, language),
            self.banner: markup.alert(told, "warn"),
        }
