"""A soundtrack as it is asked for: spoken lines and layers. To and from json; everything wrong is a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from studio.audio.rooms import ROOMS
from studio.audio.sounds import SOUNDS
from studio.audio.styles import MOST_STYLES, is_style
from studio.errors import InputError

T = TypeVar("T")
VERSION = 1
LONGEST = 600.0  # seconds of a clip and of its sound
MOST = 64  # lines, and layers
TEXT_LIMIT = 2000  # characters of a line
LANGUAGES = ("auto", "en", "zh", "yue")
LENGTHS = ("picture", "sound")
RANGES: dict[str, tuple[float, float]] = {
    "start": (0.0, LONGEST),
    "end": (0.0, LONGEST),
    "gain_db": (-60.0, 20.0),
    "pan": (-1.0, 1.0),
    "fade_in": (0.0, 30.0),
    "fade_out": (0.0, 30.0),
    "duck_db": (0.0, 40.0),
    "seed": (0, 2**63 - 1),
}


@dataclass(frozen=True)
class VoiceLine:
    """Something that is said. start: seconds; gain_db: 0 is the level of every line; pan: -1 left to 1 right.

    style: how a voice of a model reads it, words of studio.audio.styles; the robot knows none.
    """

    text: str
    start: float = 0.0
    voice: str = "robot"
    language: str = "auto"
    gain_db: float = 0.0
    pan: float = 0.0
    style: str = ""


@dataclass(frozen=True)
class Layer:
    """A sound under the picture from start to end (seconds).

    sound: one of SOUNDS, or the path of an audio file. gain_db: 0 is as loud as speech. fade_in, fade_out: seconds.
    loop: repeat a file that is shorter than the layer. room: one of ROOMS.
    """

    sound: str
    start: float
    end: float
    gain_db: float = 0.0
    fade_in: float = 0.05
    fade_out: float = 0.05
    pan: float = 0.0
    loop: bool = True
    room: str = "dry"

    @property
    def file(self) -> Path | None:
        """The audio file, None for a procedural sound."""
        return None if self.sound in SOUNDS else Path(self.sound)


@dataclass(frozen=True)
class SoundSettings:
    """A whole soundtrack.

    duck_db: how much layers sink while someone speaks. length: "picture": cut or padded with silence to the picture's
    length; "sound": as long as what is heard, shorter or longer. subtitles: the lines as a text track. seed: of every
    random sound.
    """

    lines: tuple[VoiceLine, ...] = ()
    layers: tuple[Layer, ...] = ()
    duck_db: float = 9.0
    length: str = "picture"
    subtitles: bool = True
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data for json; files are named without their folders."""
        data = asdict(self)
        for layer, asked in zip(data["layers"], self.layers, strict=True):
            layer["sound"] = asked.file.name if asked.file else asked.sound
        return {"version": VERSION, **data, "lines": list(data["lines"]), "layers": list(data["layers"])}

    @classmethod
    def from_dict(cls, data: Any, folder: Path) -> SoundSettings:
        """Read `to_dict` back; names of files are looked for in `folder`. Raises InputError for anything else."""
        given = dict(_object(data))
        if given.pop("version", None) != VERSION:
            raise InputError("sound_recipe", reason=f"its version is not {VERSION}")
        lines = [_read(VoiceLine, item) for item in _list(given, "lines")]
        layers = [_read(Layer, item) for item in _list(given, "layers")]
        placed = []
        for layer in layers:
            name = layer.sound
            if layer.file and (Path(name).name != name or name in ("", ".", "..")):
                raise InputError("sound_recipe", reason=f"{name!r} is no name of a file")
            placed.append(Layer(**{**asdict(layer), "sound": str(folder / name)}) if layer.file else layer)
        return _read(cls, {**given, "lines": tuple(lines), "layers": tuple(placed)})

    def check(self) -> None:
        """Raise the first problem as an InputError."""
        for problem in self._problems():
            raise problem

    def _problems(self) -> Iterator[InputError]:
        if not self.lines and not self.layers:
            yield InputError("sound_empty")
        for what, items in (("lines", self.lines), ("layers", self.layers)):
            if len(items) > MOST:
                yield InputError("sound_many", what=what, count=len(items), limit=MOST)
        for line in self.lines:
            yield from _line_problems(line)
        for layer in self.layers:
            yield from _layer_problems(layer)
        yield from _numbers(self, ("duck_db", "seed"))
        if self.length not in LENGTHS:
            yield InputError("choice_unknown", field="length", value=self.length[:40], known=", ".join(LENGTHS))


def _line_problems(line: VoiceLine) -> Iterator[InputError]:
    if not any(char.isalnum() for char in line.text):
        yield InputError("line_empty")
    if any("\ud800" <= char <= "\udfff" for char in line.text):
        yield InputError("settings_unreadable", reason="a line holds half a character")
    if (length := len(line.text)) > TEXT_LIMIT:
        yield InputError("line_long", length=length, limit=TEXT_LIMIT, over=length - TEXT_LIMIT)
    if line.language not in LANGUAGES:
        yield InputError("choice_unknown", field="language", value=line.language[:40], known=", ".join(LANGUAGES))
    if not is_style(line.style):
        yield InputError("style_unknown", value=line.style[:40], limit=MOST_STYLES)
    yield from _numbers(line, ("start", "gain_db", "pan"))


def _layer_problems(layer: Layer) -> Iterator[InputError]:
    yield from _numbers(layer, ("start", "end", "gain_db", "fade_in", "fade_out", "pan"))
    if not layer.start < layer.end:
        yield InputError("layer_times", sound=_name(layer), start=layer.start, end=layer.end)
    if layer.room not in ROOMS:
        yield InputError("choice_unknown", field="room", value=layer.room[:40], known=", ".join(ROOMS))


def _name(layer: Layer) -> str:
    return layer.file.name if layer.file else layer.sound


def _numbers(item: Any, names: tuple[str, ...]) -> Iterator[InputError]:
    for name in names:
        value, (low, high) = getattr(item, name), RANGES[name]
        if value != value:
            yield InputError("number_invalid", field=name, value=value)
        elif not low <= value <= high:
            yield InputError("number_range", field=name, value=value, low=low, high=high)


def _object(data: Any) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise InputError("sound_recipe", reason="it is no object of fields")
    return data


def _list(data: dict[str, Any], name: str) -> list[Any]:
    found = data.pop(name, [])
    if not isinstance(found, list) or len(found) > MOST:
        raise InputError("sound_recipe", reason=f"{name} are no list of at most {MOST}")
    return found


def _read(kind: type[T], data: Any) -> T:
    """An object of exactly this kind's fields with their types. Raises InputError."""
    given, types = _object(data), get_type_hints(kind)
    if unknown := sorted(map(str, set(given) - set(types))):
        raise InputError("sound_recipe", reason=f"it holds {', '.join(unknown)}")
    for name, value in given.items():
        allowed = tuple(get_args(types[name])) or (types[name],)
        if isinstance(value, tuple):
            continue
        fits = isinstance(value, allowed) or (float in allowed and isinstance(value, int))
        if not fits or (isinstance(value, bool) and bool not in allowed):
            raise InputError("sound_recipe", reason=f"{name} cannot be {str(value)[:40]!r}")
    required = [item.name for item in fields(kind) if item.default is MISSING]  # type: ignore[arg-type]
    if missing := [name for name in required if name not in given]:
        raise InputError("sound_recipe", reason=f"{' and '.join(missing)} missing")
    return kind(**given)
