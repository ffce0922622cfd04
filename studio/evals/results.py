"""What an evaluation gave, as one json: every clip with its scores, where it lies, and what was asked for."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from studio.errors import InputError
from studio.evals.recipes import Recipe, Task
from studio.evals.run import POSTERS, clip_of
from studio.evals.score_list import Measured
from studio.filenames import write_whole
from studio.messages import message
from studio.queue.job import Job

FILE = "results.json"
FORMAT = 1
MOST_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Row:
    """One clip. clip, poster: relative to the run's folder, None where there is none. error: language -> why it failed,
    None for one that was made or waits. seconds: of the run that made it. scores: empty where not measured."""

    case: str
    number: int
    category: str
    recipe: str
    seed_number: int
    settings: Mapping[str, Any]
    clip: str | None = None
    poster: str | None = None
    picture: str | None = None
    error: Mapping[str, str] | None = None
    seconds: float | None = None
    camera: str = ""
    scores: Mapping[str, float | None] | None = None

    @property
    def pair(self) -> tuple[str, int]:
        """What the clips of two recipes have in common."""
        return self.case, self.seed_number


@dataclass(frozen=True)
class Run:
    """folder: what the rows' paths are relative to. recipes: name -> Recipe as a dict, in the order asked for."""

    folder: Path
    title: str
    recipes: Mapping[str, Mapping[str, Any]]
    rows: Sequence[Row]

    def store(self) -> Path:
        """Write FOLDER/results.json; returns its path."""
        told = {"program": "step-video-studio", "format": FORMAT, "title": self.title, "recipes": dict(self.recipes)}
        told |= {"clips": [asdict(row) for row in self.rows]}
        path = self.folder / FILE
        write_whole(path, json.dumps(told, ensure_ascii=False, indent=1).encode())
        return path


def make_row(task: Task, job: Job | None, found: Measured | None, folder: Path) -> Row:
    """A task as it stands. found: its scores, None where they are not measured."""
    settings = asdict(task.settings) | {"first_image": None if task.picture is None else "picture"}
    row = Row(task.case.id, task.case.number, task.case.category, task.recipe.name, task.seed_number, settings)
    if job is None:
        return row
    if job.error is not None:
        said = {language: message(job.error.code, job.error.values, language) for language in ("en", "zh")}
        row = replace(row, error=said)
    clip = clip_of(job)
    if clip is None:
        return row
    picture = clip.with_name(f"{clip.stem}.first.png")
    row = replace(
        row,
        clip=_relative(clip, folder),
        poster=f"{POSTERS}/{job.id}.webp",
        picture=_relative(picture, folder) if picture.is_file() else None,
        seconds=round(sum(job.result.seconds.values()), 2) if job.result else None,
    )
    return row if found is None else replace(row, scores=dict(found.scores), camera=found.camera)


def make_run(folder: Path, title: str, recipes: Sequence[Recipe], rows: Sequence[Row]) -> Run:
    """The rows in the order of the suite."""
    told = {recipe.name: asdict(recipe) for recipe in recipes}
    order = {name: number for number, name in enumerate(told)}
    return Run(folder, title, told, sorted(rows, key=lambda row: (row.number, row.seed_number, order[row.recipe])))


def read_run(folder: Path) -> Run:
    """A run that was stored. Raises InputError where the folder holds none."""
    path = folder / FILE
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES >> 20} MB")
        told = json.loads(path.read_text(encoding="utf-8"))
        if told["format"] != FORMAT:
            raise ValueError(f"its format is {told['format']}")
        names = {field.name for field in fields(Row)}
        rows = [Row(**{name: value for name, value in clip.items() if name in names}) for clip in told["clips"]]
        return Run(folder, str(told["title"]), dict(told["recipes"]), rows)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError("run_unreadable", file=path, reason=str(error) or type(error).__name__) from None


def _relative(path: Path, folder: Path) -> str:
    return path.resolve().relative_to(folder.resolve()).as_posix()
