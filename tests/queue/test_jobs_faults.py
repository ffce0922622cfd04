"""The queue when things go wrong: many processes, damage, a full disk, kill -9, and random sequences of calls."""

import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from studio import filenames
from studio.errors import StudioError
from studio.queue import database
from studio.queue.job import RESUMABLE, WAITING, JobState
from studio.queue.jobs import JobQueue
from studio.queue.locks import OwnerLock
from tests.queue.test_jobs import FAILURE, SETTINGS, finished, picture

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def queue(tmp_path: Path) -> JobQueue:
    return JobQueue(tmp_path / "queue")


def in_process(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_two_processes_claim_every_job_once(queue: JobQueue) -> None:
    ids = {queue.submit(SETTINGS).id for _ in range(60)}
    code = (
        "import pathlib, sys, time, studio.queue.jobs\n"
        "queue = studio.queue.jobs.JobQueue(pathlib.Path(sys.argv[1]))\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "while job := queue.claim(): print(job.id, flush=True); time.sleep(0.001)\n"
    )
    start = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    workers = [subprocess.Popen([sys.executable, "-c", code, str(queue.folder)], **start) for _ in range(2)]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        print("go", file=worker.stdin, flush=True)
    shares = [worker.communicate()[0].split() for worker in workers]
    assert sorted(shares[0] + shares[1]) == sorted(ids)
    assert all(shares), "one process took every job: nothing ran at the same time"


def test_threads_share_a_queue(queue: JobQueue) -> None:
    claimed: list[str] = []

    def submit_and_claim() -> None:
        for _ in range(10):
            queue.submit(SETTINGS)
            claimed.append(queue.claim().id)

    threads = [threading.Thread(target=submit_and_claim) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == sorted(job.id for job in queue.list()) and len(claimed) == 60


def test_processes_that_open_a_new_queue_together_make_one(tmp_path: Path) -> None:
    folder, opened = tmp_path / "new", []
    threads = [threading.Thread(target=lambda: opened.append(JobQueue(folder))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    opened[0].submit(SETTINGS)
    assert [len(queue.list()) for queue in opened] == [1] * 8
    assert not list(folder.glob("queue.sqlite.2*"))


def _snapshot(queue: JobQueue) -> list[tuple]:
    return [(job.id, job.state, job.settings, job.attempts, job.result, job.error) for job in queue.list()]


def _some_jobs(queue: JobQueue, tmp_path: Path) -> list[tuple]:
    """One job in every state."""
    for state in (JobState.FINISHED, JobState.FAILED, JobState.INTERRUPTED, JobState.CANCELLED):
        job = queue.submit(SETTINGS, picture())
        queue.claim()
        result = finished(tmp_path / "a.mp4") if state == JobState.FINISHED else None
        queue.finish(job.id, state, result=result, error=FAILURE if state == JobState.FAILED else None)
    queue.submit(SETTINGS)
    queue.claim()
    queue.submit(SETTINGS)
    return _snapshot(queue)


def _break_in_place(path: Path) -> None:
    path.write_bytes(b"not a database" * 500)


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _another_checksum(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 1234567890")


def _older_than_it_says(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 1")


def _come_back(row: tuple) -> tuple:
    """As the job is after its database was lost: its copy may be older than it was, so that it waits for a person."""
    id, state, *rest = row
    return (id, JobState.INTERRUPTED if state in (JobState.QUEUED, JobState.RUNNING) else state, *rest)


def test_a_database_that_is_lost_under_a_worker_changes_no_state(queue: JobQueue, tmp_path: Path) -> None:
    """Somebody works on the queue: what runs goes on, and what waits is next."""
    before, owner = _some_jobs(queue, tmp_path), OwnerLock(queue.folder)
    with owner:
        queue.close()
        _break_in_place(queue.folder / "queue.sqlite")
        assert _snapshot(JobQueue(queue.folder)) == before
        assert queue.finish(before[1][0], JobState.FINISHED, result=finished(tmp_path / "a.mp4"))


def test_a_lost_database_is_made_again_from_the_folders(tmp_path: Path) -> None:
    for harm in (_break_in_place, _cut, _another_checksum, _older_than_it_says, Path.unlink):
        folder = tmp_path / harm.__name__
        queue, other = JobQueue(folder), JobQueue(folder)
        before, version = _some_jobs(queue, tmp_path), queue.version()
        queue.close()
        other.close()
        harm(folder / "queue.sqlite")
        again = JobQueue(folder)
        assert _snapshot(again) == [_come_back(row) for row in before] == _snapshot(other), harm
        assert again.version() > version and again.claim() is None, "nothing runs by itself"
        assert again.resume(before[0][0]) and again.claim().id == before[0][0]
        kept = [path.name for path in folder.glob("queue.sqlite.*") if path.suffix[1:].isdigit()]
        assert len(kept) == (harm is not Path.unlink), harm


def test_damage_under_a_running_program_is_noticed_and_mended(queue: JobQueue, tmp_path: Path) -> None:
    other = JobQueue(queue.folder)
    before = _some_jobs(queue, tmp_path)
    other.list()
    queue.close()
    other.close()
    _break_in_place(queue.folder / "queue.sqlite")
    job = queue.submit(SETTINGS)
    assert [row[0] for row in _snapshot(other)] == [job.id, *(row[0] for row in before)]


def test_a_database_that_was_replaced_is_opened_again(queue: JobQueue, tmp_path: Path) -> None:
    """A process that keeps the old file open must not write where nobody reads."""
    before = _some_jobs(queue, tmp_path)
    (queue.folder / "queue.sqlite").rename(tmp_path / "moved.sqlite")
    job = JobQueue(queue.folder).submit(SETTINGS)
    assert [row[0] for row in _snapshot(queue)] == [job.id, *(row[0] for row in before)]
    assert queue.cancel(job.id) and JobQueue(queue.folder).get(job.id).state == JobState.CANCELLED


def test_a_folder_that_holds_no_job_is_left_out(queue: JobQueue) -> None:
    job, odd = queue.submit(SETTINGS), queue.folder / "jobs" / ("0" * 16)
    for content in (b"", b"[1]", b"\xff", b'{"id": "x"}', json.dumps({"settings": 1}).encode()):
        odd.mkdir(exist_ok=True)
        (odd / "job.json").write_bytes(content)
        (queue.folder / "queue.sqlite").unlink()
        assert [found.id for found in JobQueue(queue.folder).list()] == [job.id]
    stolen = json.loads((job.folder / "job.json").read_text())
    (odd / "job.json").write_text(json.dumps(stolen))  # a copy of another job's row
    (queue.folder / "queue.sqlite").unlink()
    assert [found.id for found in queue.list()] == [job.id]


def test_a_folder_that_takes_no_writes_is_an_error_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StudioError, match="could not be written"):
        JobQueue(tmp_path / "file" / "queue")
    (tmp_path / "queue" / "queue.sqlite").mkdir(parents=True)
    with pytest.raises(StudioError, match="cannot be written"):
        JobQueue(tmp_path / "queue")


def test_a_stuck_process_is_named_instead_of_waited_for(queue: JobQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
    job = queue.submit(SETTINGS)
    queue.close()
    blocker = sqlite3.connect(queue.folder / "queue.sqlite", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(StudioError, match="locked by another process"):
        queue.cancel(job.id)
    assert queue.get(job.id).state == JobState.QUEUED and not queue.get(job.id).stopping, "readers must not wait"
    blocker.execute("ROLLBACK")
    blocker.close()
    assert queue.cancel(job.id)


FULL_DISK = """
import resource, signal, sys
from dataclasses import replace
from pathlib import Path
from studio.errors import StudioError
from studio.queue.jobs import JobQueue
from tests.queue.test_jobs import SETTINGS, picture
limit = int(sys.argv[2])
queue = JobQueue(Path(sys.argv[1]))
first = queue.submit(SETTINGS)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
errors, done = [], 0
for number in range(400):
    try:
        queue.submit(SETTINGS, picture(64, number) if sys.argv[3] == "picture" else None)
        done += 1
    except StudioError as error:
        errors.append(error)
        if len(errors) == 3:
            break
assert errors and all(error.code == "queue_unwritable" for error in errors), errors
assert len(queue.list()) == done + 1 == len(list(queue.folder.glob("jobs/*")))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
queue.submit(SETTINGS)
assert queue.claim().id == first.id
print(done, errors[0])
"""


@pytest.mark.parametrize(("limit", "what"), [(8192, "picture"), (300_000, "row")])
def test_a_full_disk_refuses_the_job_and_loses_none(tmp_path: Path, limit: int, what: str) -> None:
    """A limit on file sizes stands in for a full disk: once the picture does not fit, once the database."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    ran = in_process(FULL_DISK, tmp_path / "queue", limit, what)
    assert ran.returncode == 0, ran.stderr
    assert "cannot be written" in ran.stdout and "GB are free" in ran.stdout


def test_a_row_that_cannot_be_copied_does_not_keep_a_job_from_ending(
    queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = queue.submit(SETTINGS)
    queue.claim()

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(filenames, "write_whole", full)
    assert queue.finish(job.id, JobState.FAILED, error=FAILURE)
    assert queue.get(job.id).state == JobState.FAILED


def test_kill_9_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from studio.queue.jobs import JobQueue; from tests.queue.test_jobs import *\n"
        "queue = JobQueue(pathlib.Path(sys.argv[1]))\n"
        "while True: print(queue.submit(SETTINGS).id, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    acknowledged = [process.stdout.readline().strip() for _ in range(30)]
    process.kill()
    acknowledged += process.communicate()[0].split("\n")[:-1]
    found = {job.id for job in JobQueue(tmp_path).list()}
    assert set(acknowledged) <= found and len(acknowledged) >= 30


class QueueMachine(RuleBasedStateMachine):
    """Random calls on a queue against a plain dictionary of states."""

    @initialize()
    def open(self) -> None:
        in_memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # a flush costs nothing there
        self.folder = Path(tempfile.mkdtemp(dir=in_memory))
        self.queue = JobQueue(self.folder)
        self.states: dict[str, JobState] = {}
        self.attempts: dict[str, int] = {}
        self.stopping: set[str] = set()
        self.version = self.queue.version()

    def teardown(self) -> None:
        if hasattr(self, "queue"):
            self.queue.close()
            shutil.rmtree(self.folder)

    def in_state(self, *states: JobState) -> list[str]:
        return [id for id, state in self.states.items() if state in states]

    @rule()
    def submit(self) -> None:
        id = self.queue.submit(SETTINGS).id
        assert id not in self.states
        self.states[id], self.attempts[id] = JobState.QUEUED, 0

    @rule()
    def claim(self) -> None:
        job, queued = self.queue.claim(), self.in_state(JobState.QUEUED)
        assert (job.id if job else None) == next(iter(queued), None)
        if job:
            self.states[job.id] = JobState.RUNNING
            self.attempts[job.id] += 1
            assert job.attempts == self.attempts[job.id] and not self.queue.get(job.id).stopping

    @precondition(lambda self: self.states)
    @rule(data=st.data(), state=st.sampled_from([JobState.FINISHED, *RESUMABLE]))
    def finish(self, data: st.DataObject, state: JobState) -> None:
        id = data.draw(st.sampled_from(list(self.states)))
        running = self.states[id] == JobState.RUNNING
        assert self.queue.finish(id, state) == running
        self.stopping.discard(id)
        self.states[id] = state if running else self.states[id]

    @precondition(lambda self: self.states)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(list(self.states)))
        assert self.queue.cancel(id) == (self.states[id] in (*WAITING, JobState.RUNNING))
        if self.states[id] in WAITING:
            self.states[id] = JobState.CANCELLED
        elif self.states[id] == JobState.RUNNING:
            self.stopping.add(id)

    @precondition(lambda self: self.states)
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(list(self.states)))
        assert self.queue.resume(id) == (self.states[id] in RESUMABLE or id in self.stopping)
        self.stopping.discard(id)  # a running one runs on
        if self.states[id] in RESUMABLE:
            self.states[id] = JobState.QUEUED

    @precondition(lambda self: self.states)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(list(self.states)))
        if self.states[id] == JobState.RUNNING:
            with pytest.raises(StudioError):
                self.queue.delete(id)
        else:
            assert self.queue.delete(id)
            del self.states[id]

    @rule()
    def interrupt(self) -> None:
        running = self.in_state(JobState.RUNNING)
        assert sorted(self.queue.interrupt_running()) == sorted(running)
        self.states |= dict.fromkeys(running, JobState.INTERRUPTED)
        self.stopping.clear()

    @rule()
    def open_again(self) -> None:
        self.queue.close()
        self.queue = JobQueue(self.folder)

    @rule()
    def lose_the_database(self) -> None:
        self.queue.close()
        _break_in_place(self.folder / "queue.sqlite")
        waiting = self.in_state(JobState.QUEUED, JobState.RUNNING)
        self.states |= dict.fromkeys(waiting, JobState.INTERRUPTED)

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "queue"):
            return
        jobs = self.queue.list()
        assert [(job.id, job.state) for job in jobs] == list(self.states.items())[::-1]
        assert all(job.resumable == (job.state in RESUMABLE) for job in jobs)
        assert {path.name for path in self.folder.glob("jobs/*")} == set(self.states)
        now = self.queue.version()
        assert now >= self.version and all(job.version <= now for job in jobs)
        self.version = now


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)
