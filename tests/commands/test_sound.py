"""`sound` on the command line: a clip with everything, each wrong input as a sentence, a full disk, kill -9."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import app
from models.voice import write_voice
from studio.audio.track import SoundSettings, VoiceLine
from studio.commands.cli import build_parser
from studio.commands.sound_worker import SoundRunner
from studio.commands.voices import speaker_for
from studio.config import ROOT
from studio.errors import Cancelled
from studio.events import Event, PhaseStarted, Progress
from studio.media import read_metadata
from studio.pipeline import speech
from studio.queue.jobs import JobQueue
from studio.queue.kinds import SoundOrder
from studio.queue.locks import DeviceLock
from studio.queue.worker import Stop
from studio.video_writer import find_ffmpeg
from tests.audio.clips import RECORD, decoded, level_db, make_clip, stream_hash, tone, write_sound
from tests.queue.test_jobs import SETTINGS
from tests.tiny_speech import tiny_voice, write_speech_folder

SCENE = "0-0.4秒：水下，0.4-1 s: the splash with a harp"
FAKE = """#!/bin/sh
case "$*" in
*.mp4.tmp) for to; do :; done; echo begun > "${to#file:}"; exec sleep 300;;
*) exec FFMPEG "$@";;
esac
"""


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "clip.mp4", 34)


def test_a_clip_gets_lines_layers_and_a_scene_then_other_ones_then_none(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scene.txt").write_text(SCENE, encoding="utf-8")
    write_sound(tmp_path / "a: b.wav", tone(0.3))
    words = ["--say", "Go!", "--at", "0.1", "--layers-file", str(tmp_path / "scene.txt"), "--seed", "4"]
    words += ["--layer", "rain:0-1:-12dB:hall:left:fade=0.2", "--layer", f"{tmp_path / 'a: b.wav'}:0.2-1.3:once"]
    assert app.main(["sound", str(clip), *words]) == 0
    told = capsys.readouterr()
    made = tmp_path / "clip-sound.mp4"
    assert told.out.splitlines()[0] == str(made) and " LUFS, true peak -" in told.out
    assert "Not understood in the scene: harp." in told.err
    recipe = read_metadata(made.read_bytes())["sound"]
    assert [layer["sound"] for layer in recipe["layers"]] == ["rain", "a: b.wav", "under_water", "splash"]
    assert recipe["layers"][0] == {
        "sound": "rain", "start": 0.0, "end": 1.0, "gain_db": -12.0, "fade_in": 0.2, "fade_out": 0.2, "pan": -0.7,
        "loop": True, "room": "hall",
    }  # fmt: skip
    assert not recipe["layers"][1]["loop"] and list(recipe["files"]) == ["a: b.wav"] and recipe["seed"] == 4
    assert str(tmp_path) not in made.read_bytes().decode("utf-8", "replace"), "no folder of this machine is told"
    assert stream_hash(made) == stream_hash(clip)

    assert (
        app.main(["sound", str(clip), "--from-sound", str(made), "--say", "Stop!", "--at", "0.9", "--duck", "3"]) == 0
    )
    second = read_metadata((tmp_path / "clip-sound-2.mp4").read_bytes())["sound"]
    assert [line["text"] for line in second["lines"]] == ["Go!", "Stop!"] and second["files"] == recipe["files"]
    assert (second["duck_db"], second["seed"], second["layers"]) == (3.0, 4, recipe["layers"])
    assert app.main(["sound", str(made), "--without-sound", "--output", str(made), "--overwrite"]) == 0
    assert read_metadata(made.read_bytes()) == RECORD and stream_hash(made) == stream_hash(clip)


def test_every_wrong_input_is_a_sentence_and_writes_nothing(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "text.wav").write_text("no sound")
    (tmp_path / "scene.txt").write_text("0-2 s: trombone")
    (tmp_path / "long.txt").write_text("0-2 s: rain, " * 1000)
    write_sound(tmp_path / "only.mp4", tone(1))
    here, rain = str(clip), ("--layer", "rain:0-1")
    cases: list[tuple[list[str], str]] = [
        ([here], "There is nothing to hear"),
        ([str(tmp_path / "gone.mp4"), *rain], "cannot be read: No such file"),
        ([str(tmp_path), *rain], "cannot be read: Is a directory"),
        ([str(tmp_path / "text.mp4"), *rain], "text.mp4 is no video that sound can be added to"),
        ([str(tmp_path / "only.mp4"), *rain], "it has no picture"),
        ([here, "--say", " ... "], "A line says nothing"),
        ([here, "--say", "好" * 10_000], "A line has 10000 characters, 2000 are allowed: shorten it by 8000"),
        ([here, "--say", "a", "--say", "b", "--at", "1"], "There are 2 lines and 1 times"),
        ([here, "--say", "a", "--at", "-1"], "start is -1.0, it must lie between 0.0 and 600.0"),
        ([here, "--say", "a", "--at", "nan"], "start is nan, which is not a number"),
        ([here, "--say", "a", "--voice", "Tingting"], "There is no voice 'Tingting'; the voices are: robot"),
        ([here, "--say", "a", "--language", "tlh"], "language is 'tlh'; it must be one of auto, en"),
        ([here, "--layer", "rain"], "cannot be read (no NAME:START-END)"),
        ([here, "--layer", "rain:0-1:upstairs"], "'upstairs' is unknown"),
        ([here, "--layer", "tuba:0-1"], "There is no sound or sound file 'tuba'; the sounds are: rain, wind"),
        ([here, "--layer", "rain:2-1"], "goes from 2 to 1 s"),
        ([here, "--layer", "rain:0-9000"], "end is 9000.0, it must lie between"),
        ([here, "--layer", "rain:0-1:90dB"], "gain_db is 90.0"),
        ([here, *rain * 65], "There are 65 layers, 64 are allowed"),
        ([here, "--layer", f"{tmp_path}/text.wav:0-1"], "text.wav cannot be used as sound"),
        ([here, "--layer", f"{tmp_path}:0-1"], "cannot be read: "),
        ([here, *rain, "--layers-file", str(tmp_path / "gone.txt")], "gone.txt cannot be read"),
        ([here, "--layers-file", str(tmp_path / "scene.txt")], "Nothing in the scene is known (trombone)"),
        ([here, "--layers-file", str(tmp_path / "long.txt")], "The scene has 13000 characters"),
        ([here, *rain, "--duck", "99"], "duck_db is 99.0"),
        ([here, *rain, "--length", "video"], "length is 'video'; it must be one of picture, sound"),
        ([here, *rain, "--seed", "-1"], "seed is -1"),
        ([here, "--from-sound", here], "clip.mp4 holds no soundtrack of this program"),
        ([here, "--without-sound", *rain], "leave --layer out"),
        ([here, *rain, "--output", here], "exists already"),
        ([here, *rain, "--output", str(tmp_path / "gone" / "a.mp4")], "its folder is not there"),
    ]
    before, wrong = sorted(tmp_path.iterdir()), []
    for words, sentence in cases:
        code, said = app.main(["sound", *words]), capsys.readouterr().err
        if code != 2 or sentence not in said:
            wrong.append(f"{words}: {code} {said!r}")
    assert not wrong, "\n".join(wrong)
    assert sorted(tmp_path.iterdir()) == before


def run(words: list[str], **options) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "app.py"), "sound", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_a_disk_that_fills_up_is_a_sentence_and_leaves_the_clip_alone(clip: Path, tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands for the full disk: writes fail in the middle of the file."""

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

    before = clip.read_bytes()
    process = run([str(clip), "--layer", "rain:0-1", "--output", str(clip), "--overwrite"], preexec_fn=small_files)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 1 and "clip.mp4.tmp could not be written: " in said and "Traceback" not in said, said
    assert list(tmp_path.iterdir()) == [clip] and clip.read_bytes() == before


