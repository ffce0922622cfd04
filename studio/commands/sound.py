"""`sound`: a finished clip gets a soundtrack, another one, or none; its picture stays as it is, packet by packet."""

import argparse
import itertools
import os
import re
from dataclasses import replace
from pathlib import Path

from studio.audio.clip import read_clip
from studio.audio.rooms import ROOMS
from studio.audio.scene import read_scene
from studio.audio.sounds import SOUNDS
from studio.audio.soundtrack import Job, add_sound, remove_sound
from studio.audio.track import Layer, SoundSettings, VoiceLine
from studio.commands.signals import stopping
from studio.commands.terminal import ProgressBar
from studio.commands.user_files import read_file
from studio.commands.voices import speaker_for
from studio.errors import InputError
from studio.events import notice

STOPPING = "Stopping after the line or layer in work; Ctrl-C again ends at once."
_LAYER = re.compile(r"(?P<sound>.+?):(?P<start>\d+(?:\.\d+)?)-(?P<end>\d+(?:\.\d+)?)s?(?P<rest>(?::[^:]*)*)", re.S)
_GAIN = re.compile(r"([+-]?\d+(?:\.\d+)?)db", re.I)
_FADE = re.compile(r"fade=(\d+(?:\.\d+)?)")
_CHANGES = ("say", "layer", "layers_file", "from_sound", "at", "voice", "style", "language", "duck", "length", "seed")


def run(options: argparse.Namespace) -> int:
    """Add, change or remove a clip's sound."""
    if options.without_sound and (given := [name for name in _CHANGES if getattr(options, name) is not None]):
        raise InputError("sound_flags", flags=", ".join(f"--{name.replace('_', '-')}" for name in given))
    read_file_head(options.clip)
    to = output_path(options)
    with stopping(STOPPING) as stop, ProgressBar() as bar:
        settings = SoundSettings() if options.without_sound else sound_settings(options, bar)
        job = Job(settings, options.clip, to, bar.show, stop.is_set, speaker=speaker_for(settings, options))
        if options.without_sound:
            remove_sound(job)
            print(to)
            return 0
        made = add_sound(job)
    print(f"{made.path}\n{made.loudness.integrated:.1f} LUFS, true peak {made.loudness.true_peak:.1f} dB")
    return 0


def read_file_head(path: Path) -> None:
    """Raise InputError where the file cannot be read."""
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise InputError("file_unreadable", file=path, reason=error.strerror or str(error)) from None


def output_path(options: argparse.Namespace) -> Path:
    """--output, a name in that folder, or a free name beside the clip. Raises InputError for one that is taken."""
    clip: Path = options.clip.resolve()
    name = f"{clip.stem}-silent" if options.without_sound else f"{clip.stem}-sound"
    asked = options.output.resolve() if options.output else clip.parent
    if asked.is_dir():
        names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
        return next(asked / f"{free}.mp4" for free in names if not os.path.exists(asked / f"{free}.mp4"))
    to: Path = asked if asked.suffix.lower() == ".mp4" else asked.with_name(asked.name + ".mp4")
    if os.path.lexists(to) and not options.overwrite:
        raise InputError("output_exists", file=to)
    if not to.parent.is_dir() or not os.access(to.parent, os.W_OK | os.X_OK):
        raise InputError("write_failed", file=to, reason="its folder is not there, or not to be written in")
    return to


def sound_settings(options: argparse.Namespace, bar: ProgressBar) -> SoundSettings:
    """What the flags ask for, on top of an earlier soundtrack's recipe where one is named. Raises InputError."""
    settings = SoundSettings()
    if options.from_sound is not None:
        recipe = read_clip(options.from_sound).record.get("sound")
        if recipe is None:
            raise InputError("sound_absent", file=options.from_sound.name)
        known = {name: value for name, value in recipe.items() if name != "files"} if isinstance(recipe, dict) else None
        settings = SoundSettings.from_dict(known, options.from_sound.resolve().parent)
    layers = [read_layer(text) for text in options.layer or ()]
    if options.layers_file is not None:
        text = read_file(options.layers_file).decode("utf-8-sig", errors="replace")
        scene = read_scene(text)
        layers += scene.layers
        if scene.unknown:
            bar.show(notice("scene_unknown", words="; ".join(scene.unknown)))
    changed = {"duck_db": options.duck, "length": options.length, "seed": options.seed}
    given = {name: value for name, value in changed.items() if value is not None}
    if options.no_subtitles:
        given["subtitles"] = False
    lines = (*settings.lines, *voice_lines(options))
    return replace(settings, lines=lines, layers=(*settings.layers, *layers), **given)


def voice_lines(options: argparse.Namespace) -> list[VoiceLine]:
    """The n-th --say is said at the n-th --at; a single line may go without one. Raises InputError."""
    said, times = options.say or [], options.at or []
    if len(times) != len(said) and not (len(said) == 1 and not times):
        raise InputError("line_times", lines=len(said), times=len(times))
    line = VoiceLine("", voice=options.voice or "robot", language=options.language or "auto", style=options.style or "")
    starts = times or [0.0] * len(said)
    return [replace(line, text=text, start=at) for text, at in zip(said, starts, strict=True)]


def read_layer(text: str) -> Layer:
    """NAME:START-END and behind it a gain, a room, left or right, once, fade=SECONDS. Raises InputError."""
    found = _LAYER.fullmatch(text)
    if found is None:
        raise InputError("layer_syntax", value=text, reason="no NAME:START-END")
    name = found["sound"]
    if name not in SOUNDS and not os.path.lexists(name):
        raise InputError("sound_unknown", value=name, known=", ".join(SOUNDS))
    layer = Layer(name, float(found["start"]), float(found["end"]))
    for word in found["rest"].split(":")[1:]:
        if gain := _GAIN.fullmatch(word):
            layer = replace(layer, gain_db=float(gain[1]))
        elif fade := _FADE.fullmatch(word):
            layer = replace(layer, fade_in=float(fade[1]), fade_out=float(fade[1]))
        elif word in ROOMS:
            layer = replace(layer, room=word)
        elif word in ("left", "right"):
            layer = replace(layer, pan=0.7 if word == "right" else -0.7)
        elif word == "once":
            layer = replace(layer, loop=False)
        else:
            raise InputError("layer_syntax", value=text, reason=f"{word!r} is unknown")
    return layer
