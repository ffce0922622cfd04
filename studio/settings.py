"""What a user asks for, and the same with every number filled in and checked; to and from json. No torch, no gradio."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self, get_args, get_type_hints

from models.geometry import CHUNK_FRAMES, PIXELS_PER_LATENT, VideoShape, is_frame_count
from studio.errors import InputError
from studio.magic import MagicWords, negative_prompt

if TYPE_CHECKING:
    from studio.config import CameraMove, ModelConfig  # needs omegaconf, which a machine with torch alone may lack

FPS = 25
PROMPT_LIMIT = 2000  # characters
MAX_SEED = 2**63 - 1
RANGES: dict[str, tuple[float, float]] = {
    "motion_score": (0.0, 50.0),
    "infer_steps": (1, 200),
    "cfg_scale": (1.0, 30.0),
    "time_shift": (0.1, 100.0),
    "num_frames": (1, 408),
    "height": (64, 2048),
    "width": (64, 2048),
    "seed": (0, MAX_SEED),
    "crop_left": (0.0, 1.0),
    "crop_top": (0.0, 1.0),
}
CENTRED = 0.5


class Speed(StrEnum):
    """How many passes of the transformer a video may take."""

    EXACT = "exact"  # the official sampler
    FAST = "fast"  # about 0.6 of its passes at less error, as shown on nano
    DRAFT = "draft"  # about a quarter of its passes: a preview


class CameraSpeed(StrEnum):
    """How fast a camera move goes, in the official examples' words; a camera that stands still has no speed."""

    PLAIN = "plain"  # the move's phrase alone
    SLOW = "slow"  # with 缓慢
    FAST = "fast"  # with 快速


class GuidanceSchedule(StrEnum):
    """How guidance goes over time."""

    CONSTANT = "constant"
    FALLING = "falling"  # max(g - 9 t (g - 1), 1): for Turbo in the paper (arXiv 2502.10248, section 5, eq. 11)


def drawn_seed() -> int:
    """A random seed, short enough to be read aloud."""
    return secrets.randbelow(2**32)


@dataclass(frozen=True)
class StoredSettings:
    """Reading and writing json, the same for settings as asked and as resolved."""

    def to_json(self) -> str:
        """One line of json, keys in the order of the fields."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read settings back. Raises InputError for anything that is not exactly such an object of plain values."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError("settings_unreadable", reason=str(error)) from None
        return cls.from_dict(data)

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """As from_json, from plain data; types are checked, ranges are left to `problems`."""
        if not isinstance(data, dict):
            raise InputError("settings_unreadable", reason="they are not an object of fields")
        types = TYPES[cls]
        if unknown := sorted(map(str, set(data) - set(types))):
            raise InputError("settings_field", fields=", ".join(unknown))
        for name, value in data.items():
            if not _has_type(value, types[name]):
                raise InputError("settings_unreadable", reason=f"{name} cannot be {str(value)[:40]!r}")
        required = (field.name for field in fields(cls) if field.default is MISSING)
        if missing := [name for name in required if name not in data]:
            raise InputError("settings_unreadable", reason=f"{' and '.join(missing)} missing")
        return cls(**data)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Self:
        """From what a result's file says of itself ("settings" among other keys), or from settings alone."""
        return cls.from_dict(record.get("settings", record))


