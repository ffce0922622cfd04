"""Real processes: a worker that dies, one that cannot start, a page that is killed, a second page."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from studio.queue import supervisor as module
from studio.queue.job import Job, JobState
from studio.queue.jobs import JobQueue
from studio.queue.locks import OwnerLock
from studio.queue.supervisor import Supervisor
from tests.queue import toy_worker
from tests.queue.test_jobs import SETTINGS
from tests.queue.test_worker import until

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobQueue:
    monkeypatch.chdir(ROOT)
    return JobQueue(tmp_path / "queue")


@pytest.fixture
def supervise(queue: JobQueue) -> Iterator[Callable[..., Supervisor]]:
    started = []

    def begin(command: list[str] | None = None) -> Supervisor:
        supervisor = Supervisor(queue, command or toy_worker.command(queue.folder))
        started.append(supervisor)
        supervisor.start()
        return supervisor

    yield begin
    for supervisor in started:
        supervisor.stop()


def submit(queue: JobQueue, prompt: str) -> str:
    return queue.submit(replace(SETTINGS, prompt=prompt, seed=1)).id


def reaches(queue: JobQueue, id: str, state: JobState) -> Job:
    until(lambda: queue.get(id).state == state, 20)
    return queue.get(id)


def runs(queue: JobQueue, id: str) -> Job:
    """Wait until the job has done some blocks."""
    until(lambda: (job := queue.get(id)).state == JobState.RUNNING and job.progress, 20)
    return queue.get(id)


def alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_kill_9_fails_one_job_the_next_runs_and_resume_goes_on(queue: JobQueue, supervise: Callable) -> None:
    killed, following = submit(queue, "long"), submit(queue, "short")
    supervisor = supervise()
    runs(queue, killed)
    first = supervisor.pid
    os.kill(first, signal.SIGKILL)
    job = reaches(queue, killed, JobState.FAILED)
    assert job.error.code == "worker_killed" and job.resumable
    used, total = job.error.values["used_gb"], job.error.values["total_gb"]
    assert 0 < used < total and f"{used:.1f} of {total:.1f} GB" in job.error.text
    after = reaches(queue, following, JobState.FINISHED)
    assert after.result.seconds["process"] == supervisor.pid != first
    time.sleep(0.3)
    assert queue.get(killed).state == JobState.FAILED and queue.get(killed).attempts == 1, "nothing restarts by itself"

    blocks = int((job.folder / "latents.safetensors").read_text())
    queue.resume(killed)
    again = runs(queue, killed)
    assert again.attempts == 2 and again.progress.step > blocks
    queue.cancel(killed)
    reaches(queue, killed, JobState.CANCELLED)


def test_every_way_to_die_gives_its_reason(
    queue: JobQueue, supervise: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    ways = {"kill": "worker_killed", "crash": "worker_crashed", "exit": "worker_exited", "unexpected": "unexpected"}
    ids = {prompt: submit(queue, prompt) for prompt in (*ways, "refused")}
    last = submit(queue, "short")
    supervisor = supervise()
    reaches(queue, last, JobState.FINISHED)
    errors = {prompt: queue.get(id).error for prompt, id in ids.items()}
    assert {prompt: error.code for prompt, error in errors.items()} == {**ways, "refused": "write_failed"}
    assert "Segmentation fault" in errors["crash"].text
    assert "code 3" in errors["exit"].text and "said before the end" in errors["exit"].text
    assert "illegal memory access" in errors["unexpected"].text
    assert "said before the end" in caplog.text
    assert supervisor.trouble is None


def test_a_worker_that_cannot_start_is_told_and_not_hammered(
    queue: JobQueue, supervise: Callable, tmp_path: Path
) -> None:
    starts = tmp_path / "starts"
    code = f"open({str(starts)!r}, 'a').write('x'); raise SystemExit('no module named torch')"
    id = submit(queue, "short")
    supervisor = supervise([sys.executable, "-c", code])
    until(lambda: starts.exists() and len(starts.read_text()) >= 2)
    time.sleep(0.8)
    assert len(starts.read_text()) <= 3, "it waits longer each time"
    assert supervisor.trouble.code == "worker_exited" and "no module named torch" in supervisor.trouble.text
    assert queue.get(id).state == JobState.QUEUED


def test_a_command_that_is_not_there_is_told(queue: JobQueue, supervise: Callable, tmp_path: Path) -> None:
    supervisor = supervise([str(tmp_path / "nothing")])
    until(lambda: supervisor.trouble)
    assert "No such file" in supervisor.trouble.text


def test_stop_interrupts_and_lets_go(queue: JobQueue, supervise: Callable) -> None:
    id = submit(queue, "long")
    supervisor = supervise()
    assert supervisor.owns
    runs(queue, id)
    pid = supervisor.pid
    supervisor.stop()
    assert queue.get(id).state == JobState.INTERRUPTED and queue.get(id).resumable
    assert not alive(pid) and supervisor.pid is None
    assert OwnerLock(queue.folder).acquire()


def test_restart_gives_a_new_process(queue: JobQueue, supervise: Callable) -> None:
    id = submit(queue, "long")
    supervisor = supervise()
    runs(queue, id)
    first = supervisor.pid
    supervisor.restart()
    assert reaches(queue, id, JobState.INTERRUPTED).attempts == 1
    reaches(queue, submit(queue, "short"), JobState.FINISHED)
    assert supervisor.pid != first and supervisor.trouble is None


def test_a_worker_that_does_not_listen_is_killed(
    queue: JobQueue, supervise: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.2)
    id = submit(queue, "deaf")
    supervisor = supervise()
    reaches(queue, id, JobState.RUNNING)
    pid = supervisor.pid
    supervisor.stop()
    assert not alive(pid) and queue.get(id).state == JobState.INTERRUPTED


@pytest.mark.parametrize("prompt", ["long", "deaf"])
def test_when_the_page_is_killed_the_worker_ends_and_the_next_page_takes_over(
    queue: JobQueue, supervise: Callable, prompt: str
) -> None:
    id, waiting = submit(queue, prompt), submit(queue, "short")
    page = subprocess.Popen([sys.executable, "-m", "tests.queue.toy_worker", "page", str(queue.folder)])
    reaches(queue, id, JobState.RUNNING)
    supervisor = supervise()
    assert not supervisor.owns and "process" in supervisor.holder and supervisor.pid is None
    page.kill()
    page.wait()
    until(lambda: supervisor.owns)
    assert reaches(queue, id, JobState.INTERRUPTED).attempts == 1
    reaches(queue, waiting, JobState.FINISHED)


def test_the_worker_holds_the_queue_while_it_ends(queue: JobQueue) -> None:
    """The new page must not call a job interrupted that the old page's worker still writes."""
    id = submit(queue, "deaf")
    page = subprocess.Popen([sys.executable, "-m", "tests.queue.toy_worker", "page", str(queue.folder)])
    reaches(queue, id, JobState.RUNNING)
    page.kill()
    page.wait()
    assert not OwnerLock(queue.folder).acquire()
    until(OwnerLock(queue.folder).acquire)


