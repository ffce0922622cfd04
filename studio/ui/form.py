"""Between the form and GenerationSettings: `collect` reads one, `fill` writes it, and they are each other's inverse.

Form values are plain data by field name, as the components give and take them: the size is one choice "WIDTHxHEIGHT",
the seed is text (a browser's numbers end at 2**53), the picture is a file of its own and no value. Beside them stands
`default_speed`: the speed that the page chose, "" once a person or a file did. As long as the form has it, the speed
follows what is the default (speeds.py).
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from models.geometry import frame_counts
from studio.config import ModelConfig, Preset
from studio.errors import InputError
from studio.magic import MagicWords, negative_prompt
from studio.settings import CENTRED, RANGES, CameraSpeed, GenerationSettings, GuidanceSchedule, Speed
from studio.ui.markup import seconds_words
from studio.ui.strings import MOVES, say, say_time

PICTURE = "picture"  # stands for the uploaded first image until the job owns it; never opened
MOTION_LIMIT = 20  # of the slider, unless restored settings go further
DRAFT_FRAMES = 51  # the longest that a draft offers: a preview is to be there soon
CROP = ("crop_left", "crop_top")
CHOSEN = {"default_speed": ""}  # of a form whose speed the page leaves alone
FLOATS = ("motion_score", "cfg_scale", "time_shift", *CROP)

Values = dict[str, Any]
Choices = list[tuple[str, Any]]


def collect(values: Mapping[str, Any], models: Mapping[str, ModelConfig], has_image: bool) -> GenerationSettings:
    """Settings as the form says them, unresolved: an empty number means the model's default, an empty seed a random
    one. Raises InputError for what cannot be settings at all; ranges are left to `problems`."""
    name = values["model"]
    if name not in models:
        raise InputError("model_unknown", value=str(name)[:80], known=", ".join(models))
    width, height = _size(values["size"])
    return GenerationSettings(
        model=name,
        prompt=str(values["prompt"] or ""),
        negative_prompt=str(values["negative_prompt"] or ""),
        first_image=PICTURE if has_image else None,
        motion_score=_number("motion_score", values) if models[name].variant(has_image).motion_score else None,
        camera_move=str(values["camera_move"] or ""),
        infer_steps=_number("infer_steps", values),
        cfg_scale=_number("cfg_scale", values),
        time_shift=_number("time_shift", values),
        num_frames=_number("num_frames", values),
        height=height,
        width=width,
        seed=_seed(values["seed"]),
        speed=str(values["speed"] or "") or None,
        guidance_schedule=str(values["guidance_schedule"] or "") or None,
        magic_words=str(values["magic_words"] or "") or None,
        camera_speed=str(values["camera_speed"] or "") or None,
        crop_left=_number("crop_left", values),
        crop_top=_number("crop_top", values),
    )


def fill(settings: GenerationSettings, model: ModelConfig) -> Values:
    """Form values of settings; what they leave open is the model's default, but for the seed, which stays open."""
    resolved = settings.resolve(model)
    return {
        "model": resolved.model,
        "prompt": resolved.prompt,
        "camera_move": resolved.camera_move,
        "motion_score": model.defaults.get("motion_score", 5.0)
        if resolved.motion_score is None
        else resolved.motion_score,
        "infer_steps": resolved.infer_steps,
        "cfg_scale": resolved.cfg_scale,
        "time_shift": resolved.time_shift,
        "num_frames": resolved.num_frames,
        "size": size_value(resolved.height, resolved.width),
        "seed": "" if settings.seed is None else str(settings.seed),
        "negative_prompt": resolved.negative_prompt,
        "speed": resolved.speed,
        "default_speed": resolved.speed if settings.speed is None else "",
        "guidance_schedule": resolved.guidance_schedule,
        "magic_words": resolved.magic_words,
        "camera_speed": resolved.camera_speed,
        "crop_left": resolved.crop_left,
        "crop_top": resolved.crop_top,
    }


def change_model(values: Mapping[str, Any], model: ModelConfig, models: Mapping[str, ModelConfig]) -> Values:
    """The form after another model was chosen: its defaults travel together; words stay, and so does the orientation.
    A negative prompt that was some model's default becomes this one's, an edited one is kept."""
    settings = GenerationSettings(
        model.name,
        values["prompt"] or "",
        negative_prompt=_negative(values, model, models),
        camera_move=values["camera_move"] or "",
        magic_words=values["magic_words"],
        camera_speed=values["camera_speed"],
    )
    kept = {name: values[name] for name in ("seed", *CROP)}
    kept["size"] = nearest_size(model, *size_or_first(values["size"], model))
    return fill(settings, model) | kept


