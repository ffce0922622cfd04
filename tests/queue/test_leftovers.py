"""What killed processes left is gone after the next start, and nothing else is."""

import json
import os
import time
from pathlib import Path

import pytest

from studio.filenames import LATENTS, job_result_stem
from studio.queue.gallery import Gallery
from studio.queue.job import Job, JobState
from studio.queue.jobs import JobQueue
from studio.queue.leftovers import IN_FLIGHT_SECONDS, KEPT_SECONDS, remove_abandoned, remove_leftovers
from studio.queue.supervisor import Supervisor
from studio.queue.trash import Trash
from tests.queue.fake_clock import START, FakeClock
from tests.queue.test_jobs import FAILURE, SETTINGS, picture

NOBODY = 10**9 - 1  # no process has such an id


@pytest.fixture
def queue(tmp_path: Path) -> JobQueue:
    return JobQueue(tmp_path / ".queue")


def unfinished(folder: Path, job: Job, suffix: str = ".mp4") -> Path:
    """What a worker leaves of the job's result when it is killed; the suffix may name its process."""
    stem = job_result_stem(folder, job.settings.prompt, job.settings.seed, job.created, job.id)
    path = stem.with_name(f"{stem.name}{suffix}.tmp")
    path.write_bytes(b"half")
    return aged(path, 1)


def aged(path: Path, seconds: float) -> Path:
    os.utime(path, (START - seconds,) * 2)
    return path


def test_a_start_removes_what_nobody_works_on(queue: JobQueue, tmp_path: Path) -> None:
    cache, jobs = tmp_path / ".cache", queue.folder / "jobs"
    cache.mkdir()
    failed, running, waiting, removed = (queue.submit(SETTINGS, picture()) for _ in range(4))
    for job, state in ((failed, JobState.FAILED), (running, None)):
        queue.claim()
        if state:
            queue.finish(job.id, state, error=FAILURE)
    assert Trash(queue).remove(removed.id)
    gone = [unfinished(tmp_path, job) for job in (failed, waiting, removed)]
    gone.append(unfinished(tmp_path, failed, ".first.png"))
    gone.append(unfinished(tmp_path, failed, f".mp4.{NOBODY}"))  # of a cluster's result
    gone.append(aged(unfinished(tmp_path, failed, f".jpg.{os.getpid()}"), IN_FLIGHT_SECONDS + 1))
    kept = [
        unfinished(tmp_path, running),
        unfinished(tmp_path, failed, f".mp4.{os.getpid()}"),
        tmp_path / "of-generate.mp4.tmp",
        tmp_path / "notes.tmp",
    ]
    for path in kept[2:]:
        path.write_bytes(b"x")
        aged(path, 1)
    old = IN_FLIGHT_SECONDS + 1
    for name, seconds, target in (("a.safetensors.7.tmp", old, gone), ("b.safetensors.8.tmp", 1, kept)):
        (cache / name).write_bytes(b"x")
        target.append(aged(cache / name, seconds))
    (failed.folder / f"{LATENTS}.9.tmp").write_bytes(b"x")
    gone.append(aged(failed.folder / f"{LATENTS}.9.tmp", old))
    for number, (seconds, copy) in enumerate(((old, None), (old, "queued"), (1, None), (old, "failed"), (old, "odd"))):
        folder = jobs / f"{number:016x}"
        folder.mkdir()
        (folder / "first_image").write_bytes(picture())
        if copy:
            row = {"state": copy, "attempts": int(copy == "failed")} if copy != "odd" else ["odd"]
            (folder / "job.json").write_text(json.dumps(row))
        (gone if number < 2 else kept).append(aged(folder, seconds))
    assert sorted(remove_leftovers(queue, tmp_path, cache, FakeClock())) == sorted(gone)
    assert not any(path.exists() for path in gone)
    assert all(path.exists() for path in kept)
    assert {job.id for job in queue.list()} == {failed.id, running.id, waiting.id}
    assert (waiting.folder / "first_image").exists()


def test_deleting_a_job_removes_what_is_unfinished_of_it(queue: JobQueue, tmp_path: Path) -> None:
    job, other = queue.submit(SETTINGS), queue.submit(SETTINGS)
    queue.claim()
    queue.finish(job.id, JobState.INTERRUPTED)
    mine = [unfinished(tmp_path, job, suffix) for suffix in (".mp4", ".json", f".mp4.{NOBODY}")]
    others = unfinished(tmp_path, other)
    assert Gallery(queue, tmp_path).delete(job.id)
    assert not any(path.exists() for path in mine) and others.exists()


def test_generate_leaves_its_own_for_a_month(tmp_path: Path) -> None:
    joined = f"old-joined.mp4.{NOBODY}.tmp"
    old = dict.fromkeys(("old.mp4.tmp", joined, "old.mp4", "old.mp4.part.tmp"), KEPT_SECONDS + 1)
    for name, seconds in (old | {"new.mp4.tmp": KEPT_SECONDS - 1}).items():
        (tmp_path / name).write_bytes(b"x")
        aged(tmp_path / name, seconds)
    assert sorted(path.name for path in remove_abandoned(tmp_path, FakeClock())) == [joined, "old.mp4.tmp"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.mp4.tmp", "old.mp4", "old.mp4.part.tmp"]


def test_the_page_cleans_once_the_queue_is_its_own(queue: JobQueue) -> None:
    """After jobs without a worker were interrupted, and before there is a worker."""
    seen: list[JobState] = []
    job = queue.submit(SETTINGS)
    queue.claim()
    supervisor = Supervisor(queue, {"local": ["false"]}, clean=lambda: seen.append(queue.get(job.id).state))
    other = Supervisor(queue, {"local": ["false"]}, clean=lambda: seen.append(JobState.FAILED))
    assert supervisor._lock.acquire()
    other.start()
    supervisor.start()
    deadline = time.monotonic() + 60
    while not seen and time.monotonic() < deadline:
        time.sleep(0.01)
    other.stop()
    supervisor.stop()
    assert seen == [JobState.INTERRUPTED]
