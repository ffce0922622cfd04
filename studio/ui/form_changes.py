"""What somebody changed in the drawer: against the nearest preset and the model's defaults; and how to undo it."""

from collections.abc import Mapping
from typing import Any

from studio.config import ModelConfig, Preset
from studio.magic import MagicWords
from studio.settings import GenerationSettings
from studio.ui import form

# The fields of the drawer, in its order. What stands on the first screen is seen there.
DRAWER = (
    "camera_move",
    "camera_speed",
    "motion_score",
    "speed",
    "seed",
    "infer_steps",
    "cfg_scale",
    "time_shift",
    "guidance_schedule",
    "magic_words",
    "negative_prompt",
)
TEXTS = ("camera_move", "seed", "negative_prompt")  # an empty one is a choice; an empty number is the default
ALL = "all"  # in place of a field


def baseline(values: Mapping[str, Any], model: ModelConfig, presets: Mapping[str, Preset]) -> form.Values:
    """The form where nobody changed anything: the model's defaults, with the preset that agrees with most of it."""
    fitting = [preset.values for preset in presets.values() if preset.model == model.name]

    def agrees(preset: Mapping[str, Any]) -> int:
        return sum(values.get(name) == value for name, value in preset.items())

    nearest = max(fitting, key=agrees, default={})
    kept = {name: value for name, value in nearest.items() if name in DRAWER}
    negative = form.fill(GenerationSettings(model.name, "", magic_words=values["magic_words"] or None), model)
    return negative | {"magic_words": MagicWords.OFFICIAL.value} | kept


def changed(values: Mapping[str, Any], model: ModelConfig, presets: Mapping[str, Preset], has_image: bool) -> list[str]:
    """The fields of the drawer that somebody changed, in its order."""
    before = baseline(values, model, presets)
    found = []
    for name in DRAWER:
        value = values[name]
        if name in TEXTS:
            differs = str(value or "").strip() != str(before[name] or "").strip()
        else:
            differs = value not in (None, "") and value != before[name]
        if name == "motion_score" and not model.variant(has_image).motion_score:
            differs = False  # it has no effect
        if name == "camera_speed" and not (values["camera_move"] and model.sources):
            differs = False  # nor has it
        if name == "magic_words" and not model.magic_words:
            differs = False  # nor has it
        found += [name] if differs else []
    return found


def reset(
    values: Mapping[str, Any], field: str, model: ModelConfig, presets: Mapping[str, Preset], has_image: bool
) -> form.Values:
    """The form with a field of the drawer, or ALL that were changed, as it was before."""
    before = baseline(values, model, presets)
    names = changed(values, model, presets, has_image) if field == ALL else [field] * (field in DRAWER)
    return {**values} | {name: before[name] for name in names}