@dataclass(frozen=True)
class GenerationSettings(StoredSettings):
    """One generation as asked for: a field that is None takes the model's default, an empty seed is drawn.

    first_image: path of the picture that becomes frame 1 (None: text alone). camera_move: a key of
    configs/camera_moves.yaml or "". prompt_template: what was typed, where words of the prompt were drawn
    (wildcards.py). magic_words, camera_speed: of MagicWords and CameraSpeed. crop_left, crop_top: where the part of the
    picture that is used lies in the room that it has, 0 to 1 (None: the middle); a picture of the video's shape has
    none.
    """

    model: str
    prompt: str
    negative_prompt: str | None = None
    first_image: str | None = None
    motion_score: float | None = None
    camera_move: str = ""
    infer_steps: int | None = None
    cfg_scale: float | None = None
    time_shift: float | None = None
    num_frames: int | None = None
    height: int | None = None
    width: int | None = None
    seed: int | None = None
    speed: str | None = None
    guidance_schedule: str | None = None
    prompt_template: str = ""
    magic_words: str | None = None
    camera_speed: str | None = None
    crop_left: float | None = None
    crop_top: float | None = None

    def resolve(self, model: ModelConfig) -> ResolvedSettings:
        """Fill every empty field from the model's defaults and draw a seed where there is none."""
        values = asdict(self)
        values |= {name: default for name, default in model.defaults.items() if values[name] is None}
        if self.motion_score is None and not model.variant(self.first_image is not None).motion_score:
            values["motion_score"] = None
        if self.negative_prompt is None:
            values["negative_prompt"] = negative_prompt(model, self.magic_words)
        if self.seed is None:
            values["seed"] = drawn_seed()
        values["speed"] = self.speed or Speed.EXACT.value
        values["guidance_schedule"] = self.guidance_schedule or GuidanceSchedule.CONSTANT.value
        values["magic_words"] = self.magic_words or MagicWords.OFFICIAL.value
        values["camera_speed"] = self.camera_speed or CameraSpeed.PLAIN.value
        values |= {name: CENTRED for name in ("crop_left", "crop_top") if values[name] is None}
        return ResolvedSettings(**values)


@dataclass(frozen=True)
class ResolvedSettings(StoredSettings):
    """One generation, complete: nothing is filled in later. The fields mean what they mean in GenerationSettings.

    first_image: None for text alone. motion_score: None for a network that takes none. Files of older versions lack the
    fields that have a default here. Its json has the same keys.
    """

    model: str
    prompt: str
    negative_prompt: str
    first_image: str | None
    motion_score: float | None
    camera_move: str
    infer_steps: int
    cfg_scale: float
    time_shift: float
    num_frames: int
    height: int
    width: int
    seed: int
    speed: str = Speed.EXACT.value
    guidance_schedule: str = GuidanceSchedule.CONSTANT.value
    prompt_template: str = ""
    magic_words: str = MagicWords.OFFICIAL.value
    camera_speed: str = CameraSpeed.PLAIN.value
    crop_left: float = CENTRED
    crop_top: float = CENTRED

    @property
    def crop_place(self) -> tuple[float, float]:
        """Where the picture is cropped, from left and from top, 0 to 1 each."""
        return self.crop_left, self.crop_top

    @property
    def video_shape(self) -> VideoShape:
        """The size of the video."""
        return VideoShape(self.num_frames, self.height, self.width)

    def same_but_picture(self, other: ResolvedSettings) -> bool:
        """Whether all but the place of the first image is equal: a picture is known by its pixels."""
        return replace(self, first_image=None) == replace(other, first_image=None)

    def asked(self) -> GenerationSettings:
        """A request for the same video: resolved again, it is equal."""
        return GenerationSettings(**asdict(self))

    def problems(self, model: ModelConfig, moves: Mapping[str, CameraMove]) -> list[InputError]:
        """Everything wrong with the settings, in the order of the form; empty when they can run."""
        found = [*_text_problems(self), *_model_problems(self, model), *_plan_problems(self, model)]
        if self.camera_move and self.camera_move not in moves:
            found.append(InputError("camera_unknown", value=self.camera_move, known=", ".join(moves)))
        numbers = [_number_problem(name, getattr(self, name)) for name in RANGES]
        found += [problem for problem in numbers if problem]
        if not any(numbers):
            found += _grid_problems(self)
            if self.num_frames > model.max_frames:
                found.append(InputError("frames_many", model=model.name, value=self.num_frames, limit=model.max_frames))
        return found

    def check(self, model: ModelConfig, moves: Mapping[str, CameraMove]) -> None:
        """Raise the first of `problems`."""
        for problem in self.problems(model, moves):
            raise problem


