"""A clip's sound is a job of its own kind: asked for, refused with a sentence, made beside the videos, taken away."""

import argparse
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from studio.audio.synthesis import RATE
from studio.commands.sound_worker import SoundRunner
from studio.errors import InputError, StudioError
from studio.events import Finished
from studio.filenames import beside
from studio.queue import verbs
from studio.queue.job import Job, JobState, Request
from studio.queue.kinds import JobKind
from studio.queue.worker import SOUND_WORKER, Stop, work
from studio.service import drafts
from studio.service.backend import Backend
from studio.service.drafts import draft_of, make_draft
from studio.service.schedule import Schedule
from studio.service.sound import clip_of, has_words, loudness_of, own_name, submit_sound, take_sound, track_of
from studio.service.strips import strip_of
from studio.service.submit import vary
from studio.service.uploads import Uploads
from tests.audio.clips import decoded, level_db, make_clip, stream_hash, tone, write_sound
from tests.queue.test_jobs import SETTINGS

RAIN = {"sound": "rain", "start": 0, "end": 1}
TRACK = {"version": 1, "lines": [{"text": "Go!", "start": 0.2}], "layers": [RAIN], "subtitles": True}


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path / "uploads", 2**24, 2**26)


@pytest.fixture
def clip(backend: Backend, tmp_path: Path) -> Job:
    """A finished video of one second."""
    return make_finished(backend, tmp_path / "made.mp4")


def make_finished(backend: Backend, path: Path) -> Job:
    settings, queue = replace(SETTINGS, num_frames=25), backend.queue
    record = {"program": "step-video-studio", "settings": asdict(settings)}
    make_clip(path, 25, record)
    beside(path, ".json").write_text(json.dumps(record))
    job = queue.submit(settings)
    assert queue.claim().id == job.id
    queue.finish(job.id, JobState.FINISHED, result=Finished(str(path), settings.seed, {}, 0, 0))
    return queue.get(job.id)


def make_sounds(backend: Backend, folder: Path) -> None:
    """Work the sound jobs that wait, as the worker does."""
    stop = Stop()

    class Ending(SoundRunner):
        def idle(self) -> None:
            stop.asked = not backend.queue.waits(JobKind.SOUND)

    work(backend.queue, Ending(argparse.Namespace(), folder), stop=stop, idle_seconds=0, name=SOUND_WORKER,
         kind=JobKind.SOUND)  # fmt: skip


def uploaded(uploads: Uploads, name: str, seconds: float = 0.5) -> Path:
    path = uploads.folder / "ab" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_sound(path, tone(seconds))


def test_a_sound_is_asked_for_made_changed_and_taken_away(
    backend: Backend, uploads: Uploads, clip: Job, tmp_path: Path
) -> None:
    queue, file = backend.queue, uploaded(uploads, "my bell's.wav")
    name, seconds = take_sound(backend, uploads, str(file))
    assert (name, seconds) == ("sound-my-bell-s.wav", 0.5)
    track = TRACK | {"layers": [RAIN, {"sound": name, "start": 0.5, "end": 0.9, "loop": False}]}
    asked = submit_sound(backend, uploads, clip.id, track, {name: str(file)})
    assert (asked.kind, asked.settings, asked.sound.clip) == (JobKind.SOUND, clip.settings, clip.result.path)
    assert (asked.folder / name).read_bytes() == file.read_bytes()
    make_sounds(backend, tmp_path)
    made = queue.get(asked.id)
    assert made.state == JobState.FINISHED, made.error
    path = Path(made.result.path)
    assert stream_hash(path) == stream_hash(Path(clip.result.path)) and level_db(decoded(path)) > -40
    entry = clip_of(backend, made.id)
    assert [layer["sound"] for layer in track_of(entry)["layers"]] == ["rain", name]
    assert entry.settings == clip.settings and backend.gallery.count() == 2

    shutil.rmtree(uploads.folder)
    again = submit_sound(backend, uploads, made.id, track | {"lines": []}, {})
    none = submit_sound(backend, uploads, made.id, None, {})
    make_sounds(backend, tmp_path)
    assert track_of(clip_of(backend, again.id))["lines"] == [], "with the sound file of the clip's own job"
    bare = Path(queue.get(none.id).result.path)
    assert stream_hash(bare) == stream_hash(path) and track_of(clip_of(backend, none.id)) is None
    assert json.loads(beside(bare, ".json").read_text())["settings"] == asdict(clip.settings)

    pictures = [strip_of(backend, made.id, kind) for kind in ("strip", "wave")]
    with Image.open(pictures[0]) as strip, Image.open(pictures[1]) as wave:
        assert strip.size == (12 * 64, 64) and wave.size == (1200, 96)
    words = strip_of(backend, made.id, "words").read_text()
    assert words.startswith("WEBVTT") and "00:00.200 --> 00:00." in words and "Go!" in words
    assert has_words(track_of(entry)) and not has_words(track_of(clip_of(backend, again.id)))
    assert strip_of(backend, again.id, "words") is None, "no lines, no subtitles"
    loud, peak = loudness_of(made)
    assert abs(loud + 16) < 1 and peak <= -1 and loudness_of(queue.get(none.id)) is None
    assert strip_of(backend, none.id, "wave") is None and strip_of(backend, "0" * 16, "strip") is None
    queue.cancel(waiting := queue.submit(SETTINGS).id)
    assert clip_of(backend, waiting) is None


