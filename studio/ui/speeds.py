"""The speeds of the form: which one is the default, what each costs on this machine, and what they are called."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from studio.config import ModelConfig
from studio.service.backend import Backend
from studio.settings import GuidanceSchedule, ResolvedSettings, Speed
from studio.ui import form
from studio.ui.markup import seconds_words
from studio.ui.strings import say, say_time

Costs = dict[str, float | None]  # preset or speed -> seconds; None: unknown, or it does not fit


def is_calibrated(values: Mapping[str, Any], model: ModelConfig, has_image: bool, backend: Backend) -> bool:
    """Whether fast was calibrated for the form's model, guidance and time shift. What is empty means the default."""
    guidance, shift = (
        model.defaults[name] if values[name] in (None, "") else values[name] for name in ("cfg_scale", "time_shift")
    )
    if not isinstance(guidance, int | float) or not isinstance(shift, int | float):
        return False
    schedule = str(values["guidance_schedule"] or GuidanceSchedule.CONSTANT)
    return backend.calibrated(model.name, has_image, guidance, shift, schedule)


def with_default(values: form.Values, model: ModelConfig, has_image: bool, backend: Backend) -> form.Values:
    """The form with the speed that is its default, where it has the one that the page chose; else as it is."""
    if values["speed"] != values["default_speed"]:
        return values
    speed = Speed.FAST if is_calibrated(values, model, has_image, backend) else Speed.EXACT
    return {**values, "speed": speed.value, "default_speed": speed.value}


def costs(settings: ResolvedSettings, plan: Mapping[str, Any], model: ModelConfig, backend: Backend) -> Costs:
    """What this video would cost with each preset of its model and at each speed. plan: of the settings as they are;
    nothing is planned twice."""
    now, plans = {"num_frames": settings.num_frames}, {settings: plan}
    presets = {key: preset for key, preset in backend.presets.items() if preset.model == model.name}
    wanted = {key: replace(settings, **form.with_preset(now, preset)) for key, preset in presets.items()}
    if not model.turbo:  # it has one speed
        others = [speed.value for speed in Speed if speed != settings.speed]
        wanted |= {speed: replace(settings, **form.change_speed({**now, "speed": speed})) for speed in others}
        wanted[settings.speed] = settings
    for asked in wanted.values():
        if asked not in plans:
            plans[asked] = backend.plan(asked)
    return {key: plans[asked].get("seconds_total") for key, asked in wanted.items()}


def choices(
    values: Mapping[str, Any], known: Mapping[str, float | None], calibrated: bool, language: str
) -> form.Choices:
    """Every speed with what it costs, where that is known; of a draft, which is short, the length with it.

    calibrated: whether `calibrate` chose what fast does.
    """
    keys = {speed: f"speed.{speed}" for speed in Speed} | ({Speed.FAST: "speed.calibrated"} if calibrated else {})
    drafted = form.change_speed({**values, "speed": Speed.DRAFT.value})["num_frames"]
    shortened = values["speed"] != Speed.DRAFT and drafted != values["num_frames"]
    seconds = seconds_words(drafted) if shortened else ""
    found: form.Choices = []
    for speed, key in keys.items():
        words = say(key, language)
        if took := known.get(speed):
            told = "speed.time_short" if shortened and speed is Speed.DRAFT else "speed.time"
            words = say(told, language, name=words, time=say_time(took, language), seconds=seconds)
        found.append((words, speed.value))
    return found