# Of each class, field name -> the types that its values may have.
TYPES: dict[type[StoredSettings], dict[str, tuple[type, ...]]] = {
    kind: {name: get_args(hint) or (hint,) for name, hint in get_type_hints(kind).items()}
    for kind in (GenerationSettings, ResolvedSettings)
}


def _has_type(value: Any, types: tuple[type, ...]) -> bool:
    if isinstance(value, bool):
        return False  # an int by inheritance alone
    if isinstance(value, str):
        return str in types and _is_text(value)
    return isinstance(value, types) or (float in types and isinstance(value, int))


def _is_text(value: str) -> bool:
    """Half a character (a lone surrogate, which json may hold) could be written into no file."""
    return not any("\ud800" <= char <= "\udfff" for char in value)


def _text_problems(settings: ResolvedSettings) -> list[InputError]:
    found = [] if settings.prompt.strip() else [InputError("prompt_empty")]
    for text in (settings.prompt, settings.negative_prompt, settings.prompt_template):
        if not _is_text(text):
            found.append(InputError("settings_unreadable", reason="a prompt holds half a character"))
        if (length := len(text)) > PROMPT_LIMIT:
            over = length - PROMPT_LIMIT
            found.append(InputError("prompt_long", length=length, limit=PROMPT_LIMIT, over=over))
    return found


def _model_problems(settings: ResolvedSettings, model: ModelConfig) -> list[InputError]:
    has_image = settings.first_image is not None
    sibling = "step-video-ti2v" if model.sources else "nano"  # what takes pictures: to fetch, or built in
    if has_image and not model.takes_image:
        return [InputError("image_unused", model=model.name, other=sibling)]
    if not has_image and not model.takes_text_alone:
        return [InputError("image_needed", model=model.name)]
    if settings.motion_score is not None and not model.variant(has_image).motion_score:
        other = "a first image" if model.takes_image else sibling
        return [InputError("motion_unused", model=model.name, other=other)]
    return []


def _plan_problems(settings: ResolvedSettings, model: ModelConfig) -> list[InputError]:
    choices: dict[str, type[StrEnum]] = {
        "speed": Speed,
        "guidance_schedule": GuidanceSchedule,
        "magic_words": MagicWords,
        "camera_speed": CameraSpeed,
    }
    for name, kinds in choices.items():
        if (value := getattr(settings, name)) not in list(kinds):
            return [InputError("choice_unknown", field=name, value=value[:40], known=", ".join(kinds))]
    if model.turbo and settings.speed != Speed.EXACT:
        return [InputError("speed_turbo", model=model.name, value=settings.speed)]
    return []


def _number_problem(name: str, value: Any) -> InputError | None:
    low, high = RANGES[name]
    if value is None and name == "motion_score":
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or value != value:
        return InputError("number_invalid", field=name, value=value)
    if not low <= value <= high:
        return InputError("number_range", field=name, value=value, low=low, high=high)
    if float not in TYPES[ResolvedSettings][name] and not isinstance(value, int):
        return InputError("number_whole", field=name, value=value)
    return None


def _grid_problems(settings: ResolvedSettings) -> list[InputError]:
    found = []
    for name in ("height", "width"):
        value = getattr(settings, name)
        step = PIXELS_PER_LATENT
        below, above = nearest_multiples(value, step)
        if value % step:
            found.append(InputError("size_step", field=name, value=value, step=step, below=below, above=above))
    frames = settings.num_frames
    if not is_frame_count(frames):
        below, above = nearest_multiples(frames, CHUNK_FRAMES)
        found.append(InputError("frames_step", value=frames, below=max(below, 1), above=above))
    return found


def nearest_multiples(value: int, step: int) -> tuple[int, int]:
    """The multiples of `step` at or below and above `value`."""
    below = value // step * step
    return below, below + step
