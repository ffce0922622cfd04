"""The loop of the worker, on a clock of its own: how jobs end, cancel, idle, the device, a queue without writes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from studio.config import load_studio
from studio.errors import Cancelled, StudioError
from studio.events import Finished, Notice, PhaseStarted
from studio.queue.job import Job, JobState
from studio.queue.jobs import JobQueue
from studio.queue.kinds import JobKind
from studio.queue.locks import DeviceLock
from studio.queue.trash import KEPT_SECONDS, Trash
from studio.queue.upkeep import Upkeep
from studio.queue.worker import ASKED_SECONDS, FRESH_PROCESS, POLL_SECONDS, Emit, Orders, Stop, work
from studio.units import GB
from tests.queue.fake_clock import START, FakeClock
from tests.queue.test_jobs import SETTINGS, finished

DONE = finished(Path("/out/a.mp4"))
CUT = Notice("text_cut", {"encoder": "clip", "limit": 77, "cut": 3}, "a cut")
Run = Callable[[Job, Emit, Orders], Finished]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def queue(tmp_path: Path, clock: FakeClock) -> JobQueue:
    return JobQueue(tmp_path / "queue", clock=clock)


class Loop:
    """`work` with a runner that does what a test says. It is asked to stop after `seconds`."""

    def __init__(self, queue: JobQueue, clock: FakeClock, run: Run | None = None) -> None:
        self.queue, self.clock, self.stop = queue, clock, Stop()
        self.run = run or (lambda *_: DONE)
        self.after_job: Callable[[Job, Finished], None] = lambda *_: None
        self.on_aside: Callable[[Callable[[], bool]], bool] = lambda acquire: False
        self.released: list[float] = []
        self.idled: list[float] = []

    def after(self, job: Job, result: Finished) -> None:
        self.after_job(job, result)

    def release(self) -> None:
        self.released.append(self.clock.seconds)

    def aside(self, acquire: Callable[[], bool]) -> bool:
        return self.on_aside(acquire)

    def idle(self) -> None:
        self.idled.append(self.clock.seconds)

    def work(self, seconds: float = 1.0, **options: object) -> int:
        self.clock.at(seconds, lambda: setattr(self.stop, "asked", True))
        return work(self.queue, self, stop=self.stop, clock=self.clock, **options)

    def until_cancelled(self, job: Job, emit: Emit, orders: Orders) -> Finished:
        """Ten thousand blocks in a second."""
        while not orders.stop():
            self.clock.sleep(0.0001)
        raise Cancelled


def test_jobs_run_in_order_and_their_events_are_recorded(queue: JobQueue, clock: FakeClock) -> None:
    ids, ran = [queue.submit(SETTINGS).id for _ in range(3)], []

    def run(job: Job, emit: Emit, orders: Orders) -> Finished:
        ran.append(job.id)
        emit(PhaseStarted("decode"))
        emit(CUT)
        return DONE

    assert Loop(queue, clock, run).work() == 0
    assert ran == ids
    job = queue.get(ids[0])
    assert (job.state, job.result, job.phase, job.notices) == (JobState.FINISHED, DONE, "decode", (CUT,))
    assert (job.worker, job.created, job.started, job.ended) == ("local", START, START, START)


def test_a_failure_with_a_sentence_fails_one_job(queue: JobQueue, clock: FakeClock) -> None:
    bad, good = queue.submit(SETTINGS).id, queue.submit(SETTINGS).id

    def run(job: Job, emit: Emit, orders: Orders) -> Finished:
        if job.id == bad:
            raise StudioError("disk_full", folder=Path("/out"), free_gb=0.1, need_gb=2.0)
        return DONE

    assert Loop(queue, clock, run).work() == 0
    job = queue.get(bad)
    assert job.state == JobState.FAILED and job.error.code == "disk_full" and job.resumable
    assert "/out has 0.10 GB free" in job.error.text
    assert queue.get(good).state == JobState.FINISHED


def test_an_unexpected_error_fails_the_job_and_asks_for_a_fresh_process(queue: JobQueue, clock: FakeClock) -> None:
    for error in (RuntimeError("CUDA error: misaligned address"), MemoryError(), KeyError("x")):
        first, second = queue.submit(SETTINGS).id, queue.submit(SETTINGS).id

        def run(job: Job, emit: Emit, orders: Orders, error: Exception = error) -> Finished:
            raise error

        assert Loop(queue, clock, run).work() == FRESH_PROCESS
        assert queue.get(first).state == JobState.FAILED and type(error).__name__ in queue.get(first).error.text
        assert queue.get(second).state == JobState.QUEUED
        queue.cancel(second)


def test_what_comes_after_the_end_is_recorded_cannot_fail_the_job(
    queue: JobQueue, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """What it learned may be lost; the video is not. After an error that nobody knows, a fresh process takes over."""
    for error, code in ((StudioError("write_failed", file="speeds", reason="full"), 0), (OSError("full"), 0)):
        loop, seen = Loop(queue, clock), []
        ids = [queue.submit(SETTINGS).id for _ in range(2)]

        def after(job: Job, result: Finished, error: Exception = error, seen: list = seen) -> None:
            seen.append((job.id, result, queue.get(job.id).state))
            raise error

        loop.after_job = after
        assert loop.work(clock.seconds + 1) == code
        assert seen == [(id, DONE, JobState.FINISHED) for id in ids]
        assert [queue.get(id).state for id in ids] == [JobState.FINISHED] * 2 and "full" in caplog.text
    loop, id = Loop(queue, clock), queue.submit(SETTINGS).id
    loop.after_job = lambda *_: {}["x"]
    assert loop.work(clock.seconds + 1) == FRESH_PROCESS and queue.get(id).state == JobState.FINISHED
    assert "KeyError" in caplog.text


def test_a_job_without_a_result_has_nothing_after_it(queue: JobQueue, clock: FakeClock) -> None:
    loop = Loop(queue, clock)
    loop.run, loop.after_job = loop.until_cancelled, lambda *_: pytest.fail("it did not finish")
    id = queue.submit(SETTINGS).id
    clock.at(0.5, lambda: queue.cancel(id))
    assert loop.work() == 0 and queue.get(id).state == JobState.CANCELLED


def test_a_cancel_is_seen_within_50_ms_and_read_no_more_often(
    queue: JobQueue, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, id, reads, read = Loop(queue, clock), queue.submit(SETTINGS).id, [], queue.request
    loop.run = loop.until_cancelled
    monkeypatch.setattr(queue, "request", lambda id: reads.append(clock.seconds) or read(id))
    clock.at(0.44, lambda: queue.cancel(id))
    loop.work()
    job = queue.get(id)
    assert job.state == JobState.CANCELLED and 0.44 <= job.ended - START <= 0.44 + ASKED_SECONDS
    gaps = [later - earlier for earlier, later in zip(reads, reads[1:], strict=False)]
    assert len(reads) == 10 and min(gaps) >= ASKED_SECONDS and max(gaps) < ASKED_SECONDS + 0.001


def test_a_queue_that_is_never_empty_has_its_upkeep(
    queue: JobQueue, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job of a minute follows another one; what was removed a day ago goes between two of them."""
    trash, sizes = Trash(queue), []
    upkeep = Upkeep(queue, load_studio(latents_gb=1.0, originals_gb=2.0), clock)
    monkeypatch.setattr("studio.queue.upkeep.keep_within", lambda queue, *limits: sizes.append(limits))
    old = queue.submit(SETTINGS).id
    trash.remove(old)
    clock.seconds += KEPT_SECONDS - 90.0
    for _ in range(13):
        queue.submit(SETTINGS)
    held: list[bool] = []

    def run(job: Job, emit: Emit, orders: Orders) -> Finished:
        held.append(trash.holds(old))
        clock.sleep(60.0)
        return DONE

    loop = Loop(queue, clock, run)
    loop.idle = upkeep
    assert loop.work(KEPT_SECONDS + 13 * 60.0) == 0
    assert held == [True] * 2 + [False] * 11
    assert sizes == [(GB, 2 * GB)] * 2, "every ten minutes"


