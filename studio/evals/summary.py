"""Tables of a run: means per recipe and category, two recipes prompt by prompt, the worst clips."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from studio.evals.intervals import Interval, difference_interval, mean_interval, share_interval
from studio.evals.results import Row, Run
from studio.evals.score_list import BY_KEY, SCORES, Score

ALL = ""  # the category of every clip
SECONDS = "seconds"  # beside the scores: how long a clip took
SHARES = ("0 or 1", "share")


@dataclass(frozen=True)
class Comparison:
    """The second recipe against the first. difference: second - first. wins, ties, losses: prompts on which the second
    is better, equal, worse; all 0 for a score that has no better."""

    difference: Interval
    wins: int
    ties: int
    losses: int


@dataclass(frozen=True)
class Bad:
    """A clip among the worst. badness: how far below the run's median, in its spreads, mean over the scores that have
    a better side. by: the two scores that count most."""

    row: Row
    badness: float
    by: tuple[str, ...]


def is_share(key: str) -> bool:
    """Whether a score's values are 0 or 1, or shares of such."""
    return key != SECONDS and BY_KEY[key].unit in SHARES


def values_by_case(rows: Sequence[Row], key: str) -> dict[str, float]:
    """Case -> mean over its seeds, where there is anything measured."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if (value := _value(row, key)) is not None:
            found.setdefault(row.case, []).append(value)
    return {case: math.fsum(values) / len(values) for case, values in found.items()}


def categories(run: Run) -> list[str]:
    """ALL, then the categories in the order of the suite, where there is more than one."""
    named = list(dict.fromkeys(row.category for row in run.rows))
    return [ALL, *(name for name in named if name)] if len(named) > 1 else [ALL]


def table(run: Run, recipe: str, category: str = ALL) -> dict[str, Interval]:
    """Score key -> its mean over the prompts of a category; scores that nothing was measured for are left out."""
    rows = [row for row in run.rows if row.recipe == recipe and category in (ALL, row.category)]
    found = {}
    for key in (*BY_KEY, SECONDS):
        if values := list(values_by_case(rows, key).values()):
            found[key] = share_interval(values) if is_share(key) else mean_interval(values)
    return found


def compare(run: Run, first: str, second: str) -> dict[str, Comparison]:
    """Score key -> the second recipe against the first, over the prompts and seeds that both have."""
    by_pair: dict[str, dict[tuple[str, int], Row]] = {
        name: {row.pair: row for row in run.rows if row.recipe == name} for name in (first, second)
    }
    found = {}
    for key in (*BY_KEY, SECONDS):
        both = {
            pair: (_value(row, key), _value(by_pair[second][pair], key))
            for pair, row in by_pair[first].items()
            if pair in by_pair[second]
        }
        by_case: dict[str, list[float]] = {}
        for (case, _), (before, after) in both.items():
            if before is not None and after is not None:
                by_case.setdefault(case, []).append(after - before)
        differences = [math.fsum(values) / len(values) for values in by_case.values()]
        if differences:
            better = -1 if key == SECONDS else BY_KEY[key].better
            sides = [math.copysign(1, value * better) if value and better else 0 for value in differences]
            wins, losses = sides.count(1), sides.count(-1)
            ties = len(sides) - wins - losses if better else 0
            found[key] = Comparison(difference_interval(differences, is_share(key)), wins, ties, losses)
    return found


def worst(run: Run, count: int = 10) -> list[Bad]:
    """The clips that are worst in the run, by all scores that have a better side, each against the run's own spread.

    A score's spread is 1.4826 times its median absolute deviation, or its standard deviation where most are equal; no
    score counts for more than 4 spreads.
    """
    parts: dict[int, dict[str, float]] = {}
    directed: list[Score] = [score for score in SCORES if score.better]
    for score in directed:
        values = {at: value for at, row in enumerate(run.rows) if (value := _value(row, score.key)) is not None}
        if not (spread := _spread(list(values.values()))):
            continue
        middle = _median(list(values.values()))
        for at, value in values.items():
            below = score.better * (middle - value) / spread
            parts.setdefault(at, {})[score.key] = min(max(below, -4.0), 4.0)
    found = []
    for at, of_score in parts.items():
        most = sorted(of_score, key=lambda key: -of_score[key])[:2]
        by = tuple(key for key in most if of_score[key] > 0)
        found.append(Bad(run.rows[at], math.fsum(of_score.values()) / len(of_score), by))
    return sorted(found, key=lambda bad: -bad.badness)[:count]


def differing(recipes: Mapping[str, Mapping[str, object]], rows: Sequence[Row]) -> dict[str, dict[str, set[str]]]:
    """Setting -> recipe -> its values, for those in which the recipes differ; weights and model among them."""
    found: dict[str, dict[str, set[str]]] = {}
    for row in rows:
        told = {**row.settings, "weights": recipes[row.recipe].get("weights", "none")}
        for name in sorted(set(told) - {"prompt", "seed", "first_image"}):
            found.setdefault(name, {}).setdefault(row.recipe, set()).add(str(told[name]))
    return {name: values for name, values in found.items() if len({frozenset(one) for one in values.values()}) > 1}


def _value(row: Row, key: str) -> float | None:
    if key == SECONDS:
        return row.seconds
    return (row.scores or {}).get(key)


def _median(values: list[float]) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _spread(values: list[float]) -> float:
    if len(values) < 2:
        return 0.0
    middle, mean = _median(values), math.fsum(values) / len(values)
    robust = 1.4826 * _median([abs(value - middle) for value in values])
    return robust or math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
