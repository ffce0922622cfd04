"""What a power cut leaves: a video is on the disk before its job is finished; latents are when they have their name."""

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from studio.audio.soundtrack import Job, remove_sound
from studio.audio.track import SoundSettings
from studio.config import load_models
from studio.errors import StudioError
from studio.events import Finished
from studio.filenames import LAST_FRAME, LATENTS, write_whole
from studio.joining import join, pieces
from studio.pipeline.output import ResultWriter
from studio.queue.database import Database
from studio.queue.job import JobState
from studio.queue.jobs import JobQueue
from studio.queue.remote import Replay
from studio.settings import GenerationSettings
from tests.audio.clips import make_clip

SETTINGS = GenerationSettings("nano", "a boat", num_frames=17, height=64, width=64, seed=1).resolve(
    load_models()["nano"]
)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """(what, name) of every flush, rename, removal and durable change of the database, in their order."""
    made: list[tuple[str, str]] = []

    def record(what: str, real: Callable[..., Any], name: Callable[..., str]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            result = real(*given, **named)
            made.append((what, Path(name(*given)).name))
            return result

        return call

    def change(self: Database, work: Any, *, durable: bool = True) -> Any:
        result = really_change(self, work, durable=durable)
        made.append(("durable change" if durable else "change", self.path.name))
        return result

    really_change = Database.change
    monkeypatch.setattr(os, "fsync", record("sync", os.fsync, lambda file: os.readlink(f"/proc/self/fd/{file}")))
    monkeypatch.setattr(os, "replace", record("rename", os.replace, lambda _, target: str(target)))
    monkeypatch.setattr(os, "unlink", record("remove", os.unlink, lambda path, **_: str(path)))
    monkeypatch.setattr(Database, "change", change)
    return made


def write(folder: Path) -> Path:
    picture = Image.new("RGB", (64, 64))
    with ResultWriter(folder / "made" / "clip", SETTINGS, {"a": 1}, picture) as writer:
        writer.add(np.zeros((17, 64, 64, 3), np.uint8))
        return writer.finish({}, {})


def test_a_result_is_on_the_disk_before_it_has_its_name(calls: list[tuple[str, str]], tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    write(tmp_path)
    renames = [place for place, (what, _) in enumerate(calls) if what == "rename"]
    suffixes = (".mp4", ".json", ".jpg", ".first.png")
    flushed = {name for what, name in calls[: renames[0]] if what == "sync"}
    assert flushed == {f"clip{suffix}.tmp" for suffix in suffixes}
    assert {calls[place][1] for place in renames} == {f"clip{suffix}" for suffix in suffixes}
    assert calls[renames[-1]] == ("rename", "clip.mp4"), "where the video is, everything is"
    assert calls[renames[-1] + 1 :] == [("sync", "made"), ("sync", tmp_path.name)], "then its name, and its folder's"


def test_a_video_is_on_the_disk_before_its_job_is_finished_and_latents_stay(
    calls: list[tuple[str, str]], tmp_path: Path
) -> None:
    queue = JobQueue(tmp_path / "queue")
    job = queue.submit(SETTINGS)
    queue.claim()
    write_whole(job.folder / LATENTS, b"latents", durable=True)
    (tmp_path / "made").mkdir()
    calls.clear()
    path = write(tmp_path)
    queue.finish(job.id, JobState.FINISHED, result=Finished(str(path), 1, {}, 0, 0))
    order = [calls.index(call) for call in (
        ("sync", "clip.mp4.tmp"), ("rename", "clip.mp4"), ("sync", "made"), ("durable change", "queue.sqlite"),
    )]  # fmt: skip
    assert order == sorted(order) and ("remove", LATENTS) not in calls


def test_sounds_joins_and_results_from_elsewhere_are_on_the_disk_before_they_have_their_names(
    calls: list[tuple[str, str]], tmp_path: Path
) -> None:
    clip, to = make_clip(tmp_path / "clip.mp4", 2), tmp_path / "made" / "new.mp4"
    clip.with_suffix(".jpg").write_bytes(b"a poster")
    to.parent.mkdir()
    job = JobQueue(tmp_path / "queue").submit(SETTINGS)
    replay = Replay(job, to.with_suffix(""), lambda event: None)
    own = f"new.mp4.{os.getpid()}.tmp"

    def arrives() -> None:
        for suffix in (".json", ".mp4"):
            replay.take(("result", suffix, b"x"))
        replay.take(("finished", ".mp4", asdict(Finished("there.mp4", 1, {}, 0, 0))))

    for make, unfinished, above in (
        (lambda: remove_sound(Job(SoundSettings(), clip, to, lambda event: None, lambda: False)), "new.mp4.tmp", True),
        (lambda: join(pieces([clip, clip]), to, {}), own, False),
        (arrives, own, True),
    ):
        calls.clear()
        make()
        last = len(calls) - 1 - calls[::-1].index(("rename", "new.mp4"))
        assert ("sync", unfinished) in calls[:last]
        assert all(what != "rename" for what, _ in calls[last + 1 :]), "where the video is, everything is"
        for name in ["made", tmp_path.name] if above else ["made"]:
            assert ("sync", name) in calls[last:]
        for name in {name for what, name in calls[:last] if what == "rename"}:
            assert ("sync", f"{name}.{os.getpid()}.tmp") in calls[: calls.index(("rename", name))]


def test_saved_latents_are_on_the_disk_when_they_have_their_name(calls: list[tuple[str, str]], tmp_path: Path) -> None:
    write_whole(tmp_path / LATENTS, b"x", durable=True)
    unfinished = f"{LATENTS}.{os.getpid()}.tmp"
    assert calls == [("sync", unfinished), ("rename", LATENTS), ("sync", tmp_path.name)]


def test_a_last_frame_that_finds_no_room_costs_no_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "made").mkdir()
    (tmp_path / LAST_FRAME).write_bytes(b"of an attempt before")
    monkeypatch.setattr("studio.pipeline.output.write_whole", full)
    with ResultWriter(tmp_path / "made" / "clip", SETTINGS, {"a": 1}, None) as writer:
        writer.add(np.zeros((17, 64, 64, 3), np.uint8))
        writer.keep_last_frame(tmp_path)
        assert writer.finish({}, {}).stat().st_size > 0
    assert not (tmp_path / LAST_FRAME).exists(), "the next clip begins with what the mp4 shows"


def test_a_disk_that_cannot_flush_keeps_the_job_from_being_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(file: int) -> None:
        raise OSError(5, "Input/output error")

    (tmp_path / "made").mkdir()
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StudioError, match="Input/output error"):
        write(tmp_path)
    assert list((tmp_path / "made").iterdir()) == []
    with pytest.raises(OSError, match="Input/output error"):
        write_whole(tmp_path / LATENTS, b"x", durable=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made"]
