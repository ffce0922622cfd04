"""The loop of the worker process: take a job, run it, write down how it ended; let go of the device when idle.

A process of its own, so that a crash, a CUDA error or kill -9 costs one job and never the page (supervisor.py starts
it and tells what killed it). It ends in order, its job marked INTERRUPTED, when asked by a signal or when its parent
is gone.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

from studio.errors import Cancelled, StudioError
from studio.events import Event, Failed, Finished, Notice
from studio.messages import message
from studio.queue.job import Job, JobState
from studio.queue.jobs import JobQueue
from studio.queue.locks import DeviceLock
from studio.queue.log import job_in_log

FRESH_PROCESS = 75  # exit code (EX_TEMPFAIL): all is written down, a new process should take over
POLL_SECONDS = 0.1  # between two looks into an empty queue
CANCEL_SECONDS = 0.05  # between two reads of the cancel mark
RETRY_SECONDS = 1.0  # between two tries to write down how a job ended
GRACE_SECONDS = 20.0  # from the parent's death to the end of this process, whatever it is doing

Emit = Callable[[Event], None]
IsCancelled = Callable[[], bool]
Run = Callable[[Job, Emit, IsCancelled], Finished]

_log = logging.getLogger(__name__)


class Stop:
    """Whether this process was asked to end. A plain flag: an Event may deadlock when set by a signal handler."""

    def __init__(self) -> None:
        self.asked = False

    def listen(self) -> None:
        """Hear SIGTERM, SIGINT and the end of stdin, a pipe that the parent holds open while it lives."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        threading.Thread(target=self._watch_parent, name="parent", daemon=True).start()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.asked = True

    def _watch_parent(self) -> None:
        while os.read(0, 1024):
            continue
        self.asked = True
        time.sleep(GRACE_SECONDS)
        os._exit(1)  # stuck: nobody is left to end it


def work(
    queue: JobQueue,
    run: Run,
    idle: Callable[[], None],
    *,
    stop: Stop,
    device: DeviceLock | None = None,
    idle_seconds: float = 30.0,
) -> int:
    """Work the queue until `stop.asked`; returns the exit code of the process.

    run(job, emit, cancelled) makes the video; `cancelled` is cheap enough for every block. The device is locked from
    the first job until `idle_seconds` without one; then `idle` gives the memory back and the lock is let go. An error
    that is no StudioError ends the loop with FRESH_PROCESS: nobody knows what it left behind (after a CUDA error,
    every call on the device fails).
    """
    last = time.monotonic()
    busy = False
    while not stop.asked:
        job = _claim(queue)
        if job is not None:
            busy = True
            with job_in_log(job.id):
                if not _Attempt(queue, job, stop, device).carry_out(run):
                    return FRESH_PROCESS
            last = time.monotonic()
            continue
        if busy and time.monotonic() - last >= idle_seconds:
            _let_go(idle, device)
            busy = False
        time.sleep(POLL_SECONDS)
    if busy:
        _let_go(idle, device)
    return 0


def _claim(queue: JobQueue) -> Job | None:
    try:
        return queue.claim()
    except StudioError as error:  # a full disk: the jobs wait until there is space again
        _log.warning("no job can be taken: %s", error)
        time.sleep(RETRY_SECONDS)
        return None


def _let_go(idle: Callable[[], None], device: DeviceLock | None) -> None:
    idle()
    if device is not None:
        device.release()


class _Attempt:
    """One run of one job."""

    def __init__(self, queue: JobQueue, job: Job, stop: Stop, device: DeviceLock | None) -> None:
        self._queue, self._job, self._stop, self._device = queue, job, stop, device
        self._cancel, self._read_at = False, 0.0

    def carry_out(self, run: Run) -> bool:
        """Run the job and write down how it ended; False when this process should not go on."""
        job, sound = self._job, True
        _log.info("attempt %d: %s", job.attempts, job.settings.model)
        try:
            if self._device is not None:
                self._device.wait(self._tell_holder, self._cancelled)
            state, result, error = JobState.FINISHED, run(job, self._emit, self._cancelled), None
        except Cancelled:
            leaving = self._stop.asked and not self._cancel
            state, result, error = (JobState.INTERRUPTED if leaving else JobState.CANCELLED), None, None
        except StudioError as problem:
            _log.warning("failed: %s", problem)
            state, result, error = JobState.FAILED, None, Failed(problem.code, problem.values, str(problem))
        except Exception as problem:  # noqa: BLE001 - the one boundary: whatever happens fails this job alone
            _log.exception("failed unexpectedly")
            state, result, error, sound = JobState.FAILED, None, _unexpected(problem), False
        self._settle(state, result, error)
        return sound

    def _settle(self, state: JobState, result: Finished | None, error: Failed | None) -> None:
        """Write the end down, trying again while the disk is full: the work is done and must not be lost."""
        while True:
            try:
                self._queue.finish(self._job.id, state, result=result, error=error)
                break
            except StudioError as problem:
                _log.error("the end of the job (%s) cannot be written yet: %s", state, problem)
                if self._stop.asked:
                    return
                time.sleep(RETRY_SECONDS)
        _log.info("%s", state)

    def _emit(self, event: Event) -> None:
        try:
            self._queue.record(self._job.id, event)
        except StudioError as error:  # hours of work do not end because a progress line found no space
            _log.warning("%s was not recorded: %s", type(event).__name__, error)

    def _cancelled(self) -> bool:
        """Read the cancel mark at most every CANCEL_SECONDS."""
        now = time.monotonic()
        if not self._cancel and now - self._read_at >= CANCEL_SECONDS:
            self._read_at = now
            try:
                self._cancel = self._queue.cancel_requested(self._job.id)
            except StudioError as error:
                _log.warning("whether to stop cannot be read: %s", error)
        return self._cancel or self._stop.asked

    def _tell_holder(self, holder: str) -> None:
        values = {"holder": holder or "?"}
        text = message("device_busy", values)
        _log.info(text)
        self._emit(Notice("device_busy", values, text))


def _unexpected(error: Exception) -> Failed:
    values = {"kind": type(error).__name__, "reason": str(error).strip() or "-"}
    return Failed("unexpected", values, message("unexpected", values))
