"""Removed jobs: they come back whole, also after kill -9, and go for good by age and size."""

import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from studio import filenames
from studio.errors import StudioError
from studio.queue.jobs import JobQueue
from studio.queue.trash import KEPT_SECONDS, Trash
from tests.queue.fake_clock import FakeClock
from tests.queue.filling import line, submit
from tests.queue.test_jobs import SETTINGS, finished, picture

ROOT = Path(__file__).resolve().parents[2]


def test_what_is_removed_comes_back_as_it_was(queue: JobQueue, tmp_path: Path, clock: FakeClock) -> None:
    trash = Trash(queue)
    made = [tmp_path / f"a{suffix}" for suffix in filenames.RESULT_SUFFIXES]
    done = queue.submit(replace(SETTINGS, first_image="x"), picture())
    queue.claim()
    for path in made:
        path.write_bytes(path.name.encode())
    queue.record(done.id, finished(made[0]))
    a, b, c = submit(queue, 3)
    before = queue.list()
    with pytest.raises(StudioError) as refused:
        trash.remove(queue.claim().id)
    assert refused.value.code == "job_running"
    queue.stopped(a)
    for id in (done.id, b):
        clock.seconds += 1
        assert trash.remove(id) and trash.holds(id) and not trash.remove(id) and queue.get(id) is None
    assert line(queue) == [a, c] and not any(path.exists() for path in made) and not done.folder.exists()
    assert [removed.id for removed in trash.list()] == [b, done.id] and trash.list()[1].size_bytes > 100
    queue.close()
    (queue.folder / "queue.sqlite").unlink()
    assert queue.count() == 2, "a lost table does not bring back what is in the trash"
    assert queue.resume(a) and queue.resume(c), "what waited comes back as interrupted"
    assert Trash(JobQueue(queue.folder)).undo() == b and line(queue) == [a, b, c]
    assert trash.undo(done.id) == done.id and [path.read_bytes() for path in made] == [p.name.encode() for p in made]
    blank = {"version": 0, "attempts": 0, "started": None}
    assert {job.id: replace(job, **blank) for job in queue.list()} == {job.id: replace(job, **blank) for job in before}
    assert Path(queue.get(done.id).settings.first_image).read_bytes() == picture()
    assert trash.list() == [] and trash.undo() is None and trash.undo(a) is None and trash.undo("../x") is None
    assert not list((queue.folder / "trash").iterdir())


def test_the_trash_is_emptied_by_age_and_by_size(queue: JobQueue, clock: FakeClock) -> None:
    trash = Trash(queue)
    ids = submit(queue, 4)
    for id in ids:
        (queue.job_folder(id) / filenames.LATENTS).write_bytes(b"x" * 10_000)
        trash.remove(id)
        clock.seconds += 10
    trash.purge(most_bytes=25_000)
    assert [removed.id for removed in trash.list()] == ids[:1:-1]
    clock.seconds = 20 + KEPT_SECONDS
    trash.purge()
    assert [removed.id for removed in trash.list()] == [ids[3]]
    trash.purge(kept_seconds=0)
    assert trash.list() == [] and not list((queue.folder / "trash").iterdir())


def test_a_note_of_another_version_is_left_alone_until_it_is_due(queue: JobQueue, clock: FakeClock) -> None:
    trash, id = Trash(queue), submit(queue, 1)[0]
    trash.remove(id)
    note = queue.folder / "trash" / f"{id}.json"
    note.write_text(note.read_text().replace('"format": ', '"format": 9'))
    os.utime(note, (clock.now(), clock.now()))
    os.utime(note.with_suffix(""), (clock.now(), clock.now()))
    assert trash.list() == [] and trash.undo(id) is None
    trash.purge()
    assert note.exists()
    clock.seconds += KEPT_SECONDS
    trash.purge()
    assert not list(note.parent.iterdir())


def test_a_full_disk_removes_for_good(queue: JobQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    job, trash = queue.submit(SETTINGS), Trash(queue)

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(filenames, "write_whole", full)
    assert trash.remove(job.id) and not trash.holds(job.id) and not job.folder.exists() and queue.count() == 0


KILLED = """
import os, pathlib, random, shutil, signal, sys
from studio.queue.jobs import JobQueue
from studio.queue.trash import Trash
queue = JobQueue(pathlib.Path(sys.argv[1]))
left = int(sys.argv[3])
def count(frame, event, argument):
    global left
    if "queue" in frame.f_code.co_filename or "shutil" in frame.f_code.co_filename:
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return count
sys.settrace(count)
trash = Trash(queue)
trash.remove(sys.argv[2])
trash.undo(sys.argv[2])
sys.settrace(None)
print("lived", flush=True)
"""


@pytest.mark.slow
def test_kill_9_at_any_line_of_a_removal_loses_nothing(tmp_path: Path) -> None:
    """Killed after a random number of lines, the job is wholly in the queue or wholly in the trash."""
    chance, outcomes = random.Random(5), set()
    for turn in range(40):
        folder = tmp_path / str(turn)
        queue = JobQueue(folder / ".queue")
        job = queue.submit(replace(SETTINGS, first_image="x"), picture())
        queue.claim()
        (folder / "a.mp4").write_bytes(b"video")
        queue.record(job.id, finished(folder / "a.mp4"))
        queue.close()
        code = [sys.executable, "-c", KILLED, queue.folder, job.id, str(chance.randrange(1, 700))]
        ran = subprocess.run(list(map(str, code)), cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert not ran.stderr, ran.stderr
        trash = Trash(queue)
        trash.settle()
        inside, removed = queue.get(job.id) is not None, trash.holds(job.id)
        assert inside != removed
        outcomes.add((inside, "lived" in ran.stdout))
        if removed:
            assert trash.undo(job.id)
        again = queue.get(job.id)
        assert again.result == finished(folder / "a.mp4") and (folder / "a.mp4").read_bytes() == b"video"
        assert Path(again.settings.first_image).read_bytes() == picture()
        assert not list((queue.folder / "trash").glob("*"))
    assert outcomes >= {(True, False), (False, False)}, outcomes
