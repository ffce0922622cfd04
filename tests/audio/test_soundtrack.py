"""A clip gets sound, another one, none: picture and settings stay, the file is measured by ffmpeg, nothing is lost."""

import json
from pathlib import Path

import numpy as np
import pytest

from studio.audio import soundtrack
from studio.audio.clip import Clip, read_clip
from studio.audio.soundtrack import Job, add_sound, remove_sound
from studio.audio.synthesis import RATE
from studio.audio.track import Layer, SoundSettings, VoiceLine
from studio.embedded import carried_picture
from studio.errors import Cancelled
from studio.events import Event, Notice, PhaseStarted, Progress
from studio.filenames import beside
from studio.media import read_metadata
from studio.video_writer import carry_picture
from tests.audio.clips import RECORD, decoded, ffmpeg, level_db, make_clip, stream_hash, tone, write_sound

TRACK = SoundSettings(
    lines=(
        VoiceLine("The square moves -->  <b>right</b>.", 0.5),
        VoiceLine("红色的方块。", 2.4, "robot-female", pan=0.5),
    ),
    layers=(Layer("water", 0.0, 2.2, gain_db=-12), Layer("splash", 2.0, 3.0, room="hall")),
    seed=5,
)


def job(settings: SoundSettings, clip: Path, to: Path, events: list[Event] | None = None, stop: int = 10**6) -> Job:
    """A job that is stopped when it has told `stop` events."""
    told: list[Event] = [] if events is None else events
    return Job(settings, clip, to, told.append, lambda: len(told) >= stop, clock=lambda: 0.0)


def codes(events: list[Event]) -> list[str]:
    return [event.code for event in events if isinstance(event, Notice)]


def test_a_soundtrack_is_added_again_and_taken_away_and_the_picture_never_changes(tmp_path: Path) -> None:
    clip, to, back = make_clip(tmp_path / "clip.mp4", 100), tmp_path / "with sound.mp4", tmp_path / "back.mp4"
    (tmp_path / "clip.json").write_text(json.dumps({**RECORD, "memory": {"vram": 1}}))
    (tmp_path / "clip.jpg").write_bytes(b"poster")
    carry_picture(clip, b"first image")
    events: list[Event] = []
    made = add_sound(job(TRACK, clip, to, events))
    assert stream_hash(to) == stream_hash(clip) and read_clip(to).frames == 100
    assert carried_picture(to, 100) == b"first image"
    wave = decoded(to)
    assert abs(len(wave) / RATE - 4.0) < 0.02 and made.seconds == 4.0
    assert abs(made.loudness.integrated + 16) < 1 and made.loudness.true_peak <= -1
    assert level_db(wave[int(3.95 * RATE) :]) < -90, "silence where nothing was asked"
    assert not np.array_equal(wave[:, 0], wave[:, 1])

    record = read_metadata(to.read_bytes())
    recipe = record.pop("sound")
    assert record == RECORD and SoundSettings.from_dict(_known(recipe), tmp_path) == TRACK
    told = json.loads(beside(to, ".json").read_text())
    assert (
        told["sound"] == recipe and told["memory"] == {"vram": 1} and told["loudness_lufs"] == made.loudness.integrated
    )
    assert beside(to, ".jpg").read_bytes() == b"poster"
    blocks = ffmpeg("-i", to, "-map", "0:s", "-f", "srt", "-").decode().strip().split("\n\n")
    assert blocks[0].splitlines()[0::2] == ["1", "The square moves → ‹b›right‹/b›."]
    assert blocks[0].splitlines()[1].startswith("00:00:00,500 --> 00:00:0") and blocks[1].endswith("红色的方块。")
    assert [event.phase for event in events if isinstance(event, PhaseStarted)] == ["speak", "mix", "write"]
    assert [(e.phase, e.step, e.steps) for e in events if isinstance(e, Progress)][:4] == [
        ("speak", 1, 2), ("speak", 2, 2), ("mix", 1, 2), ("mix", 2, 2)
    ]  # fmt: skip

    again = tmp_path / "again.mp4"
    add_sound(job(TRACK, to, again))
    assert np.array_equal(decoded(again), wave), "the same samples from the same recipe"
    add_sound(job(SoundSettings(layers=(Layer("rain", 0, 4),), subtitles=True), to, to))
    assert b"mov_text" not in ffmpeg("-i", to, "-f", "ffmetadata", "-") and stream_hash(to) == stream_hash(clip)
    remove_sound(job(SoundSettings(), to, back))
    assert stream_hash(back) == stream_hash(clip) and read_clip(back).sounds == 0
    assert read_clip(back).tags == read_clip(clip).tags and "sound" not in json.loads(beside(back, ".json").read_text())
    assert sorted(path.suffix for path in tmp_path.iterdir() if path.suffix == ".tmp") == []


