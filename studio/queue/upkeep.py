"""What is done now and then while a queue is worked: removed jobs go for good, and what is beyond a limit."""

from studio.config import StudioConfig
from studio.queue.clock import CLOCK, Clock
from studio.queue.disk import keep_within
from studio.queue.jobs import JobQueue
from studio.queue.trash import Trash
from studio.units import GB

TIDY_SECONDS = 60.0  # between two looks into the trash
CAP_SECONDS = 600.0  # between two looks at what latents and first images take


class Upkeep:
    """Called as often as one likes, it looks into the trash of `queue` once a minute, at the limits of `config` less
    often. For whoever works the queue, also where its jobs are made on other machines."""

    def __init__(self, queue: JobQueue, config: StudioConfig, clock: Clock = CLOCK) -> None:
        self._trash, self._queue, self._config, self._clock = Trash(queue), queue, config, clock
        self._tidied_at = self._capped_at = -float("inf")

    def __call__(self) -> None:
        """Raises StudioError, OSError: what is left is done another time."""
        now = self._clock.monotonic()
        if now - self._tidied_at >= TIDY_SECONDS:
            self._tidied_at = now
            self._trash.purge()
        if now - self._capped_at >= CAP_SECONDS:
            self._capped_at = now
            keep_within(self._queue, self._config.latents_gb * GB, self._config.originals_gb * GB)
