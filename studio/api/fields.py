"""A request's fields, by the dialect's names or our own, become settings as asked for."""

import base64
import binascii
import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from models.geometry import CHUNK_FRAMES
from studio.config import model_named
from studio.errors import InputError
from studio.service.backend import Backend
from studio.settings import FPS, GenerationSettings


@dataclass(frozen=True)
class Field:
    """One field of a request. setting: the field of GenerationSettings that it fills."""

    kind: type
    setting: str
    about: str


FIELDS: dict[str, Field] = {
    "prompt": Field(str, "prompt", "What happens in the video."),
    "model": Field(str, "model", "A name of GET /v1/models; the default is the page's."),
    "negative_prompt": Field(str, "negative_prompt", "What should not be seen; the default is the model's."),
    "num_frames": Field(int, "num_frames", "1 or a multiple of 17, at 25 frames per second. It wins over seconds."),
    "width": Field(int, "width", "Pixels, a multiple of 16."),
    "height": Field(int, "height", "Pixels, a multiple of 16."),
    "seed": Field(int, "seed", "The same seed and settings give the same video. One is drawn where it is missing."),
    "infer_steps": Field(int, "infer_steps", "Steps of the sampler."),
    "num_inference_steps": Field(int, "infer_steps", "The same as infer_steps."),
    "cfg_scale": Field(float, "cfg_scale", "Guidance: how closely the video follows the prompt."),
    "guidance_scale": Field(float, "cfg_scale", "The same as cfg_scale."),
    "time_shift": Field(float, "time_shift", "Where the sampler spends its steps."),
    "flow_shift": Field(float, "time_shift", "The same as time_shift."),
    "motion_score": Field(float, "motion_score", "How much moves, for models that take a picture."),
    "camera_move": Field(str, "camera_move", "A key of configs/camera_moves.yaml."),
    "speed": Field(str, "speed", "exact, fast or draft; exact where it is not given, calibrated or not."),
    "guidance_schedule": Field(str, "guidance_schedule", "constant or falling."),
    "camera_speed": Field(str, "camera_speed", "plain, slow or fast."),
    "crop_left": Field(float, "crop_left", "Where the used part of the first picture lies in its room, 0 to 1; 0.5."),
    "crop_top": Field(float, "crop_top", "The same from the top."),
    "magic_words": Field(str, "magic_words", "official, english, anime, anime-english or none."),
}
# What is more than a value of one setting.
OTHER_FIELDS: dict[str, str] = {
    "size": "WIDTHxHEIGHT, for example 992x544.",
    "seconds": "The length; the nearest number of frames that can be made is taken.",
    "preset": "A key of configs/presets.yaml; other fields go before its values.",
    "fps": "25, the only rate there is.",
    "input_reference": "The first picture: a file, or {image_url: data:image/png;base64,...}. Addresses are refused.",
    "image_reference": "The same as input_reference.",
    "extra_params": "Further fields as an object.",
    "extra_body": "The same as extra_params.",
    "user": "Taken and not used.",
}
PICTURES = ("input_reference", "image_reference")
NESTED = ("extra_params", "extra_body")
SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")
INSIDE = re.compile(r"(\w+)\[(\w+)\]")
DATA_ADDRESS = re.compile(r"data:[\w.+-]+/[\w.+-]+;base64,", re.ASCII)
LONGEST_NUMBER = 40  # characters
LONGEST_SECONDS = 1000.0
Given = Mapping[str, Any]


@dataclass(frozen=True)
class Wanted:
    """What a request asks for: settings, and the first picture as its file came, None for text alone."""

    settings: GenerationSettings
    picture: bytes | None = None


def wanted(given: Given, backend: Backend) -> Wanted:
    """The settings and the picture of a new video. Raises InputError for a field that is unknown or unusable."""
    fields = flat(given)
    picture = _picture(fields)
    values = _values(fields)
    preset = _preset(fields, values.get("model"), backend)
    base = {"model": backend.first_model().name, "prompt": ""} | preset
    if picture is not None:
        base["first_image"] = PICTURES[0]
    model_named(str((base | values)["model"]), backend.models)
    return Wanted(GenerationSettings(**(base | values)), picture)


def changed(given: Given, source: GenerationSettings) -> GenerationSettings:
    """The settings of another video with the given fields; its model and its picture stay. Raises InputError."""
    fields = flat(given)
    if kept := [name for name in ("model", "preset", *PICTURES) if name in fields]:
        raise InputError("remix_field", field=kept[0])
    values = _values(fields)
    return GenerationSettings(**(asdict(source) | {"prompt": ""} | values))