def test_an_orderly_stop_interrupts_the_running_job(queue: JobQueue, clock: FakeClock) -> None:
    running, waiting = queue.submit(SETTINGS).id, queue.submit(SETTINGS).id
    loop = Loop(queue, clock)
    loop.run = loop.until_cancelled
    assert loop.work() == 0 and loop.released == [clock.seconds]
    assert queue.get(running).state == JobState.INTERRUPTED and queue.get(running).resumable
    assert queue.get(waiting).state == JobState.QUEUED


def test_a_stop_after_the_user_cancelled_leaves_it_cancelled(queue: JobQueue, clock: FakeClock) -> None:
    id, loop = queue.submit(SETTINGS).id, Loop(queue, clock)

    def run(job: Job, emit: Emit, orders: Orders) -> Finished:
        try:
            return loop.until_cancelled(job, emit, orders)
        finally:
            loop.stop.asked = True

    loop.run = run
    clock.at(0.5, lambda: queue.cancel(id))
    loop.work()
    assert queue.get(id).state == JobState.CANCELLED


def test_the_device_is_released_when_idle_and_held_between_jobs(
    queue: JobQueue, clock: FakeClock, tmp_path: Path
) -> None:
    device, other = (DeviceLock(tmp_path, "cuda:0", who) for who in ("the worker", "somebody"))
    loop, free = Loop(queue, clock), []

    def look() -> None:
        free.append(other.acquire())
        other.release()

    for seconds in (0.5, 1.5, 29.5, 32.0):
        clock.at(seconds, look)
    clock.at(1.0, lambda: queue.submit(SETTINGS))
    clock.at(100.0, lambda: queue.submit(SETTINGS))
    assert loop.work(115.0, device=device, idle_seconds=30.0) == 0
    assert free == [True, False, False, True], "a worker without a job needs no device"
    idle, end = loop.released
    assert 31.0 <= idle <= 31.0 + 2 * POLL_SECONDS and end == pytest.approx(115.0, abs=POLL_SECONDS)
    assert not device.held