def test_a_worker_without_a_page_marks_its_job_and_ends(queue: JobQueue) -> None:
    id = submit(queue, "long")
    page = subprocess.Popen([sys.executable, "-m", "tests.queue.toy_worker", "page", str(queue.folder)])
    runs(queue, id)
    page.kill()
    page.wait()
    reaches(queue, id, JobState.INTERRUPTED)
    until(OwnerLock(queue.folder).acquire)


def test_a_second_page_shows_and_its_jobs_are_worked(queue: JobQueue, supervise: Callable) -> None:
    first = supervise()
    second = supervise()
    assert first.owns and not second.owns
    job = reaches(queue, submit(queue, "short"), JobState.FINISHED)
    assert job.result.seconds["process"] == first.pid


def test_a_job_without_a_worker_is_interrupted_at_the_start(queue: JobQueue, supervise: Callable) -> None:
    id = submit(queue, "short")
    queue.claim()
    supervise()
    assert reaches(queue, id, JobState.INTERRUPTED).resumable
    queue.resume(id)
    assert reaches(queue, id, JobState.FINISHED).attempts == 2


def test_ctrl_c_in_the_terminal_does_not_reach_the_worker(queue: JobQueue, supervise: Callable) -> None:
    supervisor = supervise()
    until(lambda: supervisor.pid)
    assert os.getpgid(supervisor.pid) == supervisor.pid != os.getpgid(0)


def test_host_memory_is_told() -> None:
    used, total = module.host_memory()
    assert 0 < used < total