def flat(given: Given) -> dict[str, Any]:
    """The fields that have a value, those inside extra_params with them. Raises InputError for an unknown one."""
    found: dict[str, Any] = {}
    for name, value in _nested(given).items():
        inner = _object(name, value) if name in NESTED else {name: value}
        for key, one in inner.items():
            if key not in FIELDS and key not in OTHER_FIELDS or key in NESTED:
                raise InputError("field_unknown", field=str(key)[:60], known=", ".join((*FIELDS, *OTHER_FIELDS)))
            if key in found:
                raise InputError("field_twice", field=key, other=name)
            if one is not None and not (one == "" and key not in ("prompt", "negative_prompt")):
                found[key] = one
    return found


def _nested(given: Given) -> dict[str, Any]:
    """Names of forms such as extra_params[seed] as objects."""
    found: dict[str, Any] = {}
    for name, value in given.items():
        if (match := INSIDE.fullmatch(name)) and match[1] in (*NESTED, *PICTURES):
            inside = found.setdefault(match[1], {})
            if not isinstance(inside, dict):
                raise InputError("field_twice", field=match[1], other=name)
            inside[match[2]] = value
        elif name in found:
            raise InputError("field_twice", field=name, other=name)
        else:
            found[name] = value
    return found


def _object(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value or "{}")
        except (ValueError, RecursionError):
            value = None
    if not isinstance(value, dict):
        raise InputError("field_object", field=name)
    return value


def _values(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are given, by the names of GenerationSettings."""
    found: dict[str, Any] = {}
    names: dict[str, str] = {}
    for name, field in FIELDS.items():
        if name in fields:
            if field.setting in names:
                raise InputError("field_twice", field=name, other=names[field.setting])
            found[field.setting], names[field.setting] = _value(name, field.kind, fields[name]), name
    if "size" in fields:
        match = SIZE.fullmatch(size) if isinstance(size := fields["size"], str) else None
        if match is None:
            raise InputError("size_form", field="size", value=str(fields["size"])[:40])
        for setting, text in (("width", match[1]), ("height", match[2])):
            if found.setdefault(setting, int(text)) != int(text):
                raise InputError("field_twice", field="size", other=setting)
    if "seconds" in fields:
        seconds = _value("seconds", float, fields["seconds"])
        if not 0 < seconds <= LONGEST_SECONDS:
            raise InputError("number_range", field="seconds", value=seconds, low=0, high=LONGEST_SECONDS)
        found.setdefault("num_frames", max(round(seconds * FPS / CHUNK_FRAMES), 1) * CHUNK_FRAMES)
    if "fps" in fields and _value("fps", float, fields["fps"]) != FPS:
        raise InputError("fps_fixed", field="fps", value=str(fields["fps"])[:40], fps=FPS)
    return found


def _value(name: str, kind: type, value: Any) -> Any:
    """A value of json, or the text of a form, as its field's kind."""
    if kind is str:
        if not isinstance(value, str):
            raise InputError("field_text", field=name)
        return value
    if isinstance(value, str) and len(value) <= LONGEST_NUMBER:
        try:
            value = int(value)
        except ValueError:
            with suppress(ValueError):  # told below
                value = float(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or (isinstance(value, float) and not math.isfinite(value)):
        raise InputError("number_invalid", field=name, value=str(value)[:40])
    if kind is int:
        if value != int(value):
            raise InputError("number_whole", field=name, value=value)
        return int(value)
    return float(value) if isinstance(value, int) and abs(value) < 2**53 else value


def _preset(fields: Mapping[str, Any], model: str | None, backend: Backend) -> dict[str, Any]:
    """The values of a preset with its model; of another model than the one asked for it is unknown."""
    if "preset" not in fields:
        return {}
    key = _value("preset", str, fields["preset"])
    known = [preset.key for preset in backend.presets.values() if model in (None, preset.model)]
    if key not in known:
        raise InputError("preset_unknown", value=key[:40], known=", ".join(known))
    return {"model": backend.presets[key].model, **backend.presets[key].values}


def _picture(fields: Mapping[str, Any]) -> bytes | None:
    """The first picture, as the bytes of a file or from an address that holds it."""
    given = [(name, fields[name]) for name in PICTURES if name in fields]
    if not given:
        return None
    if len(given) > 1:
        raise InputError("field_twice", field=given[0][0], other=given[1][0])
    name, value = given[0]
    if isinstance(value, bytes):
        return value
    if isinstance(value, dict) and set(value) == {"image_url"}:
        value = value["image_url"]
        value = value.get("url") if isinstance(value, dict) else value
    match = DATA_ADDRESS.match(value) if isinstance(value, str) else None
    if match is None:
        raise InputError("image_remote", field=name)
    try:
        return base64.b64decode(value[match.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError("image_unreadable", reason=str(error)) from None
