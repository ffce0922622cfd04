"""The loop of the worker process: take a job, run it, write down how it ended; release the device when idle.

A process of its own, so that a crash, a CUDA error or kill -9 costs one job and never the page (supervisor.py starts
it and reports what killed it). It ends in order, its job marked INTERRUPTED, when asked by a signal or when its parent
is gone.
"""

import logging
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Protocol, TypeVar

from studio.errors import Cancelled, StudioError
from studio.events import Event, Failed, Finished, notice
from studio.messages import message
from studio.queue.chains import with_picture
from studio.queue.clock import CLOCK, Clock
from studio.queue.job import STOPS, Job, JobState, Request
from studio.queue.jobs import SHARP, JobQueue
from studio.queue.kinds import JobKind
from studio.queue.log import job_in_log

FRESH_PROCESS = 75  # exit code (EX_TEMPFAIL): all is written down, a new process should take over
POLL_SECONDS = 0.1  # between two looks into an empty queue
ASKED_SECONDS = 0.05  # between two looks at what is asked of the running job
RETRY_SECONDS = 1.0  # between two tries to write down how a job ended
GRACE_SECONDS = 20.0  # for the job in work, when the process has to end
WORKER = "local"  # the name of a queue's only worker; several have those of their devices
SOUND_WORKER = "sound"  # the one of the jobs that make sound

Emit = Callable[[Event], None]
T = TypeVar("T")

_log = logging.getLogger(__name__)


class Runner(Protocol):
    """What makes the jobs of a worker."""

    def run(self, job: Job, emit: Emit, orders: "Orders") -> Finished:
        """Make the job's result. The orders are cheap enough for every block."""
        ...

    def after(self, job: Job, result: Finished) -> None:
        """What is left to do once the job's end is written down. An error in it is logged and harms no job."""
        ...

    def release(self) -> None:
        """Release the memory: no job for a while, or no further one."""
        ...

    def aside(self, acquire: Callable[[], bool]) -> bool:
        """Between two jobs: one small thing that is asked for, with the device where `acquire` gets it. False where
        there was nothing to do. An error that is no StudioError ends the process as one of a job does."""
        ...

    def idle(self) -> None:
        """After each job, and ten times a second while none waits: what is worth doing ahead of the next one. It takes
        no memory of a device. An error in it is logged."""
        ...


class Orders(Protocol):
    """What people want of a job while it runs."""

    def stop(self) -> bool:
        """Raise Cancelled once it is true."""
        ...

    def finish(self) -> bool:
        """Decode what is there after this step, and end."""
        ...

    def sharp(self) -> bool:
        """Decode previews."""
        ...


class Device(Protocol):
    """What a worker computes on, as DeviceLock; held: whether it is this worker's now."""

    @property
    def held(self) -> bool: ...

    def acquire(self) -> bool:
        """Try once to have it."""
        ...

    def wait(self, on_wait: Callable[[str], None] | None = None, cancelled: Callable[[], bool] = ...) -> None:
        """Have it, however long that takes. Raises Cancelled."""
        ...

    def release(self) -> None:
        """Give it up; nothing happens where it is not held."""
        ...


class Stop:
    """Whether this process was asked to end. A plain flag: an Event may deadlock when set by a signal handler.

    grace_seconds: from the parent's death to the end of this process, whatever it is doing.
    """

    def __init__(self, grace_seconds: float = GRACE_SECONDS) -> None:
        self.asked, self._grace_seconds = False, grace_seconds

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
        time.sleep(self._grace_seconds)
        os._exit(1)  # stuck: nobody is left to end it


def work(
    queue: JobQueue,
    runner: Runner,
    *,
    stop: Stop,
    device: Device | None = None,
    idle_seconds: float = 30.0,
    clock: Clock = CLOCK,
    name: str = WORKER,
    kind: JobKind = JobKind.VIDEO,
) -> int:
    """Work the jobs of that kind until `stop.asked`; returns the exit code of the process.

    name: by which jobs are taken. One of several takes none while another program has its device.

    The device is locked from the first job until `idle_seconds` without one; then the runner releases its memory, and
    the lock is released. An error that is no StudioError ends the loop with FRESH_PROCESS: nobody knows what it left
    behind (after a CUDA error, every call on the device fails).
    """
    last, busy = clock.monotonic(), False
    while not stop.asked:
        did = caught(lambda: runner.aside(lambda: device is None or device.held or device.acquire()))
        if isinstance(did, Exception) and not isinstance(did, StudioError):
            _log.error("between two jobs: %s", did, exc_info=did)
            return FRESH_PROCESS
        if did is True:
            busy, last = True, clock.monotonic()
            continue
        job = _claim(queue, clock, name, None if name == WORKER else device, kind)
        if job is not None:
            busy, attempt = True, _Attempt(queue, job, stop, device, clock)
            with job_in_log(job.id):
                if not attempt.carry_out(runner):
                    return FRESH_PROCESS
            # Whoever pauses wants the device now, unless another job goes on with it.
            last = clock.monotonic() - (idle_seconds if attempt.asked in (Request.PAUSE, Request.HOLD) else 0.0)
            _idle(runner)  # a queue that never empties has its upkeep too
            continue
        if busy and clock.monotonic() - last >= idle_seconds:
            _release(runner, device)
            busy = False
        elif not busy:
            _idle(runner)
        clock.sleep(POLL_SECONDS)
    if busy:
        _release(runner, device)
    return 0