def test_a_job_waits_for_the_device_and_says_who_has_it(queue: JobQueue, clock: FakeClock, tmp_path: Path) -> None:
    other = DeviceLock(tmp_path, "cpu", "generate on the command line")
    assert other.acquire()
    stopped, runs = queue.submit(SETTINGS).id, queue.submit(SETTINGS).id
    clock.at(2.0, lambda: queue.cancel(stopped))
    clock.at(3.0, other.release)
    loop = Loop(queue, clock)
    assert loop.work(4.0, device=DeviceLock(tmp_path, "cpu", clock=clock)) == 0
    (notice,) = queue.get(stopped).notices
    assert "generate on the command line" in notice.text and queue.get(stopped).state == JobState.CANCELLED
    assert queue.get(stopped).ended == pytest.approx(START + 2.0, abs=0.11)
    assert queue.get(runs).state == JobState.FINISHED and len(queue.get(runs).notices) == 1
    assert queue.get(runs).ended == pytest.approx(START + 3.0, abs=0.11)


def test_a_full_disk_stops_neither_the_job_nor_its_end(
    queue: JobQueue, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    id, finish, failures = queue.submit(SETTINGS).id, queue.finish, []

    def refuse(*_: object, **__: object) -> bool:
        failures.append(clock.seconds)
        raise StudioError("queue_unwritable", folder="/q", reason="full", free_gb=0.0)

    def run(job: Job, emit: Emit, orders: Orders) -> Finished:
        monkeypatch.setattr(queue, "record", refuse)
        monkeypatch.setattr(queue, "finish", refuse)
        emit(PhaseStarted("decode"))
        assert not orders.stop()
        return DONE

    clock.at(4.5, lambda: monkeypatch.setattr(queue, "finish", finish))
    Loop(queue, clock, run).work(6.0)
    assert failures == [0.0, 0.0, 1.0, 2.0, 3.0, 4.0], "the event, and the end once a second"
    job = queue.get(id)
    assert (job.state, job.result, job.ended) == (JobState.FINISHED, DONE, START + 5.0)


def test_a_queue_that_cannot_be_read_is_asked_again(
    queue: JobQueue, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, asked = queue.claim, []

    def refuse(worker: str, kind: JobKind) -> Job | None:
        asked.append(clock.seconds)
        raise StudioError("queue_unwritable", folder="/q", reason="full", free_gb=0.0)

    id = queue.submit(SETTINGS).id
    monkeypatch.setattr(queue, "claim", refuse)
    clock.at(3.0, lambda: monkeypatch.setattr(queue, "claim", claim))
    Loop(queue, clock).work(5.0)
    assert len(asked) == 3 and min(b - a for a, b in zip(asked, asked[1:], strict=False)) >= 1.0
    assert queue.get(id).state == JobState.FINISHED


def test_a_small_thing_is_done_between_two_jobs_with_the_device(
    queue: JobQueue, clock: FakeClock, tmp_path: Path
) -> None:
    """It comes before the next job, holds the device like a job, and its errors harm no job."""
    loop, ran, device = Loop(queue, clock), [], DeviceLock(tmp_path, "cpu", "a test")
    id = queue.submit(SETTINGS).id

    def aside(acquire: Callable[[], bool]) -> bool:
        if len(ran) < 2:
            ran.append((acquire(), device.held, queue.get(id).state))
        return len(ran) < 2

    loop.on_aside = aside
    assert loop.work(100, device=device, idle_seconds=30) == 0
    assert ran == [(True, True, JobState.QUEUED)] * 2 and queue.get(id).state == JobState.FINISHED
    assert len(loop.released) == 1, "released after the idle time"

    def broken(acquire: Callable[[], bool]) -> bool:
        raise RuntimeError("CUDA error")

    loop, id = Loop(queue, clock), queue.submit(SETTINGS).id
    loop.on_aside = broken
    assert loop.work(clock.seconds + 1) == FRESH_PROCESS and queue.get(id).state == JobState.QUEUED