def uncropped() -> Values:
    """The values of a form whose picture is new, or gone: the middle of it is used."""
    return dict.fromkeys(CROP, CENTRED)


def crop_place(values: Mapping[str, Any]) -> tuple[float, float]:
    """Where the form crops the picture, from left and from top; the middle for what is no such place."""
    places = (values[name] for name in CROP)
    left, top = (float(at) if isinstance(at, int | float) and 0 <= at <= 1 else CENTRED for at in places)
    return left, top


def change_magic(values: Mapping[str, Any], model: ModelConfig, models: Mapping[str, ModelConfig]) -> Values:
    """The form after other magic words were chosen: a default negative prompt fits them (none forbids a drawing that
    is wanted), an edited one is kept."""
    return {**values, "negative_prompt": _negative(values, model, models)}


def _negative(values: Mapping[str, Any], model: ModelConfig, models: Mapping[str, ModelConfig]) -> Any:
    negative = values["negative_prompt"]
    defaults = {negative_prompt(other, kind) for other in models.values() for kind in MagicWords}
    return negative_prompt(model, values["magic_words"]) if negative in defaults else negative


def restored(stored: object, models: Mapping[str, ModelConfig], first: ModelConfig) -> Values:
    """The form as the browser kept it, with whatever cannot be used left at its default."""
    stored = stored if isinstance(stored, dict) else {}
    model = models.get(str(stored.get("model")), first)
    values = fill(GenerationSettings(model.name, ""), model)
    for name in ("prompt", "negative_prompt", "seed", "size"):
        if isinstance(stored.get(name), str):
            values[name] = stored[name]
    known_choices: dict[str, Iterable[str]] = {
        "camera_move": MOVES,
        "speed": Speed,
        "guidance_schedule": GuidanceSchedule,
        "magic_words": MagicWords,
        "camera_speed": CameraSpeed,
    }
    for name, known in known_choices.items():
        if stored.get(name) in list(known):
            values[name] = stored[name]
    if "speed" in stored:
        by_page = stored.get("default_speed")
        values["default_speed"] = by_page if by_page in list(Speed) else ""
    if model.turbo:  # it has one speed
        values["speed"] = Speed.EXACT.value
    for name in (RANGES.keys() & values.keys() & stored.keys()) - set(CROP):  # no browser keeps the picture
        value, (low, high) = stored[name], RANGES[name]
        if name != "seed" and isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
            values[name] = value
    try:
        _size(values["size"])
    except InputError:
        values["size"] = nearest_size(model, 0, 0)
    return values


def preset_of(values: Mapping[str, Any], presets: Mapping[str, Preset]) -> str:
    """The preset the form agrees with, "" for none. The length is a choice of its own."""
    for key, preset in presets.items():
        wanted = {name: value for name, value in preset.values.items() if name != "num_frames"}
        if preset.model == values["model"] and all(values.get(name) == value for name, value in wanted.items()):
            return key
    return ""


def with_preset(values: Mapping[str, Any], preset: Preset) -> Values:
    """The form with a preset. The length stays, but for a draft, which is short."""
    kept = {name: value for name, value in preset.values.items() if name != "num_frames"}
    return change_speed({"speed": Speed.EXACT.value, **values, **kept})


def preset_choices(
    presets: Mapping[str, Preset], model: str, costs: Mapping[str, float | None], language: str
) -> Choices:
    """The presets of a model, each with what it costs. costs: preset -> seconds, where they are known."""
    choices = []
    for key, preset in presets.items():
        if preset.model == model:
            took, name = costs.get(key), preset.title[language]
            about = say("plan.time", language, time=say_time(took, language)) if took else ""
            choices.append((f"{name}\n{about}" if about else name, key))
    return choices


def change_speed(values: Mapping[str, Any]) -> Values:
    """The form after another speed was chosen: a draft is short."""
    frames = values["num_frames"]
    is_long = isinstance(frames, int | float) and frames > DRAFT_FRAMES
    return {**values} | ({"num_frames": DRAFT_FRAMES} if values["speed"] == Speed.DRAFT and is_long else {})


