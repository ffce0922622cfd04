"""Keeps one worker process alive from within the page's process, and reports what killed it."""

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from studio.errors import StudioError
from studio.events import Failed
from studio.host_memory import ram_in_use
from studio.messages import message
from studio.queue.clock import Clock
from studio.queue.job import JobState
from studio.queue.jobs import JobQueue
from studio.queue.worker import FRESH_PROCESS, is_of, worker_file
from studio.units import GB

POLL_SECONDS = 0.1
RETRY_SECONDS = 1.0  # between two tries to write into the queue
FIRST_DELAY, LAST_DELAY = 0.5, 30.0  # seconds before the successor of a worker that could not start; doubled each time
YOUNG_SECONDS = 20.0  # one that died younger than this, without a job, could not start
LAST_OUTPUT_BYTES = 2048

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Keeping:
    """How workers are kept. lock_file: what every worker inherits, the descriptor of the owner's lock; grace_seconds:
    from being asked to end until it is killed."""

    lock_file: int
    grace_seconds: float
    clock: Clock


class WorkerProcess:
    """The worker `name` of a queue: `command`, started again whenever it ends, until `stop`.

    The jobs that it ran when it died are FAILED with the reason; the jobs of other workers are not its concern.
    """

    def __init__(self, queue: JobQueue, name: str, command: Sequence[str]) -> None:
        self.name, self._queue, self._command = name, queue, list(command)
        self._wake, self._stopping = threading.Event(), False
        self._process: subprocess.Popen[bytes] | None = None
        self._memory = (0, 0)  # used and in all, while the worker last ran
        self._output_path = queue.folder / f"{worker_file(name)}.err"
        self.trouble: Failed | None = None  # why the worker cannot start, while that is so
        self.since = 0.0  # Unix seconds at which the process was started

    @property
    def pid(self) -> int | None:
        """The process id, None while there is none."""
        process = self._process
        return process.pid if process and process.poll() is None else None

    def stop(self) -> None:
        """Let `keep` end, and the process in order with it (its job is INTERRUPTED)."""
        self._stopping = True
        self._wake.set()

    def keep(self, keeping: Keeping) -> None:
        """Keep a process until `stop`."""
        delay, clock = 0.0, keeping.clock
        while not self._stopping:
            began = clock.monotonic()
            reason = self._run(keeping)
            died_young = clock.monotonic() - began < YOUNG_SECONDS
            at_work = self._end_running(reason, clock) > 0
            self.trouble = reason if died_young and not at_work else None
            delay = min(max(2 * delay, FIRST_DELAY), LAST_DELAY) if self.trouble else 0.0
            self._pause(delay, clock)

    def _run(self, keeping: Keeping) -> Failed | None:
        """One process from start to end: why it died, None when it ended in order."""
        clock = keeping.clock
        try:
            with self._output_path.open("wb") as output:
                process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,  # Ctrl-C in the terminal reaches the page alone, which ends the worker
                    pass_fds=(keeping.lock_file,),
                )
        except OSError as error:
            return _failed("worker_exited", status="-", words=str(error))
        self._process, self.since, began = process, clock.now(), clock.monotonic()
        _log.info("worker %s, process %d, started", self.name, process.pid)
        while process.poll() is None and not self._stopping:
            self._memory = ram_in_use()
            self._pause(POLL_SECONDS, clock)
            if clock.monotonic() - began >= YOUNG_SECONDS:
                self.trouble = None
        asked = process.poll() is None
        _end(process, keeping.grace_seconds)
        _log.info("worker %s, process %d, ended with code %s", self.name, process.pid, process.returncode)
        if asked or process.returncode == FRESH_PROCESS:
            return None
        last = self._last_output()
        _log.error("its last output:\n%s", last or "-")
        return self._reason(process.returncode, (last.splitlines() or ["-"])[-1])

    def _end_running(self, reason: Failed | None, clock: Clock) -> int:
        """Its running jobs have no worker any more: FAILED with the reason, INTERRUPTED without. Returns how many."""
        while True:
            try:
                if reason is None:
                    return len(self._queue.interrupt_running(self.name))
                running = [job for job in self._queue.list([JobState.RUNNING]) if is_of(job.worker, self.name)]
                return sum(self._queue.finish(job.id, JobState.FAILED, error=reason) for job in running)
            except StudioError as error:
                _log.error("the end of the worker cannot be written yet: %s", error)
                if self._stopping:
                    return 0
                self._pause(RETRY_SECONDS, clock)

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
            return self._output_path.read_bytes()[-LAST_OUTPUT_BYTES:].decode("utf-8", errors="replace").strip()
        except OSError:
            return ""

    def _pause(self, seconds: float, clock: Clock) -> None:
        """Sleep, unless stop is called."""
        clock.wait(self._wake, seconds)
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
