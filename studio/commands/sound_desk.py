"""What the page may ask of soundtracks, answered by studio.audio."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from studio.audio.ffmpeg import read_sound
from studio.audio.presets import PRESETS
from studio.audio.rooms import ROOMS
from studio.audio.scene import read_scene
from studio.audio.sounds import SOUNDS
from studio.audio.soundtrack import check_voices
from studio.audio.synthesis import RATE
from studio.audio.track import LONGEST, SoundSettings
from studio.errors import InputError
from studio.pipeline.speech import ready_voices
from studio.service.sound_desk import SoundDesk

ROBOT_TITLES = {"robot": ("Robot (eSpeak)", "机器人（eSpeak）"), "robot-female": ("Robot, female", "机器人（女声）")}
LANGUAGE_TITLES = {
    "auto": ("By the words", "按文字判断"),
    "en": ("English", "英语"),
    "zh": ("Mandarin", "普通话"),
    "yue": ("Cantonese", "粤语"),
}


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

    return SoundDesk(choices, check, scene, preset, lambda path: len(read_sound(path, LONGEST)) / RATE)
