"""The queue: states, what survives what, and that ids and pictures from outside reach nothing they should not."""

import io
import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from PIL import Image

from studio import database, filenames
from studio.errors import InputError, StudioError, say
from studio.events import Failed, Finished, Notice, PhaseStarted, Preview, Progress
from studio.jobs import RESUMABLE, JobQueue, JobState
from studio.settings import GenerationSettings

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = GenerationSettings(model="nano", prompt="一只猫 runs", negative_prompt="", infer_steps=4, seed=7)
FAILURE = Failed("write_failed", {"file": "a", "reason": "b"}, "a could not be written: b.")


def finished(path: Path) -> Finished:
    return Finished(str(path), 7, {"denoise": 1.5}, 3, 4)


def picture(side: int = 8, seed: int = 0) -> bytes:
    """A png of noise, which does not compress."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def queue(tmp_path: Path) -> JobQueue:
    return JobQueue(tmp_path / "queue")


def in_process(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_a_submitted_job_owns_its_picture(queue: JobQueue) -> None:
    data = picture()
    job = queue.submit(replace(SETTINGS, first_image="/etc/passwd"), data)
    assert job == queue.get(job.id)
    assert job.state == JobState.QUEUED and job.attempts == 0 and not job.resumable
    assert job.folder.parent == queue.folder / "jobs"
    assert job.settings == replace(SETTINGS, first_image=str(job.folder / "first_image"))
    assert Path(job.settings.first_image).read_bytes() == data


def test_a_picture_that_cannot_be_used_leaves_nothing(queue: JobQueue) -> None:
    with pytest.raises(InputError, match="cannot be read as a picture"):
        queue.submit(SETTINGS, b"no picture")
    with pytest.raises(InputError, match="megapixels"):
        JobQueue(queue.folder, limit_megapixels=0.0001).submit(SETTINGS, picture(16))
    assert queue.list() == [] and not list(queue.folder.glob("jobs/*"))


def test_a_path_in_settings_is_no_picture(queue: JobQueue, tmp_path: Path) -> None:
    (tmp_path / "real.png").write_bytes(picture())
    with pytest.raises(InputError) as caught:
        queue.submit(replace(SETTINGS, first_image=str(tmp_path / "real.png")))
    assert caught.value.code == "image_needed"
    assert queue.list() == []


@pytest.mark.parametrize("change", [{"prompt": "half a character \ud800"}, {"seed": "7"}, {"prompt": None}])
def test_settings_that_cannot_be_stored_are_refused(queue: JobQueue, change: dict) -> None:
    with pytest.raises(InputError):
        queue.submit(replace(SETTINGS, **change))
    assert queue.list() == [] and not list(queue.folder.glob("jobs/*"))


def test_the_oldest_job_is_claimed_first(queue: JobQueue) -> None:
    ids = [queue.submit(SETTINGS).id for _ in range(3)]
    assert [job.id for job in queue.list()] == ids[::-1]
    claimed = [queue.claim() for _ in range(4)]
    assert [job and job.id for job in claimed] == [*ids, None]
    assert all(job.state == JobState.RUNNING and job.attempts == 1 and job.started for job in claimed[:3])


def test_events_fold_into_the_job(queue: JobQueue) -> None:
    id = queue.submit(SETTINGS).id
    queue.claim()
    progress = Progress("denoise", 2, 4, 1.5, 1.5, 10, 20)
    for event in (PhaseStarted("denoise"), progress, Preview(2, "preview.webp"), Notice("cut \udc80"), Notice("猫")):
        assert queue.record(id, event)
    job = queue.get(id)
    assert (job.phase, job.progress, job.preview) == ("denoise", progress, job.folder / "preview.webp")
    assert job.notices == ("cut \udc80", "猫")
    queue.record(id, Preview(3, "../../../secret"))
    assert queue.get(id).preview == job.folder / "secret"
    queue.record(id, PhaseStarted("decode"))
    assert queue.get(id).progress is None
    queue.record(id, finished(Path("/out/a.mp4")))
    job = queue.get(id)
    assert (job.state, job.result) == (JobState.FINISHED, finished(Path("/out/a.mp4")))
    assert job.ended >= job.started >= job.created


def test_a_failure_keeps_what_its_sentence_needs(queue: JobQueue) -> None:
    id = queue.submit(SETTINGS).id
    queue.claim()
    values = {"folder": Path("/out"), "free_gb": 0.25, "need_gb": 2.0}
    queue.record(id, Failed("disk_full", values, "text"))
    error = queue.get(id).error
    assert "0.25 GB" in say(error.code, error.values) and "/out" in say(error.code, error.values, "zh")


def test_news_of_a_job_that_does_not_run_changes_nothing(queue: JobQueue) -> None:
    id = queue.submit(SETTINGS).id
    before = queue.get(id), queue.version()
    for event in (PhaseStarted("decode"), Notice("late"), finished(Path("/out/late.mp4")), FAILURE):
        assert not queue.record(id, event)
    assert (queue.get(id), queue.version()) == before


def test_cancel_ends_a_queued_job_and_marks_a_running_one(queue: JobQueue) -> None:
    running, waiting = queue.submit(SETTINGS).id, queue.submit(SETTINGS).id
    queue.claim()
    assert queue.cancel(waiting) and queue.get(waiting).state == JobState.CANCELLED
    assert not queue.cancel_requested(running)
    assert queue.cancel(running) and queue.get(running).state == JobState.RUNNING
    assert queue.cancel_requested(running) and queue.get(running).stopping
    queue.finish(running, JobState.CANCELLED)
    assert not queue.cancel(running) and not queue.get(running).stopping


@pytest.mark.parametrize("state", RESUMABLE)
def test_resume_keeps_the_job_its_latents_and_its_place(queue: JobQueue, state: JobState) -> None:
    id = queue.submit(SETTINGS).id
    younger = queue.submit(SETTINGS).id
    job = queue.claim()
    (job.folder / filenames.LATENTS).write_bytes(b"half done")
    queue.cancel(id)
    queue.finish(id, state, error=FAILURE if state == JobState.FAILED else None)
    assert queue.get(id).resumable and queue.claim().id == younger
    assert queue.resume(id) and not queue.resume(id)
    again = queue.claim()
    assert (again.id, again.attempts, again.error, again.settings) == (id, 2, None, job.settings)
    assert not queue.cancel_requested(id)
    assert (again.folder / filenames.LATENTS).read_bytes() == b"half done"


def test_a_finished_job_is_not_resumed_and_needs_no_latents(queue: JobQueue) -> None:
    id = queue.submit(SETTINGS).id
    assert not queue.resume(id)
    job = queue.claim()
    (job.folder / filenames.LATENTS).write_bytes(b"all done")
    assert not queue.resume(id)
    queue.finish(id, JobState.FINISHED, result=finished(Path("/out/a.mp4")))
    assert not queue.resume(id) and not queue.get(id).resumable
    assert not (job.folder / filenames.LATENTS).exists()


def test_delete_removes_the_folder_and_every_file_of_the_result(queue: JobQueue, tmp_path: Path) -> None:
    made = [tmp_path / f"a.b{suffix}" for suffix in filenames.RESULT_SUFFIXES]
    others = [tmp_path / name for name in ("a.mp4", "a.b2.mp4", "a.b.txt")]
    for path in (*made, *others):
        path.write_bytes(b"x")
    job = queue.submit(SETTINGS, picture())
    queue.claim()
    with pytest.raises(StudioError) as caught:
        queue.delete(job.id)
    assert caught.value.code == "job_running" and queue.get(job.id) and job.folder.exists()
    queue.finish(job.id, JobState.FINISHED, result=finished(tmp_path / "a.b.mp4"))
    assert queue.delete(job.id) and not queue.delete(job.id)
    assert queue.get(job.id) is None and not job.folder.exists()
    assert not any(path.exists() for path in made) and all(path.exists() for path in others)


def test_a_delete_that_fails_can_be_repeated(queue: JobQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    job = queue.submit(SETTINGS)

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", refuse)
        with pytest.raises(StudioError, match="Permission denied"):
            queue.delete(job.id)
    assert queue.get(job.id) == job
    assert queue.delete(job.id)


@given(id=st.one_of(st.text(), st.sampled_from(["../x", "a" * 16, "' OR ''='", "\ud800", "0" * 16 + "\n"])))
@settings(max_examples=40, deadline=None)
def test_an_unknown_id_does_nothing(id: str, shared_queue: JobQueue) -> None:
    before = shared_queue.list()
    assert shared_queue.get(id) is None
    calls = (shared_queue.cancel, shared_queue.resume, shared_queue.delete, shared_queue.cancel_requested)
    assert not any(call(id) for call in calls)
    assert not shared_queue.record(id, Notice("x")) and not shared_queue.finish(id, JobState.FAILED)
    assert shared_queue.list() == before


@pytest.fixture(scope="module")
def shared_queue(tmp_path_factory: pytest.TempPathFactory) -> JobQueue:
    queue = JobQueue(tmp_path_factory.mktemp("shared"))
    queue.submit(SETTINGS)
    queue.submit(SETTINGS)
    queue.claim()
    return queue


@pytest.mark.parametrize("id", [None, 7, ["a"], {"id": 1}, b"0" * 16])
def test_an_id_that_is_no_text_does_nothing(shared_queue: JobQueue, id: object) -> None:
    assert shared_queue.get(id) is None and not shared_queue.delete(id)


def test_version_grows_with_every_change_and_only_then(queue: JobQueue) -> None:
    watcher = JobQueue(queue.folder)
    id = queue.submit(SETTINGS).id
    changes = (
        queue.claim,
        lambda: queue.record(id, Progress("denoise", 1, 2, 0.1)),
        lambda: queue.cancel(id),
        lambda: queue.finish(id, JobState.CANCELLED),
        lambda: queue.resume(id),
        lambda: queue.delete(id),
    )
    for change in changes:
        before = watcher.version()
        change()
        assert watcher.version() > before
    before = watcher.version()
    queue.list(), queue.claim(), queue.cancel(id), queue.interrupt_running()
    assert watcher.version() == before


def test_two_processes_claim_every_job_once(queue: JobQueue) -> None:
    ids = {queue.submit(SETTINGS).id for _ in range(60)}
    code = (
        "import pathlib, sys, time, studio.jobs\n"
        "queue = studio.jobs.JobQueue(pathlib.Path(sys.argv[1]))\n"
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


def _other_version(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 1")


@pytest.mark.parametrize("harm", [_break_in_place, _cut, _other_version, Path.unlink])
def test_a_lost_database_is_made_again_from_the_folders(tmp_path: Path, harm: object) -> None:
    queue, other = JobQueue(tmp_path / "queue"), JobQueue(tmp_path / "queue")
    before, version = _some_jobs(queue, tmp_path), queue.version()
    queue.close()
    other.close()
    harm(queue.folder / "queue.sqlite")
    again = JobQueue(queue.folder)
    assert _snapshot(again) == before == _snapshot(other)
    assert again.version() > version
    assert again.claim().id == before[0][0]
    kept = [path.name for path in queue.folder.glob("queue.sqlite.*") if path.suffix[1:].isdigit()]
    assert len(kept) == (harm is not Path.unlink)


def test_damage_under_a_running_program_is_noticed_and_mended(queue: JobQueue, tmp_path: Path) -> None:
    other = JobQueue(queue.folder)
    before = _some_jobs(queue, tmp_path)
    other.list()
    queue.close()
    other.close()
    _break_in_place(queue.folder / "queue.sqlite")
    job = queue.submit(SETTINGS)
    assert [row[0] for row in _snapshot(other)] == [job.id, *(row[0] for row in before)]


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
    assert queue.get(job.id).state == JobState.QUEUED and not queue.cancel_requested(job.id), "readers must not wait"
    blocker.execute("ROLLBACK")
    blocker.close()
    assert queue.cancel(job.id)


FULL_DISK = """
import resource, signal, sys
from dataclasses import replace
from pathlib import Path
from studio.errors import StudioError
from studio.jobs import JobQueue
from tests.test_jobs import SETTINGS, picture
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
assert len(queue.list(limit=999)) == done + 1 == len(list(queue.folder.glob("jobs/*")))
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
        "import sys, pathlib; from studio.jobs import JobQueue; from tests.test_jobs import *\n"
        "queue = JobQueue(pathlib.Path(sys.argv[1]))\n"
        "while True: print(queue.submit(SETTINGS).id, flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    acknowledged = [process.stdout.readline().strip() for _ in range(30)]
    process.kill()
    acknowledged += process.communicate()[0].split("\n")[:-1]
    found = {job.id for job in JobQueue(tmp_path).list(limit=100_000)}
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
            assert job.attempts == self.attempts[job.id] and not self.queue.cancel_requested(job.id)

    @precondition(lambda self: self.states)
    @rule(data=st.data(), state=st.sampled_from([JobState.FINISHED, *RESUMABLE]))
    def finish(self, data: st.DataObject, state: JobState) -> None:
        id = data.draw(st.sampled_from(list(self.states)))
        running = self.states[id] == JobState.RUNNING
        assert self.queue.finish(id, state) == running
        self.states[id] = state if running else self.states[id]

    @precondition(lambda self: self.states)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(list(self.states)))
        assert self.queue.cancel(id) == (self.states[id] in (JobState.QUEUED, JobState.RUNNING))
        if self.states[id] == JobState.QUEUED:
            self.states[id] = JobState.CANCELLED

    @precondition(lambda self: self.states)
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(list(self.states)))
        assert self.queue.resume(id) == (self.states[id] in RESUMABLE)
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

    @rule()
    def open_again(self) -> None:
        self.queue.close()
        self.queue = JobQueue(self.folder)

    @rule()
    def lose_the_database(self) -> None:
        self.queue.close()
        _break_in_place(self.folder / "queue.sqlite")

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


def test_asking_whether_to_stop_is_cheap(queue: JobQueue) -> None:
    """It stands between blocks: a thousand of them may not cost a tenth of a second (measured: 4 ms)."""
    id = queue.submit(SETTINGS).id
    queue.claim()
    began = time.process_time()
    for _ in range(1000):
        queue.cancel_requested(id)
    assert time.process_time() - began < 0.1
