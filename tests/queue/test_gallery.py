"""The gallery: jobs and other results side by side, and opaque tokens."""

import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.errors import StudioError
from studio.events import Failed
from studio.filenames import RESULT_SUFFIXES
from studio.queue.gallery import Gallery
from studio.queue.job import Job, JobState
from studio.queue.jobs import JobQueue
from studio.settings import ResolvedSettings
from tests.queue.test_jobs import SETTINGS, finished

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    folder = tmp_path / "outputs"
    folder.mkdir()
    return folder


@pytest.fixture
def queue(outputs: Path) -> JobQueue:
    return JobQueue(outputs / ".queue")


@pytest.fixture
def gallery(queue: JobQueue, outputs: Path) -> Gallery:
    return Gallery(queue, outputs)


def write_result(path: Path, given: ResolvedSettings = SETTINGS, created: float | None = None) -> Path:
    """All files a result may have, as the pipeline names them; returns `path`."""
    stem = path.with_suffix("")
    for suffix in RESULT_SUFFIXES:
        if suffix not in (".mp4", ".png", ".json"):
            stem.with_name(stem.name + suffix).write_bytes(b"content of " + suffix.encode())
    path.write_bytes(b"frames")
    record = path.with_suffix(".json")
    record.write_text(json.dumps({"program": "step-video-studio", "settings": asdict(given)}), encoding="utf-8")
    if created is not None:
        os.utime(record, (created, created))
    return path


def end(queue: JobQueue, state: JobState, path: Path | None = None, image: bytes | None = None) -> Job:
    job = queue.submit(SETTINGS, image)
    queue.claim()
    error = Failed("write_failed", {"file": "a", "reason": "b"}, "b") if state == JobState.FAILED else None
    queue.finish(job.id, state, result=finished(path) if path else None, error=error)
    return queue.get(job.id)


def test_jobs_and_other_results_stand_newest_first(queue: JobQueue, gallery: Gallery, outputs: Path) -> None:
    old = write_result(outputs / "old.mp4", replace(SETTINGS, prompt=EVIL), created=1000.0)
    (outputs / "trip").mkdir()
    still = write_result(outputs / "trip" / "still.png", created=2000.0)
    done = end(queue, JobState.FINISHED, write_result(outputs / "new.mp4"))
    failed = end(queue, JobState.FAILED)
    queue.submit(SETTINGS)
    entries = gallery.list()
    assert [entry.path for entry in entries] == [None, done.folder.parents[2] / "new.mp4", still, old]
    assert [entry.job and entry.job.id for entry in entries] == [failed.id, done.id, None, None]
    assert entries[0].state == JobState.FAILED and entries[0].error == failed.error
    assert entries[3].settings == replace(SETTINGS, prompt=EVIL) and entries[3].poster == outputs / "old.jpg"
    pages = [gallery.list(limit=limit, offset=offset) for limit in (1, 2, 3) for offset in range(5)]
    assert pages == [entries[offset : offset + limit] for limit in (1, 2, 3) for offset in range(5)]
    assert gallery.list([JobState.FAILED]) == entries[:1] and gallery.list([JobState.FINISHED]) == entries[1:]
    assert gallery.list([JobState.QUEUED]) == [] and gallery.count() == 4 and gallery.count([JobState.FAILED]) == 1
    assert all(gallery.get(entry.id) == entry for entry in entries)
    assert len({entry.id for entry in entries}) == 4


def test_it_survives_a_restart_and_finds_a_job_of_an_old_queue(
    queue: JobQueue, gallery: Gallery, outputs: Path
) -> None:
    end(queue, JobState.FINISHED, write_result(outputs / "a.mp4"))
    before = gallery.list()
    assert Gallery(JobQueue(queue.folder), outputs).list() == before
    other = Gallery(JobQueue(outputs / ".other"), outputs).list()
    assert [entry.path for entry in other] == [outputs / "a.mp4"] and other[0].job is None


