"""What somebody asks of an evaluation on the page, and the words of the command that makes it.

FOLDER/asked.json keeps it, FOLDER/prompts.KIND or FOLDER/pictures what the browser gave, FOLDER/recipes.json the
recipes made on the page.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from studio.errors import InputError
from studio.evals.suite import PICTURES, TABLE_KINDS, suite_names
from studio.filenames import write_whole
from studio.stored_json import load_object

FILE, PICTURE_FOLDER, RECIPE_FILE = "asked.json", "pictures", "recipes.json"
SUITE, TEXT, FOLDER, PATH = "suite", "text", "folder", "path"  # where the prompts come from
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")  # of an evaluation, and its folder's
RECIPE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}")
MOST_SEEDS, MOST_PROMPTS = 100, 10_000
LONGEST_FILE_NAME = 100


@dataclass(frozen=True)
class Asked:
    """prompts: a suite's name, the kind of a file of prompts (".txt"), or a path on this machine, as `source` says; ""
    with pictures. own: recipes made on the page, by name, as in configs/recipes.yaml. limit: None for all prompts."""

    source: str
    prompts: str
    recipes: tuple[str, ...]
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seeds: int = 1
    limit: int | None = None
    shuffle: bool = False
    no_scores: bool = False

    def store(self, folder: Path, text: str = "") -> None:
        """Write what the command reads; text: of a file of prompts. Raises OSError."""
        if self.source == TEXT:
            write_whole(folder / f"prompts{self.prompts}", text.encode())
        if self.own:
            write_whole(folder / RECIPE_FILE, json.dumps(dict(self.own), ensure_ascii=False).encode())
        write_whole(folder / FILE, json.dumps(asdict(self), ensure_ascii=False).encode())

    def words(self, folder: Path) -> list[str]:
        """The command line of `evaluate`, behind the program's name and before the flags about the machine."""
        prompts = {TEXT: str(folder / f"prompts{self.prompts}"), FOLDER: str(folder / PICTURE_FOLDER)}
        words = ["evaluate", prompts.get(self.source, self.prompts), "--to", str(folder)]
        words += ["--recipe", ",".join(self.recipes), "--seeds", str(self.seeds)]
        words += ["--recipes", str(folder / RECIPE_FILE)] if self.own else []
        words += ["--limit", str(self.limit)] if self.limit else []
        return words + ["--shuffle"] * self.shuffle + ["--no-scores"] * self.no_scores


def read_asked(folder: Path) -> Asked | None:
    """What was asked for in a folder, None where nothing was, or not by this program."""
    told = load_object(folder / FILE)
    try:
        return parse(told, told.get("own"), paths=True)
    except InputError:
        return None


def parse(told: Mapping[str, Any], own: Any, *, paths: bool) -> Asked:
    """Plain data as what is asked for. paths: whether paths on this machine may be named. Raises InputError."""
    source, prompts, recipes = told.get("source"), told.get("prompts", ""), told.get("recipes")
    if not isinstance(prompts, str) or "\0" in prompts:
        raise _unsound("prompts")
    known = {
        SUITE: prompts in suite_names(),
        TEXT: prompts in TABLE_KINDS,
        FOLDER: True,
        PATH: paths and Path(prompts).is_absolute(),
    }
    if not isinstance(source, str) or not known.get(source):
        raise _unsound("prompts")
    if not isinstance(recipes, list | tuple) or not all(
        isinstance(n, str) and RECIPE_NAME.fullmatch(n) for n in recipes
    ):
        raise _unsound("recipes")
    seeds, limit = told.get("seeds", 1), told.get("limit")
    if not _is_count(seeds, MOST_SEEDS):
        raise _unsound("seeds")
    if limit is not None and not _is_count(limit, MOST_PROMPTS):
        raise _unsound("limit")
    flags = {name: told.get(name) is True for name in ("shuffle", "no_scores")}
    return Asked(source, prompts, tuple(recipes), _own(own), seeds, limit, **flags)


def file_name(asked: str) -> str:
    """The name under which a picture or its text is kept. Raises InputError for files that no suite reads."""
    stem, _, kind = asked.rpartition(".")
    stem = re.sub(r"[^\w-]+", "-", stem).strip("-")[:LONGEST_FILE_NAME]
    if not stem or f".{kind.lower()}" not in (*PICTURES, ".txt"):
        raise InputError("evaluation_file", file=asked)
    return f"{stem}.{kind.lower()}"


def _own(told: Any) -> dict[str, Mapping[str, Any]]:
    """Recipes by name; what is in them is checked where they are used."""
    if told is None:
        return {}
    if not isinstance(told, dict) or not _are_names(told) or not all(isinstance(one, dict) for one in told.values()):
        raise _unsound("recipes")
    return dict(told)


def _are_names(told: Iterable[object]) -> bool:
    return all(isinstance(name, str) and RECIPE_NAME.fullmatch(name) for name in told)


def _is_count(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def _unsound(field: str) -> InputError:
    return InputError("evaluation_asked", field=field)
