"""Keeps one worker process alive from within the page's process, and reports what killed it."""

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence

from studio.errors import StudioError
from studio.events import Failed
from studio.host_memory import ram_in_use
from studio.messages import message
from studio.queue.clock import CLOCK, Clock
from studio.queue.job import JobState
from studio.queue.jobs import JobQueue
from studio.queue.locks import OwnerLock
from studio.queue.worker import FRESH_PROCESS, GRACE_SECONDS
from studio.units import GB

POLL_SECONDS = 0.1
RETRY_SECONDS = 1.0  # between two tries to own the queue, or to write into it
FIRST_DELAY, LAST_DELAY = 0.5, 30.0  # seconds before the successor of a worker that could not start; doubled each time
YOUNG_SECONDS = 20.0  # one that died younger than this, without a job, could not start
LAST_OUTPUT_BYTES = 2048

_log = logging.getLogger(__name__)


class Supervisor:
    """Runs `command` as the one worker of `queue`, as long as this process owns the queue.

    The worker inherits the owner lock, so that nobody else owns the queue while a worker still ends; it notices the
    end of this process by its stdin. A second page owns nothing: it shows, and its jobs are worked by the owner's
    worker; it takes over when the owner is gone. A worker that is asked to end is killed after `grace_seconds`.
    """

    def __init__(
        self,
        queue: JobQueue,
        command: Sequence[str],
        *,
        purpose: str = "the page",
        grace_seconds: float = GRACE_SECONDS,
        clean: Callable[[], object] = lambda: None,
        clock: Clock = CLOCK,
    ) -> None:
        """clean: called once the queue is this process's, before there is a worker."""
        self._queue, self._command = queue, list(command)
        self._grace_seconds, self._clean, self._clock = grace_seconds, clean, clock
        self._lock = OwnerLock(queue.folder, purpose)
        self._wake, self._stopping = threading.Event(), False
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._memory = (0, 0)  # used and in all, while the worker last ran
        self._stderr_path = queue.folder / "worker.err"
        self.trouble: Failed | None = None  # why the worker cannot start, while that is so

    @property
    def owns(self) -> bool:
        """Whether this process is the one that works the queue."""
        return self._lock.held

    @property
    def pid(self) -> int | None:
        """The worker's process id, None while there is none."""
        process = self._process
        return process.pid if process and process.poll() is None else None

    def start(self) -> None:
        """Own the queue if it is free (see `owns`) and keep a worker from now on."""
        self._lock.acquire()
        self._thread = threading.Thread(target=self._loop, name="supervisor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the worker in order (its job is INTERRUPTED) and release the queue."""
        self._stopping = True
        self._wake.set()
        if self._thread:
            self._thread.join()
        self._lock.release()

    def _loop(self) -> None:
        while not self._stopping:
            if self._own():
                self._end_running(None)  # whoever ran them is gone: the lock was free
                self._clean_up()
                self._keep_worker()
            else:
                self._pause(RETRY_SECONDS)

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

    def _keep_worker(self) -> None:
        delay = 0.0
        while not self._stopping:
            began = self._clock.monotonic()
            reason = self._run_worker()
            died_young = self._clock.monotonic() - began < YOUNG_SECONDS
            at_work = self._end_running(reason) > 0
            self.trouble = reason if died_young and not at_work else None
            delay = min(max(2 * delay, FIRST_DELAY), LAST_DELAY) if self.trouble else 0.0
            self._pause(delay)

    def _run_worker(self) -> Failed | None:
        """One worker from start to end: why it died, None when it ended in order."""
        try:
            with self._stderr_path.open("wb") as output:
                process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,  # Ctrl-C in the terminal reaches the page alone, which ends the worker
                    pass_fds=(self._lock.fileno(),),
                )
        except OSError as error:
            return _failed("worker_exited", status="-", words=str(error))
        self._process, began = process, self._clock.monotonic()
        _log.info("worker %d started", process.pid)
        while process.poll() is None and not self._stopping:
            self._memory = ram_in_use()
            self._pause(POLL_SECONDS)
            if self._clock.monotonic() - began >= YOUNG_SECONDS:
                self.trouble = None
        asked = process.poll() is None
        _end(process, self._grace_seconds)
        _log.info("worker %d ended with code %s", process.pid, process.returncode)
        if asked or process.returncode == FRESH_PROCESS:
            return None
        last = self._last_output()
        _log.error("its last output:\n%s", last or "-")
        return self._reason(process.returncode, (last.splitlines() or ["-"])[-1])

    def _end_running(self, reason: Failed | None) -> int:
        """Running jobs have no worker any more: FAILED with the reason, INTERRUPTED without. Returns their number."""
        while True:
            try:
                if reason is None:
                    return len(self._queue.interrupt_running())
                running = self._queue.list([JobState.RUNNING])
                return sum(self._queue.finish(job.id, JobState.FAILED, error=reason) for job in running)
            except StudioError as error:
                _log.error("the end of the worker cannot be written yet: %s", error)
                if self._stopping:
                    return 0
                self._pause(RETRY_SECONDS)

    def _reason(self, code: int, last_line: str) -> Failed:
        """An exit code as a sentence; negative ones are signals. `last_line`: of its stderr."""
        if code == -signal.SIGKILL:
            used, total = self._memory
            return _failed("worker_killed", used_gb=used / GB, total_gb=total / GB)
        if code < 0:
            return _failed("worker_crashed", signal=signal.strsignal(-code) or -code, words=last_line)
        return _failed("worker_exited", status=code, words=last_line)

    def _last_output(self) -> str:
        """The end of what the worker wrote to its stderr."""
        try:
            return self._stderr_path.read_bytes()[-LAST_OUTPUT_BYTES:].decode("utf-8", errors="replace").strip()
        except OSError:
            return ""

    def _pause(self, seconds: float) -> None:
        """Sleep, unless stop is called."""
        self._clock.wait(self._wake, seconds)
        self._wake.clear()


def _end(process: subprocess.Popen[bytes], grace_seconds: float) -> None:
    """Ask the worker to end, and kill it when it does not. It is the leader of a process group of its own."""
    if process.stdin is not None:
        process.stdin.close()
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(grace_seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _failed(code: str, **values: object) -> Failed:
    return Failed(code, values, message(code, values))