def test_files_that_are_no_results_are_left_out(gallery: Gallery, outputs: Path) -> None:
    write_result(outputs / "real.mp4")
    (outputs / "holiday.mp4").write_bytes(b"mine")
    (outputs / "alone.json").write_text("{}")
    for name, record in {"a": "[]", "b": '{"settings": 3}', "c": '{"model": "x"}', "d": "[" * 100_000}.items():
        (outputs / f"{name}.mp4").write_bytes(b"x")
        (outputs / f"{name}.json").write_text(record)
    write_result((outputs / ".queue") / "hidden.mp4")
    assert [entry.path.name for entry in gallery.list()] == ["real.mp4"]


def test_a_record_that_changes_is_read_again(gallery: Gallery, outputs: Path) -> None:
    write_result(outputs / "a.mp4", created=1000.0)
    assert gallery.list()[0].settings.prompt == SETTINGS.prompt
    write_result(outputs / "a.mp4", replace(SETTINGS, prompt="other"), created=2000.0)
    assert gallery.list()[0].settings.prompt == "other"


def test_a_path_in_the_record_of_a_result_is_dropped(gallery: Gallery, outputs: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    write_result(outputs / "a.mp4", replace(SETTINGS, first_image=str(secret)))
    (outputs / "a.first.png").unlink()
    entry = gallery.list()[0]
    assert entry.settings.first_image is None


def test_delete_takes_the_result_and_nothing_beside_it(queue: JobQueue, gallery: Gallery, outputs: Path) -> None:
    keep = write_result(outputs / "keep.mp4", created=1000.0)
    write_result(outputs / "gone.mp4")
    job = end(queue, JobState.FINISHED, write_result(outputs / "job.mp4"))
    other = next(entry for entry in gallery.list() if entry.path and entry.path.name == "gone.mp4")
    assert gallery.delete(other.id) and not gallery.delete(other.id)
    assert gallery.delete(job.id) and queue.get(job.id) is None
    assert {path.name.split(".")[0] for path in outputs.iterdir() if path.is_file()} == {"keep"}
    assert [entry.path for entry in gallery.list()] == [keep]


def test_a_file_that_cannot_be_removed_is_a_sentence(gallery: Gallery, outputs: Path) -> None:
    write_result(outputs / "a.mp4")
    (outputs / "a.first.png").unlink()
    (outputs / "a.first.png").mkdir()  # unlink refuses a folder
    with pytest.raises(StudioError, match="a.mp4 could not be removed"):
        gallery.delete(gallery.list()[0].id)
    assert gallery.list()[0].path == outputs / "a.mp4", "it can be tried again"


def test_a_running_job_is_not_in_the_gallery(queue: JobQueue, gallery: Gallery) -> None:
    job = queue.submit(SETTINGS)
    queue.claim()
    assert gallery.list() == [] and gallery.get(job.id) is None
    with pytest.raises(StudioError, match="stop it"):
        gallery.delete(job.id)


def test_a_result_whose_file_is_gone_can_still_be_deleted(queue: JobQueue, gallery: Gallery, outputs: Path) -> None:
    job = end(queue, JobState.FINISHED, write_result(outputs / "a.mp4"))
    (outputs / "a.mp4").unlink()
    entry = gallery.get(job.id)
    assert entry.path is None and entry.poster is None
    assert gallery.delete(job.id) and gallery.list() == [] and not (outputs / "a.json").exists()


@given(id=st.text() | st.sampled_from(["../outputs/a", "a.mp4", "\ud800", ""]) | st.none() | st.integers())
@settings(max_examples=30, deadline=None)
def test_an_unknown_id_finds_nothing(id: object, filled: Gallery) -> None:
    assert filled.get(id) is None and not filled.delete(id)
    assert len(filled.list()) == 1


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    outputs = tmp_path_factory.mktemp("outputs")
    write_result(outputs / "a.mp4")
    return Gallery(JobQueue(outputs / ".queue"), outputs)