def test_every_wrong_request_is_a_sentence_and_queues_nothing(
    backend: Backend, watching: Backend, uploads: Uploads, clip: Job, tmp_path: Path
) -> None:
    secret = write_sound(tmp_path / "secret.wav", tone(0.2))

    def layer(sound: object) -> Mapping[str, Any]:
        return TRACK | {"layers": [{"sound": sound, "start": 0, "end": 1}]}

    cases: list[tuple[Any, Mapping[str, str], str]] = [
        ({}, {}, "its version is not 1"),
        ([], {}, "it is no object of fields"),
        ({"version": 1}, {}, "There is nothing to hear"),
        (TRACK | {"lines": [{"text": "好" * 10_000}]}, {}, "A line has 10000 characters"),
        (TRACK | {"lines": [{"text": " "}]}, {}, "A line says nothing"),
        (TRACK | {"lines": [{"text": "a", "voice": "Tingting"}]}, {}, "There is no voice 'Tingting'"),
        (TRACK | {"lines": [{"text": "a", "style": "happy"}]}, {}, "robot"),
        (TRACK | {"seed": float("nan")}, {}, "seed cannot be"),
        (TRACK | {"duck_db": 90}, {}, "duck_db is 90"),
        (TRACK | {"layers": 5}, {}, "layers are no list"),
        (layer(5), {}, "sound cannot be"),
        (layer("sound-a.wav"), {}, "sound-a.wav is not there any more"),
        (layer("../made.mp4"), {}, "is not there any more"),
        (layer(str(secret)), {}, "is not there any more"),
        (layer("sound-a.wav"), {"sound-a.wav": str(secret)}, "is not there any more"),
        (layer("job.json"), {}, "is not there any more"),
    ]
    wrong, before = [], backend.queue.ids()
    for track, files, sentence in cases:
        with pytest.raises(InputError) as failure:
            submit_sound(backend, uploads, clip.id, track, files)
        if sentence not in str(failure.value):
            wrong.append(f"{track}: {failure.value}")
    assert not wrong, "\n".join(wrong)
    for path in (secret, uploads.folder / ".." / "secret.wav"):
        with pytest.raises(InputError, match="upload"):
            take_sound(backend, uploads, str(path))
    text = uploads.folder / "a.wav"
    text.parent.mkdir(parents=True, exist_ok=True)
    text.write_text("no sound")
    with pytest.raises(InputError, match="cannot be used as sound"):
        take_sound(backend, uploads, str(text))
    with pytest.raises(InputError, match="cannot get a sound"):
        submit_sound(backend, uploads, "0" * 16, TRACK, {})
    with pytest.raises(StudioError, match="Another"):
        submit_sound(watching, uploads, clip.id, TRACK, {})
    assert backend.queue.ids() == before == {folder.name for folder in backend.queue.job_folders()}
    assert own_name("../../etc/passwd") == "sound-..-..-etc-passwd" and own_name("sound-a.wav") == "sound-a.wav"


