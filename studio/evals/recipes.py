"""A recipe: model, weights and any settings by a name; with a suite and seeds it gives the tasks of an evaluation."""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from studio.config import ROOT, CameraMove, ModelConfig
from studio.errors import InputError
from studio.evals.suite import SETTINGS, Case
from studio.messages import message
from studio.settings import GenerationSettings, ResolvedSettings

OWN = ROOT / "configs" / "recipes.yaml"
WEIGHTS = ("none", "int8", "int8-compute")  # as --quantize has them
FIRST_SEED = 1000
SEED_STEP = 100_000  # between the seeds of one prompt: larger than any suite


@dataclass(frozen=True)
class Recipe:
    """weights: one of WEIGHTS, how the worker is started. settings: GenerationSettings fields; they go before a
    suite's own, which go before the model's defaults."""

    name: str
    model: str
    weights: str = "none"
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """One clip to be made. seed_number: which of the case's seeds, from 1. key: of what decides the clip, so that the
    same one is found again."""

    case: Case
    recipe: Recipe
    seed_number: int
    settings: ResolvedSettings
    picture: bytes | None
    key: str


def load_recipes(models: Mapping[str, ModelConfig], file: Path | None = None) -> dict[str, Recipe]:
    """Recipes by name: each model by itself, configs/recipes.yaml, the user's file. Raises InputError."""
    found = {name: Recipe(name, name) for name in models}
    for path in (OWN, *([file] if file else [])):
        for name, values in _read(path).items():
            found[name] = _recipe(name, values, models, path)
    return found


def choose(names: str, recipes: Mapping[str, Recipe]) -> list[Recipe]:
    """The recipes of a list "a,b". Raises InputError for unknown and repeated ones."""
    asked = [name.strip() for name in names.split(",") if name.strip()]
    for name in asked:
        if name not in recipes:
            raise InputError("recipe_unknown", value=name, known=", ".join(recipes))
    if not asked or len(set(asked)) < len(asked):
        raise InputError("recipe_twice", value=names)
    return [recipes[name] for name in asked]


def select(cases: Sequence[Case], limit: int | None, shuffle: bool) -> list[Case]:
    """The first `limit` cases, or as many by lot, always the same ones; in the suite's order."""
    order = list(cases)
    if shuffle:
        random.Random(0).shuffle(order)
    return sorted(order[:limit], key=lambda case: case.number)


def make_tasks(
    cases: Sequence[Case],
    recipes: Sequence[Recipe],
    seeds: int,
    models: Mapping[str, ModelConfig],
    moves: Mapping[str, CameraMove],
) -> list[Task]:
    """Every case with every recipe and seed, checked; recipes share the seeds. Raises InputError with the case's id."""
    pictures = {case.picture: case.picture.read_bytes() for case in cases if case.picture}
    tasks = []
    for recipe in recipes:
        model = models[recipe.model]
        for case in cases:
            asked = GenerationSettings(**{"model": model.name, **case.settings, **recipe.settings})
            picture = pictures[case.picture] if case.picture else None
            first = FIRST_SEED + case.number if asked.seed is None else asked.seed
            asked = replace(asked, first_image=None if picture is None else "picture")
            for number in range(seeds):
                settings = replace(asked, seed=first + SEED_STEP * number).resolve(model)
                try:
                    settings.check(model, moves)
                except InputError as error:
                    raise InputError("task_invalid", case=case.id, recipe=recipe.name, reason=_both(error)) from None
                tasks.append(Task(case, recipe, number + 1, settings, picture, task_key(settings, picture)))
    return tasks


def task_key(settings: ResolvedSettings, picture: bytes | None) -> str:
    """Of what decides a clip: its settings and the picture's file, wherever that lies."""
    text = json.dumps(asdict(replace(settings, first_image=None)), sort_keys=True)
    return hashlib.sha256(text.encode() + hashlib.sha256(picture or b"").digest()).hexdigest()[:32]


def _both(error: InputError) -> dict[str, str]:
    return {language: message(error.code, error.values, language) for language in ("en", "zh")}


def _recipe(name: str, values: Any, models: Mapping[str, ModelConfig], path: Path) -> Recipe:
    if not isinstance(values, dict) or values.get("model") not in models:
        raise InputError("config_unreadable", file=path, reason=f"{name} names no model")
    settings = {key: value for key, value in values.items() if key not in ("model", "weights")}
    weights = values.get("weights", "none")
    unknown = sorted(set(settings) - {*SETTINGS} | set(settings) & {"first_image", "prompt"})
    if unknown or weights not in WEIGHTS:
        reason = f"{name} has {', '.join(unknown) or weights}; known are weights and {', '.join(SETTINGS)}"
        raise InputError("config_unreadable", file=path, reason=reason)
    GenerationSettings.from_dict({"model": values["model"], "prompt": "", **settings})
    return Recipe(name, values["model"], weights, settings)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except (OSError, UnicodeDecodeError, YAMLError, OmegaConfBaseException) as error:
        raise InputError("config_unreadable", file=path, reason=str(error)) from None
    if not isinstance(found, dict):
        raise InputError("config_unreadable", file=path, reason="it is not a table of keys and values")
    return {str(key): value for key, value in found.items()}
