"""What results take on disk, looked at once a minute at most."""

from collections.abc import Callable
from time import monotonic

from studio.queue.disk import Use, disk_use
from studio.queue.gallery import Gallery
from studio.queue.jobs import JobQueue

FRESH_SECONDS = 60.0


class DiskGauge:
    """clock: seconds."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock, self._seen_at, self._use = clock, -FRESH_SECONDS, Use()

    def look(self, queue: JobQueue, gallery: Gallery) -> Use:
        """Bytes by kind, a minute old at most."""
        now = self._clock()
        if now - self._seen_at >= FRESH_SECONDS:
            self._use, self._seen_at = disk_use(queue, gallery.folder), now
        return self._use