def test_a_draft_is_the_mix_made_once_for_each_track(
    backend: Backend, watching: Backend, uploads: Uploads, clip: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    told = replace(
        backend.sound, draft=lambda clip, track, files: made.append(clip) or backend.sound.draft(clip, track, files)
    )
    file = uploaded(uploads, "bell.wav")
    bell = {"sound": "sound-bell.wav", "start": 0.5, "end": 0.9, "loop": False}
    quiet = {"version": 1, "lines": [], "layers": [bell]}
    named, desk = {"sound-bell.wav": str(file)}, replace(watching, sound=told)
    key, unheard = make_draft(desk, uploads, clip.id, quiet, named)
    assert unheard == [] and backend.queue.count() == 1, "also where another program works on the queue"
    wave = decoded(draft_of(backend, key))
    assert len(wave) == RATE and level_db(wave[: RATE // 2]) < -80 and level_db(wave[int(0.55 * RATE) :]) > -30
    assert make_draft(desk, uploads, clip.id, quiet | {"subtitles": False}, named) == (key, []) and len(made) == 1
    write_sound(file, tone(0.5, 880))
    others = [(quiet, named), (quiet | {"seed": 1}, named), (TRACK | {"length": "sound"}, {})]
    keys = [make_draft(desk, uploads, clip.id, track, files)[0] for track, files in others]
    assert len({key, *keys}) == 4 == len(made), "another file of that name, another seed, other lines"
    assert abs(len(decoded(draft_of(backend, keys[2]))) / RATE - 1) < 0.01

    monkeypatch.setattr("studio.commands.sound_desk.ready_voices", lambda folder: ["anna"])
    spoken = {"text": "Hello.", "voice": "anna"}
    mixed = TRACK | {"lines": [*TRACK["lines"], spoken]}
    assert make_draft(desk, uploads, clip.id, mixed, {})[1] == ["Hello."], "told, not silently left out"
    for track, sentence in (
        ({"version": 1, "lines": [spoken]}, "Only lines of the speech model"),
        ({"version": 1}, "nothing to hear"),
        (TRACK | {"lines": [{"text": "x" * 10_000}]}, "10000 characters"),
        (TRACK | {"layers": [bell | {"sound": "../made.mp4"}]}, "not there any more"),
    ):
        with pytest.raises(InputError, match=sentence):
            make_draft(desk, uploads, clip.id, track, {})
    with pytest.raises(InputError, match="cannot get a sound"):
        make_draft(desk, uploads, "0" * 16, TRACK, {})
    assert [draft_of(backend, name) for name in ("../made", "x" * 32, "0" * 31, "")] == [None] * 4
    monkeypatch.setattr(drafts, "KEPT", 2)
    make_draft(desk, uploads, clip.id, TRACK | {"seed": 2}, {})
    assert len(list((backend.queue.folder / drafts.FOLDER).iterdir())) == 2, "the oldest go"


def test_what_is_meant_for_videos_has_no_meaning_for_a_sound(backend: Backend, uploads: Uploads, clip: Job) -> None:
    queue = backend.queue
    first = queue.submit(SETTINGS)
    sound = submit_sound(backend, uploads, clip.id, TRACK, {})
    second = queue.submit(SETTINGS)
    assert [queue.ahead(job.id) for job in (first, sound, second)] == [0, 0, 1]
    timed = replace(backend, plan=lambda settings: {"seconds_total": 10.0})
    assert Schedule(timed, lambda: 100.0).ends(queue.in_order()) == [110.0, None, 120.0]
    assert not verbs.take_back(queue, sound.id) and verbs.put_back(queue, sound.id, SETTINGS) is None
    assert verbs.duplicate(queue, sound.id, [1]) == [] and vary(backend, sound.id, [{"seed": 1}]) == []
    assert queue.claim("cuda:0").id == first.id and queue.claim(SOUND_WORKER, JobKind.SOUND).id == sound.id
    assert queue.claim(SOUND_WORKER, JobKind.SOUND) is None and queue.claim("cuda:1").id == second.id
    assert not verbs.finish_now(queue, sound.id) and queue.get(sound.id).request == Request.NONE
    assert verbs.pause(queue, sound.id) and queue.stopped(sound.id) == JobState.PAUSED
    assert not verbs.decode_saved(queue, sound.id) and verbs.go_on(queue, sound.id) is None
    assert queue.resume(sound.id) and queue.claim(SOUND_WORKER, JobKind.SOUND).attempts == 2


def test_a_disk_without_room_fails_the_job_with_a_sentence(
    backend: Backend, uploads: Uploads, clip: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit_sound(backend, uploads, clip.id, TRACK, {})
    before = sorted(tmp_path.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr("studio.audio.clip.shutil.disk_usage", lambda folder: shutil._ntuple_diskusage(2**40, 2**40, 9))
        make_sounds(backend, tmp_path)
    failed = backend.queue.get(job.id)
    assert failed.state == JobState.FAILED and failed.error.code == "disk_full"
    assert sorted(tmp_path.iterdir()) == before
    assert backend.queue.resume(job.id)
    make_sounds(backend, tmp_path)
    assert backend.queue.get(job.id).state == JobState.FINISHED
