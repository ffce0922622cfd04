"""The loop of the worker, in this process: how jobs end, cancel, idle, the device, a queue that takes no writes."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from studio.errors import Cancelled, StudioError
from studio.events import Finished, Notice, PhaseStarted
from studio.queue import worker
from studio.queue.job import Job, JobState
from studio.queue.jobs import JobQueue
from studio.queue.locks import DeviceLock
from studio.queue.worker import FRESH_PROCESS, Stop, work
from tests.queue.test_jobs import SETTINGS, finished

DONE = finished(Path("/out/a.mp4"))
CUT = Notice("text_cut", {"encoder": "clip", "limit": 77, "cut": 3}, "a cut")


@pytest.fixture
def queue(tmp_path: Path) -> JobQueue:
    return JobQueue(tmp_path / "queue")


class Loop:
    """`work` in a thread."""

    def __init__(self, queue: JobQueue, run: worker.Run, **options: object) -> None:
        self.stop, self.code, self.idled = Stop(), None, []
        options = {"idle": lambda: self.idled.append(time.monotonic()), "stop": self.stop, **options}
        self.thread = threading.Thread(target=lambda: setattr(self, "code", work(queue, run, **options)))
        self.thread.start()

    def end(self) -> int:
        self.stop.asked = True
        self.thread.join(10)
        assert not self.thread.is_alive()
        return self.code


@pytest.fixture
def start(queue: JobQueue) -> Iterator[Callable[..., Loop]]:
    loops = []

    def begin(run: worker.Run, **options: object) -> Loop:
        loops.append(Loop(queue, run, **options))
        return loops[-1]

    yield begin
    for loop in loops:
        loop.end()


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Wait for something another thread or process does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def until_cancelled(job: Job, emit: worker.Emit, cancelled: worker.IsCancelled) -> Finished:
    while not cancelled():
        time.sleep(0.001)
    raise Cancelled


def test_jobs_run_in_order_and_their_events_are_recorded(queue: JobQueue, start: Callable) -> None:
    ids, ran = [queue.submit(SETTINGS).id for _ in range(3)], []

    def run(job: Job, emit: worker.Emit, cancelled: worker.IsCancelled) -> Finished:
        ran.append(job.id)
        emit(PhaseStarted("decode"))
        emit(CUT)
        return DONE

    start(run)
    until(lambda: not queue.list([JobState.QUEUED, JobState.RUNNING]))
    assert ran == ids
    job = queue.get(ids[0])
    assert (job.state, job.result, job.phase, job.notices) == (JobState.FINISHED, DONE, "decode", (CUT,))


def test_a_failure_with_a_sentence_fails_one_job(queue: JobQueue, start: Callable) -> None:
    bad, good = queue.submit(SETTINGS).id, queue.submit(SETTINGS).id

    def run(job: Job, emit: worker.Emit, cancelled: worker.IsCancelled) -> Finished:
        if job.id == bad:
            raise StudioError("disk_full", folder=Path("/out"), free_gb=0.1, need_gb=2.0)
        return DONE

    loop = start(run)
    until(lambda: queue.get(good).state == JobState.FINISHED)
    job = queue.get(bad)
    assert job.state == JobState.FAILED and job.error.code == "disk_full" and job.resumable
    assert "/out has 0.10 GB free" in job.error.text
    assert loop.end() == 0


@pytest.mark.parametrize("error", [RuntimeError("CUDA error: misaligned address"), MemoryError(), KeyError("x")])
def test_an_unexpected_error_fails_the_job_and_asks_for_a_fresh_process(
    queue: JobQueue, start: Callable, error: Exception
) -> None:
    first, second = queue.submit(SETTINGS).id, queue.submit(SETTINGS).id

    def run(job: Job, emit: worker.Emit, cancelled: worker.IsCancelled) -> Finished:
        raise error

    loop = start(run)
    loop.thread.join(10)
    assert loop.code == FRESH_PROCESS
    assert queue.get(first).state == JobState.FAILED and type(error).__name__ in queue.get(first).error.text
    assert queue.get(second).state == JobState.QUEUED


def test_cancel_takes_effect_within_a_tenth_of_a_second(queue: JobQueue, start: Callable) -> None:
    job, seen = queue.submit(SETTINGS), []

    def run(job: Job, emit: worker.Emit, cancelled: worker.IsCancelled) -> Finished:
        try:
            return until_cancelled(job, emit, cancelled)
        finally:
            seen.append(time.monotonic())

    start(run)
    until(lambda: queue.get(job.id).state == JobState.RUNNING)
    asked = time.monotonic()
    queue.cancel(job.id)
    until(lambda: queue.get(job.id).state == JobState.CANCELLED)
    assert seen[0] - asked < 0.1 + 0.4  # 50 ms between reads; the rest is a busy machine


def test_the_cancel_mark_is_read_at_most_every_50_ms(
    queue: JobQueue, start: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    id, reads, polls = queue.submit(SETTINGS).id, [], []
    read = queue.cancel_requested
    monkeypatch.setattr(queue, "cancel_requested", lambda id: reads.append(time.monotonic()) or read(id))

    def run(job: Job, emit: worker.Emit, cancelled: worker.IsCancelled) -> Finished:
        while len(reads) < 5:
            polls.append(cancelled())
        return DONE

    start(run)
    until(lambda: queue.get(id).state == JobState.FINISHED)
    assert reads[4] - reads[0] >= 4 * 0.05 and len(polls) > 100


def test_an_orderly_stop_interrupts_the_running_job(queue: JobQueue, start: Callable) -> None:
    running, waiting = queue.submit(SETTINGS).id, queue.submit(SETTINGS).id
    loop = start(until_cancelled)
    until(lambda: queue.get(running).state == JobState.RUNNING)
    assert loop.end() == 0
    assert queue.get(running).state == JobState.INTERRUPTED and queue.get(running).resumable
    assert queue.get(waiting).state == JobState.QUEUED


def test_a_stop_after_the_user_cancelled_leaves_it_cancelled(queue: JobQueue, start: Callable) -> None:
    id = queue.submit(SETTINGS).id

    def run(job: Job, emit: worker.Emit, cancelled: worker.IsCancelled) -> Finished:
        try:
            return until_cancelled(job, emit, cancelled)
        finally:
            loop.stop.asked = True

    loop = start(run)
    until(lambda: queue.get(id).state == JobState.RUNNING)
    queue.cancel(id)
    loop.thread.join(10)
    assert queue.get(id).state == JobState.CANCELLED


def test_the_device_is_let_go_when_idle_and_held_between_jobs(queue: JobQueue, start: Callable, tmp_path: Path) -> None:
    device, other = (DeviceLock(tmp_path, "cuda:0", who) for who in ("the worker", "somebody"))
    loop = start(lambda *_: DONE, device=device, idle_seconds=0.4)
    time.sleep(0.05)
    assert other.acquire(), "a worker without a job needs no device"
    other.release()
    id = queue.submit(SETTINGS).id
    until(lambda: queue.get(id).state == JobState.FINISHED)
    assert not other.acquire() and other.holder().startswith("the worker")
    ended = time.monotonic()
    until(other.acquire)
    assert len(loop.idled) == 1 and loop.idled[0] - ended > 0.1
    time.sleep(0.5)
    assert len(loop.idled) == 1, "idle is called once per busy spell"


def test_a_job_waits_for_the_device_and_says_who_has_it(queue: JobQueue, start: Callable, tmp_path: Path) -> None:
    other = DeviceLock(tmp_path, "cpu", "generate on the command line")
    assert other.acquire()
    stopped, runs = queue.submit(SETTINGS).id, queue.submit(SETTINGS).id
    start(lambda *_: DONE, device=DeviceLock(tmp_path, "cpu"))
    until(lambda: queue.get(stopped).notices)
    assert "generate on the command line" in queue.get(stopped).notices[0].text
    queue.cancel(stopped)
    until(lambda: queue.get(stopped).state == JobState.CANCELLED)
    other.release()
    until(lambda: queue.get(runs).state == JobState.FINISHED)


def test_a_full_disk_stops_neither_the_job_nor_its_end(
    queue: JobQueue, start: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "RETRY_SECONDS", 0.02)
    id, failures = queue.submit(SETTINGS).id, []
    finish = queue.finish

    def refuse(*_: object, **__: object) -> bool:
        failures.append(1)
        raise StudioError("queue_unwritable", folder="/q", reason="full", free_gb=0.0)

    def run(job: Job, emit: worker.Emit, cancelled: worker.IsCancelled) -> Finished:
        monkeypatch.setattr(queue, "record", refuse)
        monkeypatch.setattr(queue, "finish", refuse)
        emit(PhaseStarted("decode"))
        assert not cancelled()
        return DONE

    start(run)
    until(lambda: len(failures) > 4)
    assert queue.get(id).state == JobState.RUNNING
    monkeypatch.setattr(queue, "finish", finish)
    until(lambda: queue.get(id).state == JobState.FINISHED)
    assert queue.get(id).result == DONE