def test_kill_9_leaves_the_clip_and_the_next_run_is_whole(clip: Path, tmp_path: Path) -> None:
    fake = tmp_path / "ffmpeg"
    fake.write_text(FAKE.replace("FFMPEG", find_ffmpeg()))
    fake.chmod(0o755)
    words = [str(clip), "--layer", "engine:0-1.3", "--output", str(clip), "--overwrite"]
    before, unfinished = clip.read_bytes(), tmp_path / "clip.mp4.tmp"
    process = run(words, env={**os.environ, "IMAGEIO_FFMPEG_EXE": str(fake)})
    while not unfinished.exists() and process.poll() is None:
        time.sleep(0.05)
    children = [int(child) for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL and clip.read_bytes() == before and unfinished.exists()
    for child in children:
        os.kill(child, signal.SIGKILL)
    assert app.main(["sound", *words]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.json", "clip.mp4", "ffmpeg"]
    assert level_db(decoded(clip)) > -40 and read_metadata(clip.read_bytes())["settings"] == RECORD["settings"]


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The flags of a machine with a rule-made Step-Audio-TTS and one voice; a sentence is cut after three groups."""
    monkeypatch.setattr(speech, "SENTENCE_SECONDS", 0.36)
    folder = tmp_path / "models"
    write_speech_folder(folder / "step-audio-tts")
    (folder / speech.VOICES).mkdir()
    write_voice(folder / speech.VOICES / "anna.safetensors", tiny_voice())
    return ["--model-dir", str(folder), "--device", "cpu", "--ram", "8"]


def test_a_voice_of_the_speech_model_speaks_whole_streamed_and_int8(
    clip: Path, models: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["--say", "hello <|EOT|>world", "--voice", "anna", "--style", "slow, happy RAP", "--at", "0.2"]
    assert app.main(["quantize", "step-audio-tts", *models]) == 0
    made = []
    for number, flags in enumerate((["--offload", "none"], ["--offload", "disk"], ["--quantize", "int8"])):
        to = tmp_path / f"{number}.mp4"
        assert app.main(["sound", str(clip), *line, *models, *flags, "--output", str(to)]) == 0
        told = capsys.readouterr().err
        assert "The line at 0.20 s was cut" in told and "Speaking: codes" in told
        made.append(decoded(to))
        assert stream_hash(to) == stream_hash(clip) and level_db(made[-1][14400:24000]) > -40
    assert (made[0] == made[1]).all() and made[2].shape == made[0].shape
    recipe = read_metadata((tmp_path / "0.mp4").read_bytes())["sound"]
    assert recipe["lines"][0]["voice"] == "anna" and recipe["lines"][0]["style"] == "slow, happy RAP"

    for wrong, sentence in (
        (["--voice", "nobody"], "no voice 'nobody'; the voices are: robot, robot-female, anna."),
        (["--voice", "anna", "--style", "(x)"], "The instruction '(x)' cannot be used"),
        (["--style", "happy"], "The voice robot knows no instructions"),
        (["--voice", "anna", "--model-dir", str(tmp_path / "none")], "no voice 'anna'"),
    ):
        assert app.main(["sound", str(clip), "--say", "hello", *models, *wrong]) == 2
        assert sentence in capsys.readouterr().err


class GoOn:
    """Orders of a job that nobody stops."""

    def stop(self) -> bool:
        return False

    finish = stop


def test_a_voice_of_the_speech_model_waits_for_the_device_of_a_video_and_speaks_in_the_worker(
    clip: Path, models: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has the device has the budgets: nothing of the speech model is loaded meanwhile, and Stop is heard."""
    monkeypatch.setattr("studio.commands.speaker.runtime_folder", lambda: tmp_path)
    track, told = SoundSettings((VoiceLine("hello", voice="anna"),)), list[Event]()
    speaker = speaker_for(track, build_parser().parse_args(["sound", "clip.mp4", *models]))
    with DeviceLock(tmp_path, "cpu", "the worker of videos"), pytest.raises(Cancelled):
        speaker.speak(track.lines, 0, told.append, lambda: bool(told))
    assert [event.code for event in told] == ["device_busy"] and "the worker of videos" in told[0].text
    queue = JobQueue(tmp_path / ".queue")
    (job,) = queue.submit_all([SETTINGS], sound=SoundOrder(str(clip), track.to_dict()))
    flags = ["sound_worker", "--queue", str(queue.folder), *models]
    told.clear()
    made = SoundRunner(build_parser().parse_args(flags), tmp_path / "made").run(job, told.append, GoOn())
    phases = [event.phase for event in told if isinstance(event, PhaseStarted)]
    assert phases == ["load", "speak_codes", "speak_mel", "speak_wave", "speak", "write"]
    assert {event.phase for event in told if isinstance(event, Progress)} >= {"speak_codes", "speak_mel", "speak_wave"}
    assert level_db(decoded(Path(made.path))[:12000]) > -60 and stream_hash(Path(made.path)) == stream_hash(clip)
    assert DeviceLock(tmp_path, "cpu").acquire(), "and the device is free again"


def test_a_process_of_sounds_that_holds_memory_of_a_gpu_ends_once_nothing_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    for holds in (False, True):
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda holds=holds: holds)
        runner = SoundRunner(build_parser().parse_args(["sound_worker", "--queue", str(tmp_path)]), tmp_path)
        runner.release()
        assert runner.leaves == runner.stop.asked == holds
    runner = SoundRunner(runner.options, tmp_path, Stop())
    runner.stop.asked = True  # by the page: there is to be no other
    runner.release()
    assert not runner.leaves