def _claim(queue: JobQueue, clock: Clock, name: str, device: Device | None, kind: JobKind) -> Job | None:
    """Take a job; with a device, only where that is free: another worker may begin what this one could not."""
    held = device is not None and device.held
    try:
        if device is not None and not held and not (queue.waits(kind) and device.acquire()):
            return None
        job = queue.claim(name, kind)
    except StudioError as error:  # a full disk: the jobs wait until there is space again
        _log.warning("no job can be taken: %s", error)
        clock.sleep(RETRY_SECONDS)
        job = None
    if job is None and device is not None and not held:
        device.release()
    return job


def is_of(worker: str, name: str) -> bool:
    """Whether a job's worker belongs to the process of that name: it itself, or "name/card" of a cluster."""
    return worker == name or worker.startswith(f"{name}/")


def worker_file(name: str) -> str:
    """The name, without its ending, of the log and of the last output of a worker."""
    return "worker" if name == WORKER else f"worker-{re.sub(r'[^a-z0-9]+', '-', name.lower())}"


def _idle(runner: Runner) -> None:
    if isinstance(error := caught(runner.idle), Exception):
        _log.warning("while idle: %s", error, exc_info=error)


def _release(runner: Runner, device: Device | None) -> None:
    runner.release()
    if device is not None:
        device.release()


def caught(call: Callable[[], T]) -> T | Exception:
    """What `call` returns or raises: the one boundary at which any error of a job is caught."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - whatever happens fails this job alone
        return error


class _Attempt:
    """One run of one job."""

    def __init__(self, queue: JobQueue, job: Job, stop: Stop, device: Device | None, clock: Clock) -> None:
        self._queue, self._job, self._stop, self._device, self._clock = queue, job, stop, device, clock
        self.asked, self._read_at = Request.NONE, -ASKED_SECONDS

    def carry_out(self, runner: Runner) -> bool:
        """Run the job and write down how it ended; False when this process should not go on."""
        job = self._job
        _log.info("attempt %d: %s, %s", job.attempts, job.kind, job.settings.model)
        outcome = caught(lambda: self._run(runner))
        match outcome:
            case Finished():
                ended = self._end(JobState.FINISHED, result=outcome)
                return not ended or self._after(runner, outcome)
            case Cancelled():
                self._stopped()
            case StudioError():
                _log.warning("failed: %s", outcome)
                self._end(JobState.FAILED, error=Failed(outcome.code, outcome.values, str(outcome)))
            case _:
                _log.error("failed unexpectedly", exc_info=outcome)
                self._end(JobState.FAILED, error=_unexpected(outcome))
                return False
        return True

    def _run(self, runner: Runner) -> Finished:
        if self._device is not None:
            self._device.wait(self._note_holder, self.stop)
        return runner.run(with_picture(self._queue, self._job), self._emit, self)

    def stop(self) -> bool:
        """Orders.stop: also where this process is asked to end."""
        return self._look() in STOPS or self._stop.asked

    def finish(self) -> bool:
        """Orders.finish."""
        return self._look() in (Request.FINISH, Request.DECODE)

    def sharp(self) -> bool:
        """Orders.sharp."""
        try:
            return bool(self._queue.option(SHARP))
        except StudioError:
            return False

    def _after(self, runner: Runner, result: Finished) -> bool:
        error = caught(lambda: runner.after(self._job, result))
        if error is not None:
            _log.error("after the job: %s", error, exc_info=error)
        return error is None or isinstance(error, StudioError | OSError)

    def _stopped(self) -> None:
        """The job stopped between blocks: it becomes what was asked of it."""
        if self._stop.asked and self.asked not in STOPS:
            self._end(JobState.INTERRUPTED)
        else:
            self._write(lambda: self._queue.stopped(self._job.id), "stopped")

    def _end(self, state: JobState, *, result: Finished | None = None, error: Failed | None = None) -> bool:
        """Write the end down. False where this process was asked to end before it could."""
        return self._write(lambda: self._queue.finish(self._job.id, state, result=result, error=error), state)

    def _write(self, write: Callable[[], object], what: str) -> bool:
        """Try again while the disk is full: the work is done and must not be lost."""
        while True:
            try:
                write()
                break
            except StudioError as problem:
                _log.error("the end of the job (%s) cannot be written yet: %s", what, problem)
                if self._stop.asked:
                    return False
                self._clock.sleep(RETRY_SECONDS)
        _log.info("%s", what)
        return True

    def _emit(self, event: Event) -> None:
        try:
            self._queue.record(self._job.id, event)
        except StudioError as error:  # hours of work do not end because a progress line found no space
            _log.warning("%s was not recorded: %s", type(event).__name__, error)

    def _look(self) -> Request:
        """What is asked of the job, read at most every ASKED_SECONDS. A wish to stop may still be withdrawn: what the
        queue says at the end counts (JobQueue.stopped)."""
        now = self._clock.monotonic()
        if self.asked not in STOPS and now - self._read_at >= ASKED_SECONDS:
            self._read_at = now
            try:
                self.asked = self._queue.request(self._job.id)
            except StudioError as error:
                _log.warning("whether to stop cannot be read: %s", error)
        return self.asked

    def _note_holder(self, holder: str) -> None:
        said = notice("device_busy", holder=holder or "?")
        _log.info(said.text)
        self._emit(said)


def _unexpected(error: Exception) -> Failed:
    values = {"kind": type(error).__name__, "reason": str(error).strip() or "-"}
    return Failed("unexpected", values, message("unexpected", values))
