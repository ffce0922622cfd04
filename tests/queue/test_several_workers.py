"""Several workers, one per device, take their jobs from one queue; what ends one concerns no other. Real processes."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from studio.queue.job import JobState
from studio.queue.jobs import JobQueue
from studio.queue.locks import DeviceLock, OwnerLock
from studio.queue.supervisor import Supervisor
from studio.queue.worker import WORKER, worker_file
from studio.service.workers import worker_views
from tests.queue import toy_worker
from tests.queue.test_supervisor import ROOT, alive, reaches, runs, submit, until

NAMES = ("cpu:0", "cpu:1", "cpu:2")
Start = Callable[..., Supervisor]


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobQueue:
    monkeypatch.chdir(ROOT)
    return JobQueue(tmp_path / "queue")


@pytest.fixture
def start(queue: JobQueue) -> Iterator[Start]:
    started: list[Supervisor] = []

    def begin(*names: str, **others: list[str]) -> Supervisor:
        commands = {name: toy_worker.command(queue.folder, name) for name in names} | others
        started.append(Supervisor(queue, commands))
        started[-1].start()
        return started[-1]

    yield begin
    for supervisor in started:
        supervisor.stop()


def test_every_job_is_run_once_and_all_devices_work(queue: JobQueue, start: Start) -> None:
    ids = [submit(queue, "short") for _ in range(40)]
    supervisor = start(*NAMES)
    jobs = [reaches(queue, id, JobState.FINISHED) for id in ids]
    assert [job.attempts for job in jobs] == [1] * 40
    processes = {job.worker: set() for job in jobs}
    for job in jobs:
        processes[job.worker].add(int(job.result.seconds["process"]))
    assert len(processes) > 1 and set(processes) <= set(NAMES)
    pids = {worker.name: worker.pid for worker in supervisor.workers}
    assert processes == {name: {pids[name]} for name in processes}, "each took its jobs by its own name"


def test_the_death_of_one_fails_its_job_alone(queue: JobQueue, start: Start) -> None:
    supervisor = start(*NAMES[:2])
    ids = [submit(queue, "long") for _ in range(2)]
    first, second = (runs(queue, id) for id in ids)
    assert {first.worker, second.worker} == set(NAMES[:2])
    dying, other = (next(one for one in supervisor.workers if one.name == job.worker) for job in (first, second))
    pid, other_pid = dying.pid, other.pid
    shown = worker_views(queue, supervisor)
    assert {one.name: one.job.id for one in shown} == {first.worker: first.id, second.worker: second.id}
    os.kill(pid, signal.SIGKILL)
    job = reaches(queue, first.id, JobState.FAILED)
    assert job.error.code == "worker_killed" and job.resumable
    step = queue.get(second.id).progress.step
    until(lambda: queue.get(second.id).progress.step > step + 5)
    assert (
        queue.get(second.id).state == JobState.RUNNING and other.pid == other_pid and queue.get(second.id).attempts == 1
    )
    queue.resume(first.id)
    again = runs(queue, first.id)
    assert again.worker == dying.name and dying.pid not in (None, pid) and again.attempts == 2
    for id in ids:
        queue.cancel(id)
        reaches(queue, id, JobState.CANCELLED)


def test_one_that_cannot_start_leaves_the_work_to_the_others(queue: JobQueue, start: Start) -> None:
    broken = [sys.executable, "-c", "raise SystemExit('CUDA driver lost')"]
    supervisor = start(NAMES[0], **{"cuda:7": broken})
    jobs = [reaches(queue, submit(queue, "short"), JobState.FINISHED) for _ in range(3)]
    assert {job.worker for job in jobs} == {NAMES[0]}
    until(lambda: supervisor.workers[1].trouble)
    assert "CUDA driver lost" in supervisor.workers[1].trouble.text
    assert supervisor.trouble is None and supervisor.workers[0].trouble is None
    assert {"worker-cuda-7.err", "worker-cpu-0.err"} <= {path.name for path in queue.folder.glob("*.err")}


def test_one_whose_device_is_in_use_takes_nothing(queue: JobQueue, start: Start) -> None:
    """A job that it took would wait, while another worker has nothing to do."""
    lock = DeviceLock(queue.folder, NAMES[0], "generate on the command line")
    assert lock.acquire()
    start(*NAMES[:2])
    jobs = [reaches(queue, id, JobState.FINISHED) for id in [submit(queue, "short") for _ in range(6)]]
    assert {job.worker for job in jobs} == {NAMES[1]} and not any(job.notices for job in jobs)
    busy = submit(queue, "long")
    runs(queue, busy)
    waiting = submit(queue, "long")
    assert queue.get(waiting).state == JobState.QUEUED
    lock.release()
    assert runs(queue, waiting).worker == NAMES[0]


def test_all_end_together_and_the_queue_is_free(queue: JobQueue, start: Start) -> None:
    supervisor = start(*NAMES)
    ids = [submit(queue, "long") for _ in range(3)]
    assert {runs(queue, id).worker for id in ids} == set(NAMES)
    pids = supervisor.pids
    supervisor.stop()
    assert len(pids) == 3 and not any(map(alive, pids)) and supervisor.pids == []
    assert {queue.get(id).state for id in ids} == {JobState.INTERRUPTED}
    assert OwnerLock(queue.folder).acquire()


def test_the_files_of_workers_have_their_names() -> None:
    assert [worker_file(name) for name in (WORKER, "cuda:10", "cpu:1")] == ["worker", "worker-cuda-10", "worker-cpu-1"]
