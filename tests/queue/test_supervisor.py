"""Real processes: a worker that dies, one that cannot start, a page that is killed, a second page."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from studio.errors import StudioError
from studio.queue.job import Job, JobState
from studio.queue.jobs import JobQueue
from studio.queue.locks import OwnerLock
from studio.queue.supervisor import Supervisor
from studio.queue.worker import WORKER
from studio.queue.worker_process import LAST_DELAY, POLL_SECONDS, RETRY_SECONDS, YOUNG_SECONDS
from tests.queue import toy_worker
from tests.queue.fake_clock import FakeClock
from tests.queue.test_jobs import SETTINGS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobQueue:
    monkeypatch.chdir(ROOT)
    return JobQueue(tmp_path / "queue")


@pytest.fixture
def supervise(queue: JobQueue) -> Iterator[Callable[..., Supervisor]]:
    started = []

    def begin(command: list[str] | None = None, **options: object) -> Supervisor:
        supervisor = Supervisor(queue, {WORKER: command or toy_worker.command(queue.folder)}, **options)
        started.append(supervisor)
        supervisor.start()
        return supervisor

    yield begin
    for supervisor in started:
        supervisor.stop()


@pytest.fixture
def page(queue: JobQueue) -> Iterator[subprocess.Popen[bytes]]:
    """A page in a process of its own, with its worker."""
    process = subprocess.Popen([sys.executable, "-m", "tests.queue.toy_worker", "page", str(queue.folder)])
    yield process
    process.kill()
    process.wait()


def until(condition: Callable[[], object], patience: float = 60) -> None:
    """Wait for something that another process does; `patience` only ends a test that hangs."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def submit(queue: JobQueue, prompt: str) -> str:
    return queue.submit(replace(SETTINGS, prompt=prompt, seed=1)).id


def reaches(queue: JobQueue, id: str, state: JobState) -> Job:
    until(lambda: queue.get(id).state == state)
    return queue.get(id)


def runs(queue: JobQueue, id: str) -> Job:
    """Wait until the job has done some blocks."""
    until(lambda: (job := queue.get(id)).state == JobState.RUNNING and job.progress)
    return queue.get(id)


def alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_every_way_to_die_fails_one_job_with_its_reason_and_resume_goes_on(
    queue: JobQueue, supervise: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    ways = {"kill": "worker_killed", "crash": "worker_crashed", "exit": "worker_exited", "unexpected": "unexpected"}
    killed = submit(queue, "long")
    supervisor = supervise()
    runs(queue, killed)
    (first,) = supervisor.pids
    ids = {prompt: submit(queue, prompt) for prompt in (*ways, "refused", "short")}
    os.kill(first, signal.SIGKILL)
    job = reaches(queue, killed, JobState.FAILED)
    after = reaches(queue, ids["short"], JobState.FINISHED)
    assert after.result.seconds["process"] == supervisor.pids[0] != first and supervisor.trouble is None
    used, total = job.error.values["used_gb"], job.error.values["total_gb"]
    assert job.error.code == "worker_killed" and job.resumable
    assert 0 < used < total and f"{used:.1f} of {total:.1f} GB" in job.error.text
    errors = {prompt: queue.get(id).error for prompt, id in ids.items() if prompt != "short"}
    assert {prompt: error.code for prompt, error in errors.items()} == {**ways, "refused": "write_failed"}
    assert "Segmentation fault" in errors["crash"].text
    assert "code 3" in errors["exit"].text and "said before the end" in errors["exit"].text
    assert "illegal memory access" in errors["unexpected"].text and "said before the end" in caplog.text

    assert queue.get(killed).attempts == 1, "six jobs later, nothing has restarted by itself"
    blocks = int((job.folder / "latents.safetensors").read_text())
    queue.resume(killed)
    again = runs(queue, killed)
    assert again.attempts == 2 and again.progress.step > blocks
    queue.cancel(killed)
    reaches(queue, killed, JobState.CANCELLED)


def test_a_worker_that_cannot_start_is_reported_and_tried_less_and_less(queue: JobQueue, supervise: Callable) -> None:
    clock, id = FakeClock(), submit(queue, "short")
    supervisor = supervise([sys.executable, "-c", "raise SystemExit('no module named torch')"], clock=clock)
    delays = [0.5, 1.0, 2.0, 4.0]
    until(lambda: [slept for slept in clock.slept if slept != POLL_SECONDS][: len(delays)] == delays)
    assert supervisor.trouble.code == "worker_exited" and "no module named torch" in supervisor.trouble.text
    assert queue.get(id).state == JobState.QUEUED


def test_a_command_that_is_not_there_is_reported_and_tried_twice_a_minute_in_the_end(
    queue: JobQueue, supervise: Callable, tmp_path: Path
) -> None:
    clock = FakeClock()
    supervisor = supervise([str(tmp_path / "nothing")], clock=clock)
    delays = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, LAST_DELAY, LAST_DELAY]
    until(lambda: len(clock.slept) >= len(delays))
    assert clock.slept[: len(delays)] == delays and "No such file" in supervisor.trouble.text