def _known(recipe: dict) -> dict:
    return {name: value for name, value in recipe.items() if name != "files"}


def test_sound_that_is_longer_or_shorter_than_the_picture_is_said_and_cut_or_padded(tmp_path: Path) -> None:
    clip, to = make_clip(tmp_path / "clip.mp4", 25), tmp_path / "out.mp4"
    rain, late = Layer("rain", 0, 0.5), Layer("drips", 0.2, 1.6)
    cases = [
        ("picture", (rain,), 1.0, ["sound_padded"]),
        ("picture", (rain, late), 1.0, ["sound_cut"]),
        ("picture", (rain, Layer("birds", 5, 9)), 1.0, ["sound_cut"]),
        ("sound", (rain,), 0.5, ["sound_short"]),
        ("sound", (rain, late), 1.6, ["sound_beyond"]),
        ("picture", (Layer("rain", 0, 1),), 1.0, []),
    ]
    for length, layers, seconds, said in cases:
        events: list[Event] = []
        add_sound(job(SoundSettings(layers=layers, length=length), clip, to, events))
        assert [code for code in codes(events) if code != "sound_quiet"] == said, (length, layers)
        assert abs(len(decoded(to)) / RATE - seconds) < 0.02 and stream_hash(to) == stream_hash(clip)
    events = []
    add_sound(job(SoundSettings((VoiceLine("A long first line", 0), VoiceLine("b", 0.2))), clip, to, events))
    assert "line_overlap" in codes(events)


def test_a_foreign_clip_keeps_its_comment_and_is_told_that_its_sound_goes(tmp_path: Path) -> None:
    bare, clip, to = make_clip(tmp_path / "bare.mp4", 25), tmp_path / "clip.mp4", tmp_path / "out.mp4"
    sound = write_sound(tmp_path / "a.wav", tone(1))
    words = ("-metadata", "comment=shot on a phone\n[x]", "-metadata", "title=Holiday; 1=2")
    ffmpeg("-i", bare, "-i", sound, "-map", "0:v", "-map", "1:a", "-c:v", "copy", *words, clip)
    events: list[Event] = []
    own = Layer(str(clip), 0, 1, loop=False)  # the clip's own sound as a layer
    add_sound(job(SoundSettings(layers=(own,)), clip, to, events))
    assert "sound_replaced" in codes(events) and read_clip(to).tags["title"] == "Holiday; 1=2"
    spectrum = np.abs(np.fft.rfft(decoded(to)[:RATE, 0]))
    assert abs(int(spectrum.argmax()) - 440) <= 1, "it is heard"
    remove_sound(job(SoundSettings(), to, to))
    assert read_clip(to).tags == read_clip(clip).tags == {"comment": "shot on a phone\n[x]", "title": "Holiday; 1=2"}
    assert read_clip(to).sounds == 0 and stream_hash(to) == stream_hash(clip)


def test_stopping_at_any_event_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip, to = make_clip(tmp_path / "clip.mp4", 25), tmp_path / "out.mp4"
    monkeypatch.setattr(soundtrack.robot, "speak", lambda *_: tone(0.3)[:, 0])
    track = SoundSettings((VoiceLine("x", 0.1),), (Layer("drips", 0, 1),))
    events: list[Event] = []
    add_sound(job(track, clip, to, events))
    whole = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for count in (1, 2, 3, len(events) - 2):
        told: list[Event] = []
        with pytest.raises(Cancelled):
            add_sound(job(track, clip, to, told, stop=count))
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == whole, count


def test_a_picture_that_would_come_out_changed_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip, other, to = (tmp_path / name for name in ("clip.mp4", "other.mp4", "out.mp4"))
    make_clip(clip, 25), make_clip(other, 26)
    real = read_clip

    def swapped(path: Path) -> Clip:
        """What a coder that loses a frame would do."""
        return real(other if path.suffix == ".tmp" else path)

    monkeypatch.setattr("studio.audio.clip.read_clip", swapped)
    with pytest.raises(Exception, match="came out changed"):
        add_sound(job(SoundSettings(layers=(Layer("rain", 0, 1),)), clip, to))
    assert not to.exists() and not beside(to, ".json").exists()