def length_choices(model: ModelConfig, current: object, language: str, speed: str = Speed.EXACT.value) -> Choices:
    """Every length the model was trained for, in seconds, of a draft the short ones; a valid current one is never
    dropped."""
    limit = DRAFT_FRAMES if speed == Speed.DRAFT else model.max_frames
    frames = {count for count in frame_counts(model.max_frames) if count <= limit}
    if isinstance(current, int | float) and math.isfinite(current):
        frames.add(int(current))
    return [(length_words(count, language), count) for count in sorted(frames)]


def length_words(frames: int, language: str) -> str:
    """A length in seconds and frames."""
    key = "length.still" if frames == 1 else "length.choice"
    return say(key, language, seconds=seconds_words(frames), frames=frames)


def size_choices(model: ModelConfig, current: str, language: str) -> Choices:
    """The model's sizes by shape; a restored other size is a choice too."""
    sizes = dict.fromkeys([*model.sizes, tuple(reversed(size_or_first(current, model)))])
    return [(size_words(height, width, language), size_value(height, width)) for height, width in sizes]


def size_words(height: int, width: int, language: str) -> str:
    """A size and its shape."""
    shape = "square" if height == width else "portrait" if height > width else "landscape"
    return say(f"size.{shape}", language, width=width, height=height)


def size_value(height: int | None, width: int | None) -> str:
    """A size as the form's choice."""
    return f"{width}x{height}"


def guidance_choices(language: str) -> Choices:
    """How guidance goes over time."""
    return [(say(f"guidance.{schedule}", language), schedule.value) for schedule in GuidanceSchedule]


def magic_choices(language: str) -> Choices:
    """Which words follow the prompt."""
    return [(say(f"magic.{kind}", language), kind.value) for kind in MagicWords]


def camera_speed_choices(language: str) -> Choices:
    """How fast a camera move goes."""
    return [(say(f"camera.speed.{speed}", language), speed.value) for speed in CameraSpeed]


def nearest_size(model: ModelConfig, width: int, height: int) -> str:
    """The size of the model whose shape is nearest to a picture's (its first size where there is none)."""
    if width <= 0 or height <= 0:
        return size_value(*model.sizes[0])
    wanted = math.log(width / height)
    return size_value(*min(model.sizes, key=lambda size: abs(math.log(size[1] / size[0]) - wanted)))


def _size(value: object) -> tuple[int, int]:
    """(width, height)."""
    width, cross, height = str(value).partition("x")
    if not (cross and width.isdecimal() and height.isdecimal() and len(str(value)) < 20):
        raise InputError("number_invalid", field="size", value=str(value)[:40])
    return int(width), int(height)


def size_or_first(value: object, model: ModelConfig) -> tuple[int, int]:
    """(width, height) of a size choice; the model's first size where it is none."""
    try:
        return _size(value)
    except InputError:
        height, width = model.sizes[0]
        return width, height


def _number(name: str, values: Mapping[str, Any]) -> Any:
    """A number as typed; whole ones lose the browser's ".0", and floats get theirs back."""
    value = values[name]
    if value is None or value == "":
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InputError("number_invalid", field=name, value=str(value)[:40])
    if name in FLOATS:
        return float(value)
    return int(value) if math.isfinite(value) and value == int(value) else value


def _seed(value: object) -> int | None:
    words = str(value or "").strip()
    if not words:
        return None
    if not words.isdecimal() or len(words) > 30:
        raise InputError("number_invalid", field="seed", value=words[:40])
    return int(words)


@dataclass(frozen=True)
class Motion:
    """The state of the motion-score slider: whether it counts, and the sentence that says so."""

    enabled: bool
    info: str
    limit: float


def motion_state(model: ModelConfig, has_image: bool, score: object, language: str) -> Motion:
    """Greyed with its reason where the chosen network has no motion score."""
    limit = max(MOTION_LIMIT, score) if isinstance(score, int | float) and math.isfinite(score) else MOTION_LIMIT
    if model.variant(has_image).motion_score:
        return Motion(True, say("motion.info", language), limit)
    if any(variant.motion_score for variant in model.variants):
        return Motion(False, say("motion.needs_image", language), limit)
    return Motion(False, say("motion.none", language, model=model.title[language]), limit)
