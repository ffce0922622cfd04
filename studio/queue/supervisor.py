"""Owns a queue from within the page's process and keeps its workers, one per device."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence

from studio.errors import StudioError
from studio.events import Failed
from studio.queue.clock import CLOCK, Clock
from studio.queue.jobs import JobQueue
from studio.queue.locks import OwnerLock
from studio.queue.worker import GRACE_SECONDS
from studio.queue.worker_process import RETRY_SECONDS, Keeping, WorkerProcess

_log = logging.getLogger(__name__)


class Supervisor:
    """Runs the workers of `queue`, name -> command, as long as this process owns the queue.

    Each takes its jobs from the one queue by its name; what ends one concerns no other. They inherit the owner lock, so
    that nobody else owns the queue while a worker still ends; they notice the end of this process by their stdin. A
    second page owns nothing: it shows, and its jobs are worked by the owner's workers; it takes over when the owner is
    gone. A worker that is asked to end is killed after `grace_seconds`.
    """

    def __init__(
        self,
        queue: JobQueue,
        commands: Mapping[str, Sequence[str]],
        *,
        purpose: str = "the page",
        grace_seconds: float = GRACE_SECONDS,
        clean: Callable[[], object] = lambda: None,
        clock: Clock = CLOCK,
        beside: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """clean: called once the queue is this process's, before there is a worker. beside: further workers, whose jobs
        are of other kinds.
        """
        self._queue, self._grace_seconds, self._clean, self._clock = queue, grace_seconds, clean, clock
        self.workers = [WorkerProcess(queue, name, command) for name, command in commands.items()]
        self.beside = [WorkerProcess(queue, name, command) for name, command in (beside or {}).items()]
        self._lock = OwnerLock(queue.folder, purpose)
        self._wake, self._stopping = threading.Event(), False
        self._thread: threading.Thread | None = None

    @property
    def owns(self) -> bool:
        """Whether this process is the one that works the queue."""
        return self._lock.held

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers that are there."""
        return [pid for worker in self.workers if (pid := worker.pid) is not None]

    @property
    def trouble(self) -> Failed | None:
        """Why jobs cannot run at all: the first worker's reason where none can start, or that of one beside."""
        reasons = [worker.trouble for worker in self.workers]
        others = [worker.trouble for worker in self.beside]
        return reasons[0] if all(reasons) else next(filter(None, others), None)

    def start(self) -> None:
        """Own the queue if it is free (see `owns`) and keep the workers from now on."""
        self._lock.acquire()
        self._thread = threading.Thread(target=self._loop, name="supervisor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the workers in order (their jobs are INTERRUPTED) and release the queue."""
        self._stopping = True
        self._wake.set()
        for worker in (*self.workers, *self.beside):
            worker.stop()
        if self._thread:
            self._thread.join()
        self._lock.release()

    def _loop(self) -> None:
        while not (self._stopping or (self._own() and self._interrupted())):
            self._clock.wait(self._wake, RETRY_SECONDS)
        if self._stopping:
            return
        self._clean_up()
        keeping = Keeping(self._lock.fileno(), self._grace_seconds, self._clock)
        threads = [
            threading.Thread(target=worker.keep, args=(keeping,), name=f"keeps {worker.name}", daemon=True)
            for worker in (*self.workers, *self.beside)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _clean_up(self) -> None:
        try:
            self._clean()
        except (StudioError, OSError) as error:
            _log.warning("what was left cannot be removed: %s", error)

    def _own(self) -> bool:
        try:
            return self._lock.acquire()
        except StudioError as error:
            _log.error("the queue cannot be owned: %s", error)
            return False

    def _interrupted(self) -> bool:
        """Mark what runs as interrupted: whoever ran it is gone, since the lock was free."""
        try:
            self._queue.interrupt_running()
        except StudioError as error:
            _log.error("what was interrupted cannot be written yet: %s", error)
            return False
        return True
