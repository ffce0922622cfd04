"""Clips that go on from each other: in which order they run, what they begin with, what of them is joined."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from studio import filenames
from studio.config import load_models
from studio.embedded import carried_picture
from studio.errors import InputError, StudioError
from studio.filenames import beside
from studio.joining import join, packets_of, pieces
from studio.media import png_bytes, read_metadata_file, read_video
from studio.queue import verbs
from studio.queue.chains import chain, last_frame, with_picture
from studio.queue.gallery import Gallery
from studio.queue.job import Job, JobState
from studio.queue.jobs import JobQueue
from studio.service.project import Extension, clips, extend, join_chain
from studio.settings import GenerationSettings, ResolvedSettings
from studio.video_writer import VideoWriter
from tests.queue.test_jobs import finished

MODELS = load_models()
INSTALLED = dict.fromkeys(MODELS, True)
FIRST = GenerationSettings("nano", "a red circle moves to the right", num_frames=17, height=64, width=96, seed=1)


def check(asked: GenerationSettings) -> ResolvedSettings:
    settings = asked.resolve(MODELS[asked.model])
    settings.check(MODELS[asked.model], {})
    return settings


def frames_of(count: int, seed: int, height: int = 64, width: int = 96) -> np.ndarray:
    """A gradient that moves by two pixels a frame: uint8 (count, height, width, 3)."""
    x = np.arange(width)[None, :, None] * 2 + np.arange(height)[:, None, None] + np.array([0, 40, 80]) + 30 * seed
    return np.stack([((x + 4 * index) % 256).astype(np.uint8) for index in range(count)])


def write(path: Path, frames: np.ndarray, original: bytes | None = None) -> Path:
    writer = VideoWriter(path, *frames.shape[1:3], 25, {}, original=original)
    writer.add(frames)
    writer.close()
    return path


def more(queue: JobQueue, id: str, **asked: object) -> list[Job]:
    return extend(queue, id, Extension(**asked), MODELS, INSTALLED, check)


def make(queue: JobQueue, folder: Path, count: int = 17) -> Job:
    """Play the worker for the next job."""
    job = queue.claim()
    job = with_picture(queue, job)
    path = write(folder / f"{job.id}.mp4", frames_of(count, 0), b"mine")
    queue.finish(job.id, JobState.FINISHED, result=finished(path))
    return queue.get(job.id)


@pytest.fixture
def queue(tmp_path: Path) -> JobQueue:
    return JobQueue(tmp_path / ".queue")


def test_a_clip_waits_for_the_one_that_it_goes_on_from(queue: JobQueue, tmp_path: Path) -> None:
    first = queue.submit(check(FIRST))
    one, two, three = more(queue, first.id, count=3, prompt="it stops")
    assert [job.source for job in (one, two, three)] == [first.id, one.id, two.id]
    assert all(job.goes_on and job.settings.prompt == "it stops" for job in (one, two, three))
    assert len({job.settings.seed for job in (first, one, two, three)}) == 4
    verbs.move(queue, two.id, verbs.Where.FIRST)
    assert queue.claim().id == first.id and queue.claim() is None, "whatever the order says"
    path = write(tmp_path / "first.mp4", frames_of(17, 0))
    queue.finish(first.id, JobState.FINISHED, result=finished(path))
    job = with_picture(queue, queue.claim())
    assert job.id == one.id
    seen = np.asarray(Image.open(job.settings.first_image))
    assert (seen == read_video(path)[-1]).all(), "the last frame as the mp4 shows it, where no other is kept"
    (queue.get(first.id).folder / filenames.LAST_FRAME).write_bytes(png_bytes(Image.fromarray(frames_of(1, 5)[0])))
    assert (np.asarray(last_frame(queue.get(first.id))) == frames_of(1, 5)[0]).all(), "the one that was kept"
    queue.cancel(one.id)
    queue.stopped(one.id)
    with pytest.raises(StudioError, match="make that one first"):
        with_picture(queue, queue.claim())
    assert [job.id for job in chain(queue, two.id)] == [first.id, one.id, two.id, three.id] and chain(queue, "x") == []


def test_a_clip_that_began_goes_on_though_the_one_before_it_is_gone(
    queue: JobQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = queue.submit(check(FIRST))
    (clip,) = more(queue, first.id)
    path = make(queue, tmp_path).result_path
    job = with_picture(queue, queue.claim())
    picture = Path(job.settings.first_image).read_bytes()
    queue.finish(clip.id, JobState.INTERRUPTED)
    for lose in (path.unlink, lambda: queue.delete(first.id)):
        lose()
        assert queue.resume(clip.id)
        assert Path(with_picture(queue, queue.claim()).settings.first_image).read_bytes() == picture
        queue.finish(clip.id, JobState.INTERRUPTED)
    (clip.folder / "first_image").unlink()
    queue.resume(clip.id)
    with pytest.raises(StudioError, match="make that one first"):
        with_picture(queue, queue.claim())


def test_a_picture_that_was_written_half_is_none(queue: JobQueue, tmp_path: Path, monkeypatch: Any) -> None:
    first = queue.submit(check(FIRST))
    more(queue, first.id)
    make(queue, tmp_path)
    job = queue.claim()

    def killed(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", killed)
    with pytest.raises(KeyboardInterrupt):
        with_picture(queue, job)
    assert not Path(job.settings.first_image).exists()


def test_what_goes_on_and_what_is_cut(queue: JobQueue, tmp_path: Path) -> None:
    first = queue.submit(check(FIRST))
    cut, after = more(queue, first.id, count=2, prompt="a blue square", cut=True)
    assert (cut.cut, cut.goes_on, cut.settings.first_image) == (True, False, None) and after.goes_on
    assert after.settings.motion_score == cut.settings.motion_score == 5.0  # nano takes one with and without a picture
    assert [job.id for job in chain(queue, first.id)] == [first.id, cut.id, after.id]
    again = verbs.duplicate(queue, after.id, [5, 6])
    assert [(job.source, job.settings.seed) for job in again] == [(cut.id, 5), (cut.id, 6)]
    put = verbs.put_back(queue, after.id, replace(after.settings, prompt="other", first_image=None))
    assert put.goes_on and put.settings.first_image == after.settings.first_image
    real = queue.submit(check(replace(FIRST, model="step-video-t2v", height=544, width=992)))
    onward = more(queue, real.id)[0].settings
    assert (onward.model, onward.num_frames, onward.cfg_scale) == ("step-video-ti2v", 17, 9.0)
    with pytest.raises(InputError, match="needs a first image"):
        ti2v = check(replace(FIRST, model="step-video-ti2v", height=544, width=992, first_image="x"))
        more(queue, queue.submit(ti2v, png_bytes(Image.new("RGB", (9, 9)))).id, cut=True)
    with pytest.raises(InputError, match="download step-video-ti2v"):
        extend(queue, real.id, Extension(), MODELS, INSTALLED | {"step-video-ti2v": False}, check)
    assert more(queue, "0" * 16) == []


def test_clips_are_joined_packet_by_packet_and_cut_at_any_frame(queue: JobQueue, tmp_path: Path) -> None:
    first = queue.submit(check(FIRST))
    more(queue, first.id, count=2)
    with pytest.raises(InputError, match="here is 0"):
        join_chain(queue, first.id, tmp_path)
    made = [make(queue, tmp_path, count) for count in (17, 16, 16)]
    assert clips(queue, made[1].id) == made
    whole = np.concatenate([read_video(job.result_path) for job in made])
    path = join_chain(queue, made[2].id, tmp_path)
    assert (read_video(path) == whole).all() and len(whole) == 49, "the same bits: nothing is encoded anew"
    record = read_metadata_file(path)
    assert len(record["clips"]) == 3 and record["settings"]["seed"] == 1 and carried_picture(path, 9) == b"mine"
    entries = Gallery(queue, tmp_path).list()
    assert [entry.path for entry in entries if entry.job is None] == [path]
    at_borders = join_chain(queue, first.id, tmp_path, 17, 33)
    assert at_borders != path and (read_video(at_borders) == whole[17:33]).all()
    inside = read_video(join_chain(queue, first.id, tmp_path, 5, 40))
    assert (inside[12:28] == whole[17:33]).all(), "the clip that is whole keeps its bits"
    assert np.abs(inside.astype(int) - whole[5:40]).mean() < 3, "the others are encoded anew"
    for begin, end in ((-1, 5), (5, 5), (0, 50)):
        with pytest.raises(InputError, match="no part"):
            join_chain(queue, first.id, tmp_path, begin, end)


def test_clips_that_are_coded_otherwise_are_told_and_nothing_is_left(tmp_path: Path) -> None:
    one, other = write(tmp_path / "a.mp4", frames_of(17, 0)), write(tmp_path / "b.mp4", frames_of(17, 0, 64, 64))
    assert packets_of(one).frames == 17 and packets_of(one) != packets_of(other)
    with pytest.raises(InputError, match=r"b\.mp4 cannot be joined .* 64x64, the clip before it h264 96x64"):
        pieces([one, other])
    (tmp_path / "c.mp4").write_bytes(b"none")
    with pytest.raises(InputError):
        packets_of(tmp_path / "c.mp4")
    with pytest.raises(StudioError):
        join(pieces([one, one]), tmp_path / "none" / "d.mp4", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "b.mp4", "c.mp4"]
    assert beside(one, ".jpg").exists() is False
