"""Suites, recipes and the tasks that they make."""

import json
from pathlib import Path

import pytest
from PIL import Image

from studio.config import load_camera_moves, load_models
from studio.errors import InputError
from studio.evals.recipes import Recipe, choose, load_recipes, make_tasks, select
from studio.evals.suite import read_suite, suite_names

MODELS, MOVES = load_models(), load_camera_moves()
NANO = Recipe("nano", "nano")


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_every_suite_of_ours_can_be_asked_of_its_models(tmp_path: Path) -> None:
    asked = {"nano": "nano", "camera": "nano", "general": "step-video-t2v"}
    assert sorted(asked) == suite_names()
    counts = {}
    for name, model in asked.items():
        cases = read_suite(name)
        counts[name] = len(make_tasks(cases, [Recipe(model, model)], 2, MODELS, MOVES))
        assert len({case.settings["prompt"] for case in cases}) == len(cases) or name == "camera"
    assert counts["nano"] == 48
    recipes = load_recipes(MODELS)
    assert set(MODELS) < set(recipes) and recipes["nano-draft"].settings == {"speed": "draft"}


def test_the_layouts_give_the_same_cases(tmp_path: Path) -> None:
    text = write(tmp_path / "a.txt", "# cats\n一只猫\n\n# dogs\nA dog, running\n")
    table = write(tmp_path / "a.csv", '\ufeffprompt,category,num_frames\n一只猫,cats,17\n"A dog, running",dogs,\n')
    rows = [
        {"prompt": "一只猫", "category": "cats", "num_frames": 17},
        {"prompt": "A dog, running", "category": "dogs"},
    ]
    lines = write(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    found = {path.suffix: read_suite(path) for path in (text, table, lines)}
    assert [(case.category, case.settings["prompt"]) for case in found[".txt"]] == [
        ("cats", "一只猫"),
        ("dogs", "A dog, running"),
    ]
    assert found[".csv"] == found[".jsonl"]
    assert found[".csv"][0].settings["num_frames"] == 17 and "num_frames" not in found[".csv"][1].settings


def test_a_folder_of_pictures_with_texts_is_a_suite(tmp_path: Path) -> None:
    for name in ("ani_V_005", "real_H_011"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
        write(tmp_path / f"{name}.txt", f"{name} moves\n")
    Image.new("RGB", (8, 8)).save(tmp_path / "alone.png")
    cases = read_suite(tmp_path)
    assert [(case.id, case.category, case.picture) for case in cases] == [
        ("ani_V_005", "ani_V", tmp_path / "ani_V_005.png"),
        ("real_H_011", "real_H", tmp_path / "real_H_011.png"),
    ]


def test_what_cannot_be_used_is_told_with_its_place(tmp_path: Path) -> None:
    wrong = {
        "a.jsonl": ('{"prompt": "x"}\n{"prompt": "y", "stpes": 4}', "prompt 2: there is no field stpes"),
        "b.jsonl": ('{"prompt": "x"}\n[1]', "Line 2 cannot be read"),
        "c.jsonl": ('{"prompt": "x", "seed": "one"}', "prompt 1"),
        "d.csv": ("prompt,seed\nx,one", "Line 2 cannot be read: seed"),
        "e.csv": ("prompt\n  ,x,y", "more cells"),
        "f.jsonl": ('{"prompt": "x", "id": "1"}\n{"prompt": "y", "id": "1"}', "used twice"),
        "g.jsonl": ('{"prompt": "x", "first_image": "no.png"}', "no picture"),
        "h.txt": ("\n", "holds 0 prompts"),
        "i.md": ("x", "none of the suites"),
    }
    for name, (text, words) in wrong.items():
        with pytest.raises(InputError, match=words):
            read_suite(write(tmp_path / name, text))
    cases = read_suite(write(tmp_path / "z.jsonl", '{"prompt": "x", "id": "long", "num_frames": 18}'))
    with pytest.raises(InputError, match="Prompt long with recipe nano: num_frames is 18"):
        make_tasks(cases, [NANO], 1, MODELS, MOVES)


def test_recipes_share_seeds_and_go_before_the_suite(tmp_path: Path) -> None:
    cases = read_suite(write(tmp_path / "a.jsonl", '{"prompt": "x", "infer_steps": 7}\n{"prompt": "y", "seed": 3}'))
    tasks = make_tasks(cases, [NANO, Recipe("few", "nano", "none", {"infer_steps": 2})], 2, MODELS, MOVES)
    told = [(task.recipe.name, task.case.id, task.settings.seed, task.settings.infer_steps) for task in tasks]
    assert told == [
        ("nano", "001", 1001, 7), ("nano", "001", 101001, 7), ("nano", "002", 3, 20), ("nano", "002", 100003, 20),
        ("few", "001", 1001, 2), ("few", "001", 101001, 2), ("few", "002", 3, 2), ("few", "002", 100003, 2),
    ]  # fmt: skip
    assert len({task.key for task in tasks}) == 8


def test_a_choice_by_lot_is_the_same_every_time() -> None:
    cases = read_suite("nano")
    chosen = select(cases, 5, shuffle=True)
    assert chosen == select(cases, 5, shuffle=True) and chosen != cases[:5] and len(chosen) == 5
    assert select(cases, None, shuffle=True) == cases and select(cases, 2, shuffle=False) == cases[:2]


def test_a_file_of_recipes_is_read_strictly(tmp_path: Path) -> None:
    own = write(tmp_path / "own.yaml", "mine: {model: nano, weights: int8, cfg_scale: 2.0}\n")
    found = load_recipes(MODELS, own)["mine"]
    assert (found.model, found.weights, found.settings) == ("nano", "int8", {"cfg_scale": 2.0})
    for text in ("a: {speed: fast}", "a: {model: nano, prompt: x}", "a: {model: nano, weights: int4}", "- a", "a: ["):
        with pytest.raises(InputError):
            load_recipes(MODELS, write(tmp_path / "bad.yaml", text))
    for names in ("nano,nano", "", "no-such"):
        with pytest.raises(InputError):
            choose(names, load_recipes(MODELS))
