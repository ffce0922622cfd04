"""The queue: states and transitions, and that ids and pictures from outside reach nothing they should not."""

import io
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from studio import filenames
from studio.errors import InputError, StudioError
from studio.events import Failed, Finished, Notice, PhaseStarted, Preview, Progress
from studio.messages import message
from studio.queue.job import RESUMABLE, JobState, Request
from studio.queue.jobs import JobQueue
from studio.settings import ResolvedSettings
from tests.queue.fake_clock import FakeClock

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ResolvedSettings(
    model="nano",
    prompt="一只猫 runs",
    negative_prompt="",
    first_image=None,
    motion_score=None,
    camera_move="",
    infer_steps=4,
    cfg_scale=5.0,
    time_shift=3.0,
    num_frames=17,
    height=64,
    width=64,
    seed=7,
)
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


def test_settings_that_cannot_be_stored_are_refused(queue: JobQueue) -> None:
    for change in ({"prompt": "half a character \ud800"}, {"seed": "7"}, {"prompt": None}):
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
    cut, cat = (Notice("text_cut", {"encoder": words}, words) for words in ("cut \udc80", "猫"))
    for event in (PhaseStarted("denoise"), progress, Preview(2, "preview.webp"), cut, cat, cut):  # one of them twice
        assert queue.record(id, event)
    job = queue.get(id)
    assert (job.phase, job.progress, job.preview) == ("denoise", progress, job.folder / "preview.webp")
    assert job.notices == (cut, cat)
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
    assert "0.25 GB" in message(error.code, error.values) and "/out" in message(error.code, error.values, "zh")


def test_news_of_a_job_that_does_not_run_changes_nothing(queue: JobQueue) -> None:
    id = queue.submit(SETTINGS).id
    before = queue.get(id), queue.version()
    for event in (PhaseStarted("decode"), Notice("late", {}, ""), finished(Path("/out/late.mp4")), FAILURE):
        assert not queue.record(id, event)
    assert (queue.get(id), queue.version()) == before


def test_cancel_ends_a_queued_job_and_marks_a_running_one(queue: JobQueue) -> None:
    running, waiting = queue.submit(SETTINGS).id, queue.submit(SETTINGS).id
    queue.claim()
    assert queue.cancel(waiting) and queue.get(waiting).state == JobState.CANCELLED
    assert not queue.get(running).stopping
    assert queue.cancel(running) and queue.get(running).state == JobState.RUNNING
    assert queue.request(running) == Request.CANCEL and queue.get(running).stopping
    queue.finish(running, JobState.CANCELLED)
    assert not queue.cancel(running) and not queue.get(running).stopping


def test_resume_keeps_the_job_its_latents_and_its_place(queue: JobQueue) -> None:
    for state in RESUMABLE:
        id = queue.submit(SETTINGS).id
        younger = queue.submit(SETTINGS).id
        job = queue.claim()
        (job.folder / filenames.LATENTS).write_bytes(b"half done")
        queue.cancel(id)
        queue.finish(id, state, error=FAILURE if state == JobState.FAILED else None)
        assert queue.get(id).resumable and queue.claim().id == younger
        assert queue.resume(id) and not queue.resume(id)
        queue.submit(SETTINGS)
        again = queue.claim()
        assert (again.id, again.attempts, again.error, again.settings) == (id, 2, None, job.settings)
        assert not queue.get(id).stopping
        assert (again.folder / filenames.LATENTS).read_bytes() == b"half done"
        queue.claim()


def test_a_job_waits_behind_all_others_also_where_the_clock_was_set_back(tmp_path: Path) -> None:
    clock = FakeClock()
    queue = JobQueue(tmp_path / "queue", clock=clock)
    first = queue.submit(SETTINGS)
    clock.seconds -= 3600
    second = queue.submit(SETTINGS)
    assert first.created - second.created == 3600 and first.position < second.position
    assert [queue.claim().id, queue.claim().id] == [first.id, second.id]


def test_a_finished_job_is_not_resumed_and_keeps_its_latents(queue: JobQueue) -> None:
    id = queue.submit(SETTINGS).id
    assert not queue.resume(id)
    job = queue.claim()
    (job.folder / filenames.LATENTS).write_bytes(b"all done")
    assert not queue.resume(id)
    queue.finish(id, JobState.FINISHED, result=finished(Path("/out/a.mp4")))
    assert not queue.resume(id) and not queue.get(id).resumable
    assert (job.folder / filenames.LATENTS).read_bytes() == b"all done", "single frames are decoded from them"


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
    calls = (shared_queue.cancel, shared_queue.resume, shared_queue.delete, shared_queue.request)
    assert not any(call(id) for call in calls)
    assert not shared_queue.record(id, Notice("x", {}, "")) and not shared_queue.finish(id, JobState.FAILED)
    assert shared_queue.list() == before


@pytest.fixture(scope="module")
def shared_queue(tmp_path_factory: pytest.TempPathFactory) -> JobQueue:
    queue = JobQueue(tmp_path_factory.mktemp("shared"))
    queue.submit(SETTINGS)
    queue.submit(SETTINGS)
    queue.claim()
    return queue


def test_an_id_that_is_no_text_does_nothing(shared_queue: JobQueue) -> None:
    for id in (None, 7, ["a"], {"id": 1}, b"0" * 16):
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


def test_asking_whether_to_stop_is_cheap(queue: JobQueue) -> None:
    """It stands between blocks. One look through an index takes 12 steps of SQLite's machine, however many jobs."""
    id = [queue.submit(SETTINGS).id for _ in range(5)][2]
    queue.claim()
    steps: list[int] = []
    queue._db._connection().set_progress_handler(lambda: steps.append(1), 1)
    assert queue.request(id) == Request.NONE
    assert 0 < len(steps) < 20
