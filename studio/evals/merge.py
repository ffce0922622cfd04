"""Two recipes of one or two runs as one run, so that report and blind test are the same for both."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from studio.errors import InputError
from studio.evals.results import FILE, Row, Run, read_run


def pick(asked: str) -> tuple[Run, str]:
    """FOLDER, or FOLDER:RECIPE where a run has several: the run and the recipe's name. Raises InputError."""
    folder, _, recipe = asked, "", ""
    if not (Path(asked) / FILE).is_file() and ":" in asked:
        folder, _, recipe = asked.rpartition(":")
    run = read_run(Path(folder))
    names = list(run.recipes)
    if not recipe and len(names) == 1:
        recipe = names[0]
    if recipe not in names:
        raise InputError("recipe_unknown", value=recipe or asked, known=", ".join(f"{folder}:{name}" for name in names))
    return run, recipe


def merge(first: str, second: str, folder: Path) -> Run:
    """The two as a run in `folder`, with the prompts and seeds that both have. Raises InputError.

    A clip is the same prompt, seed and picture in both; names of cases do not count, since suites may differ.
    """
    (one, name), (two, other) = pick(first), pick(second)
    if one.folder.resolve() == two.folder.resolve() and name == other:
        raise InputError("runs_alike", value=second)
    names = (name, other) if name != other else (f"{one.folder.name}:{name}", f"{two.folder.name}:{other}")
    if names[0] == names[1]:
        names = (f"{first}", f"{second}")
    before, after = _made(one, name), _made(two, other)
    rows = []
    for key, row in before.items():
        if match := after.get(key):
            rows += [_moved(row, one, folder, names[0], row), _moved(match, two, folder, names[1], row)]
    if not rows:
        raise InputError("runs_apart", first=first, second=second)
    recipes = {names[0]: one.recipes[name], names[1]: two.recipes[other]}
    return Run(folder, f"{names[0]} / {names[1]}", recipes, rows)


Key = tuple[str, int, str, int]


def _made(run: Run, recipe: str) -> dict[Key, Row]:
    found = {}
    for row in run.rows:
        if row.recipe == recipe and row.clip is not None:
            told = row.settings
            found[str(told["prompt"]), int(told["seed"]), str(told.get("camera_move")), _picture(run, row)] = row
    return found


def _picture(run: Run, row: Row) -> int:
    """The size of the picture's file: enough to tell two pictures of one prompt apart."""
    path = run.folder / row.picture if row.picture else None
    return path.stat().st_size if path and path.is_file() else 0


def _moved(row: Row, run: Run, folder: Path, recipe: str, like: Row) -> Row:
    """The row with paths relative to `folder`, as the same case as `like`."""

    def path(old: str | None) -> str | None:
        return None if old is None else Path(os.path.relpath((run.folder / old).resolve(), folder.resolve())).as_posix()

    changed = replace(row, clip=path(row.clip), poster=path(row.poster), picture=path(row.picture), recipe=recipe)
    return replace(changed, case=like.case, number=like.number, category=like.category, seed_number=like.seed_number)


def chosen_pairs(run: Run) -> Sequence[tuple[Row, Row]]:
    """The clips of a merged run, two by two."""
    return list(zip(run.rows[::2], run.rows[1::2], strict=True))
