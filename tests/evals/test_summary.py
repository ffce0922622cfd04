"""Intervals that hold what they promise, and the tables made of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from studio.errors import InputError
from studio.evals.intervals import difference_interval, mean_interval, share_interval
from studio.evals.merge import chosen_pairs, merge
from studio.evals.results import Row, Run, read_run
from studio.evals.summary import categories, compare, differing, table, worst


def row(case: str, recipe: str, seed: int = 1, **scores: float | None) -> Row:
    settings = {"prompt": case, "seed": seed, "infer_steps": 4 if recipe == "a" else 8, "camera_move": ""}
    number = int(case[1:])
    category = "even" if number % 2 == 0 else "odd"
    return Row(case, number, category, recipe, seed, settings, f"clips/{case}-{recipe}-{seed}.mp4", scores=scores)


def run(rows: list[Row], folder: Path = Path()) -> Run:
    recipes = {name: {"name": name, "model": "nano"} for name in dict.fromkeys(row.recipe for row in rows)}
    return Run(folder, "t", recipes, rows)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng, rounds = np.random.default_rng(0), 1500
    held = {"mean": 0, "share": 0, "difference": 0, "difference of shares": 0}
    for _ in range(rounds):
        one, two = rng.normal(3, 2, 24), rng.normal(3.5, 2, 24)
        first, second = rng.random(24) < 0.8, rng.random(24) < 0.9
        intervals = {
            "mean": (mean_interval(one.tolist()), 3),
            "share": (share_interval(first.astype(float).tolist()), 0.8),
            "difference": (difference_interval((two - one).tolist(), False), 0.5),
            "difference of shares": (difference_interval((second.astype(float) - first).tolist(), True), 0.1),
        }
        for name, (found, truth) in intervals.items():
            held[name] += found.low <= truth <= found.high
    wrong = {name: count / rounds for name, count in held.items() if not 0.93 <= count / rounds <= 0.985}
    assert not wrong


def test_known_intervals() -> None:
    found = mean_interval([1.0, 2.0, 3.0, 4.0])  # t(3) = 3.182, s = 1.291
    assert (found.low, found.high) == (pytest.approx(0.446, abs=1e-3), pytest.approx(4.554, abs=1e-3))
    assert share_interval([1.0] * 10).low == pytest.approx(0.722, abs=1e-3)  # Wilson, 10 of 10
    assert mean_interval([1.0]).low is None and not mean_interval([1.0]).decides
    assert difference_interval([0.0] * 20, True).decides is False
    assert difference_interval([1.0] * 20, True).decides is True


def test_a_prompt_counts_once_whatever_its_seeds() -> None:
    rows = [row(f"c{n}", "a", seed, flicker=float(n)) for n in range(4) for seed in (1, 2, 3)]
    found = table(run(rows), "a")
    assert found["flicker"].count == 4 and found["flicker"].mean == 1.5 and list(found) == ["flicker"]
    assert categories(run(rows)) == ["", "even", "odd"]
    assert table(run(rows), "a", "odd")["flicker"].mean == 2


def test_the_planted_better_recipe_is_found_and_chance_is_not() -> None:
    rng = np.random.default_rng(1)
    rows = []
    for n in range(24):
        hard = rng.normal(0, 5)  # prompts differ more than recipes do
        for name, gain in (("a", 0.0), ("b", -1.0)):
            rows.append(
                row(f"c{n}", name, 1, flicker=20 + hard + gain + rng.normal(0, 0.5), sharpness=rng.normal(0.5, 0.1))
            )
    found = compare(run(rows), "a", "b")
    assert (
        found["flicker"].difference.decides and found["flicker"].difference.low < -1 < found["flicker"].difference.high
    )
    assert found["flicker"].wins > 18 and not found["sharpness"].difference.decides
    assert differing(run(rows).recipes, rows) == {"infer_steps": {"a": {"4"}, "b": {"8"}}}


def test_the_worst_clip_is_the_one_that_is_bad() -> None:
    rows = [row(f"c{n}", "a", 1, flicker=2 + 0.1 * n, sharpness=0.5, dynamic_strength=9.0 * n) for n in range(12)]
    rows[4] = replace(rows[4], scores={"flicker": 30.0, "sharpness": 0.1, "dynamic_strength": 0.0})
    found = worst(run(rows), 3)
    assert found[0].row.case == "c4" and set(found[0].by) == {"flicker", "sharpness"} and len(found) == 3


def test_runs_are_read_back_and_merged_by_prompt_and_seed(tmp_path: Path) -> None:
    first, second = tmp_path / "one", tmp_path / "two"
    run([row("c1", "a", flicker=1.0), row("c2", "a", flicker=2.0)], first).store()
    moved = [replace(row("c9", "b", flicker=0.5), settings=row("c2", "b").settings), row("c7", "b", flicker=1.0)]
    run(moved, second).store()
    assert read_run(first).rows[1].scores == {"flicker": 2.0}
    made = merge(str(first), f"{second}:b", tmp_path / "three")
    assert [(one.clip, two.clip) for one, two in chosen_pairs(made)] == [
        ("../one/clips/c2-a-1.mp4", "../two/clips/c9-b-1.mp4")
    ]
    assert compare(made, "a", "b")["flicker"].difference.mean == -1.5
    for names in ((first, first), (first, tmp_path), (f"{first}:no", second)):
        with pytest.raises(InputError):
            merge(str(names[0]), str(names[1]), tmp_path)
    run([row("c5", "b", flicker=0.5)], second).store()
    with pytest.raises(InputError, match="no prompt and seed in common"):
        merge(str(first), str(second), tmp_path)
    (second / "results.json").write_text('{"format": 1, "clips": [{}]}', encoding="utf-8")
    with pytest.raises(InputError, match="is no result of evaluate"):
        read_run(second)