def test_trouble_ends_when_a_worker_gets_old(queue: JobQueue, supervise: Callable, tmp_path: Path) -> None:
    clock, mark, seen = FakeClock(), tmp_path / "second", []
    code = f"import os, time; os.path.exists({str(mark)!r}) or (open({str(mark)!r}, 'w'), os._exit(1)); time.sleep(60)"
    supervisor = Supervisor(queue, {WORKER: [sys.executable, "-c", code]}, clock=clock)
    clock.on_sleep = lambda: seen.append((clock.seconds, supervisor.trouble))
    supervisor.start()
    until(lambda: seen and not seen[-1][1] and any(trouble for _, trouble in seen))
    supervisor.stop()
    troubled = [seconds for seconds, trouble in seen if trouble]
    assert max(troubled) - min(troubled) == pytest.approx(0.5 + YOUNG_SECONDS, abs=2 * POLL_SECONDS)


def test_stop_interrupts_and_releases_the_queue(queue: JobQueue, supervise: Callable) -> None:
    id = submit(queue, "long")
    supervisor = supervise()
    assert supervisor.owns
    runs(queue, id)
    (pid,) = supervisor.pids
    assert os.getpgid(pid) == pid != os.getpgid(0), "Ctrl-C in the terminal does not reach the worker"
    supervisor.stop()
    assert queue.get(id).state == JobState.INTERRUPTED and queue.get(id).resumable
    assert not alive(pid) and supervisor.pids == []
    assert OwnerLock(queue.folder).acquire()


def test_a_worker_that_does_not_listen_is_killed(queue: JobQueue, supervise: Callable) -> None:
    id = submit(queue, "deaf")
    supervisor = supervise(grace_seconds=0.2)
    reaches(queue, id, JobState.RUNNING)
    (pid,) = supervisor.pids
    supervisor.stop()
    assert not alive(pid) and queue.get(id).state == JobState.INTERRUPTED


@pytest.mark.parametrize("prompt", ["long", "deaf"])
def test_when_the_page_is_killed_the_worker_ends_and_the_next_page_takes_over(
    queue: JobQueue, supervise: Callable, page: subprocess.Popen[bytes], prompt: str
) -> None:
    """Until the worker has ended, the new page owns nothing: it must not call a job interrupted that still writes."""
    id, waiting = submit(queue, prompt), submit(queue, "short")
    reaches(queue, id, JobState.RUNNING)
    supervisor = supervise()
    assert not supervisor.owns and supervisor.pids == []
    (worker,) = psutil.Process(page.pid).children()
    page.kill()
    page.wait()
    until(lambda: supervisor.owns)
    assert not alive(worker.pid)
    assert reaches(queue, id, JobState.INTERRUPTED).attempts == 1
    reaches(queue, waiting, JobState.FINISHED)


def test_a_worker_without_a_page_marks_its_job_and_ends(queue: JobQueue, page: subprocess.Popen[bytes]) -> None:
    id = submit(queue, "long")
    runs(queue, id)
    page.kill()
    page.wait()
    reaches(queue, id, JobState.INTERRUPTED)
    until(OwnerLock(queue.folder).acquire)


def test_a_second_page_shows_and_its_jobs_are_worked(queue: JobQueue, supervise: Callable) -> None:
    """What runs when the first page starts has no worker: it is interrupted, and goes on only when asked to."""
    left = submit(queue, "short")
    queue.claim()
    first = supervise()
    second = supervise()
    assert first.owns and not second.owns
    assert reaches(queue, left, JobState.INTERRUPTED).resumable
    job = reaches(queue, submit(queue, "short"), JobState.FINISHED)
    assert job.result.seconds["process"] == first.pids[0]
    queue.resume(left)
    assert reaches(queue, left, JobState.FINISHED).attempts == 2


def test_a_queue_that_cannot_be_written_keeps_no_page_from_ending(
    queue: JobQueue, supervise: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, left = FakeClock(), submit(queue, "short")
    queue.claim()
    interrupt, tries = queue.interrupt_running, []

    def refuse(worker: str | None = None) -> list[str]:
        tries.append(1)
        if len(tries) < 4:
            raise StudioError("queue_unwritable", folder="/q", reason="full", free_gb=0.0)
        return interrupt(worker)

    monkeypatch.setattr(queue, "interrupt_running", refuse)
    supervise([sys.executable, "-c", "import time; time.sleep(60)"], clock=clock)
    reaches(queue, left, JobState.INTERRUPTED)
    assert clock.slept[:3] == [RETRY_SECONDS] * 3
