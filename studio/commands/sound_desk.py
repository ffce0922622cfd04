"""What the page may ask of soundtracks, answered by studio.audio."""

import io
import threading
import wave
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from studio.audio import robot
from studio.audio.ffmpeg import read_sound
from studio.audio.presets import PRESETS
from studio.audio.rooms import ROOMS
from studio.audio.scene import read_scene
from studio.audio.sounds import SOUNDS
from studio.audio.soundtrack import Job, check_voices, draft
from studio.audio.synthesis import RATE, Array
from studio.audio.track import LANGUAGES, LONGEST, TEXT_LIMIT, SoundSettings
from studio.errors import InputError, StudioError
from studio.pipeline.speech import ready_voices
from studio.service.sound_desk import SoundDesk

ROBOT_TITLES = {"robot": ("Robot (eSpeak)", "机器人（eSpeak）"), "robot-female": ("Robot, female", "机器人（女声）")}
LANGUAGE_TITLES = {
    "auto": ("By the words", "按文字判断"),
    "en": ("English", "英语"),
    "zh": ("Mandarin", "普通话"),
    "yue": ("Cantonese", "粤语"),
}
KEPT_LENGTHS = 4096  # lines whose length is remembered
_speaking = threading.Lock()  # one robot at a time, however many pages are typed in


def sound_desk(model_dir: Path) -> SoundDesk:
    """model_dir: where the voices of the speech model lie."""

    def choices() -> Mapping[str, Mapping[str, tuple[str, str]]]:
        voices = {name: (name, name) for name in ready_voices(model_dir)}
        return {
            "sounds": {name: (sound.english, sound.chinese) for name, sound in SOUNDS.items()},
            "rooms": {name: (room.english, room.chinese) for name, room in ROOMS.items()},
            "voices": ROBOT_TITLES | voices,
            "languages": LANGUAGE_TITLES,
            "presets": {name: (preset.english, preset.chinese) for name, preset in PRESETS.items()},
        }

    def check(track: Any, files: Sequence[str]) -> Mapping[str, Any]:
        settings = SoundSettings.from_dict(track, Path())
        settings.check()
        check_voices(settings, ready_voices(model_dir))
        for layer in settings.layers:
            if layer.file and layer.file.name not in files:
                raise InputError("sound_unknown", value=layer.file.name, known=", ".join(SOUNDS))
        return settings.to_dict()

    def scene(text: str) -> tuple[list[dict[str, Any]], Sequence[str]]:
        found = read_scene(text)
        return [asdict(layer) for layer in found.layers], found.unknown

    def preset(name: str, seconds: float) -> list[dict[str, Any]]:
        if name not in PRESETS:
            raise InputError("choice_unknown", field="preset", value=name[:40], known=", ".join(PRESETS))
        return PRESETS[name].of(min(max(seconds, 0.1), LONGEST))

    return SoundDesk(
        choices=choices,
        check=check,
        scene=scene,
        preset=preset,
        seconds=lambda path: len(read_sound(path, LONGEST)) / RATE,
        line_seconds=line_seconds,
        draft=draft_wav,
        unheard=lambda track: [line["text"] for line in track["lines"] if line["voice"] not in robot.ROBOTS],
    )


def line_seconds(text: str, voice: str, language: str) -> float | None:
    """How long the robot says a line; None for other voices, and for a line that it cannot say."""
    speakable = len(text) <= TEXT_LIMIT and any(char.isalnum() for char in text)
    if not speakable or voice not in robot.ROBOTS or language not in LANGUAGES:
        return None
    try:
        return _robot_seconds(text, voice, language)
    except StudioError:  # said when the sound is made, with what to do about it
        return None


@lru_cache(KEPT_LENGTHS)
def _robot_seconds(text: str, voice: str, language: str) -> float:
    with _speaking:
        return len(robot.speak(text, voice, language)) / RATE


def draft_wav(clip: Path, track: Mapping[str, Any], files: Mapping[str, Path]) -> bytes:
    """The mix of a checked track as it will sound on the clip, as a wav. files: name in the track -> the sound file."""
    settings = SoundSettings.from_dict(track, Path())
    layers = [replace(one, sound=str(files[one.file.name])) if one.file else one for one in settings.layers]
    settings = replace(settings, layers=tuple(layers))
    return wav_bytes(draft(Job(settings, clip, clip, emit=lambda event: None, stop=lambda: False)))


def wav_bytes(sound: Array) -> bytes:
    """Stereo (samples, 2) at RATE as a wav of 16 bits."""
    stored = io.BytesIO()
    with wave.open(stored, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((sound.clip(-1, 1) * 32767).astype("<i2").tobytes())
    return stored.getvalue()
