"""What the page may ask of soundtracks; it knows nothing behind it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class SoundDesk:
    """Functions over plain data.

    choices: names to choose from, by family ("sounds", "rooms", "voices", "languages", "presets"): name -> titles.
    check: a track as a browser sent it, and its files' names -> the track to keep; raises InputError. scene: a text ->
    layers, and what was not understood; raises InputError. preset: name, seconds -> layers. seconds: of a sound file;
    raises InputError for what is none. line_seconds: text, voice, language -> how long a line takes to say, None where
    that is known only once it was made. draft: a clip, a checked track, where its files lie -> a wav of the mix without
    the lines of `unheard`; raises InputError, StudioError. unheard: a checked track -> texts that a draft leaves out.
    """

    choices: Callable[[], Mapping[str, Mapping[str, tuple[str, str]]]]
    check: Callable[[Any, Sequence[str]], Mapping[str, Any]]
    scene: Callable[[str], tuple[list[dict[str, Any]], Sequence[str]]]
    preset: Callable[[str, float], list[dict[str, Any]]]
    seconds: Callable[[Path], float]
    line_seconds: Callable[[str, str, str], float | None]
    draft: Callable[[Path, Mapping[str, Any], Mapping[str, Path]], bytes]
    unheard: Callable[[Mapping[str, Any]], list[str]]
