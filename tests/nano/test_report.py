"""The judge's report: its tables say what was counted, its gates compare clip by clip, its picture has every row."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image

from studio.nano.clips import to_frames
from studio.nano.evaluate import Tally, difference, held_out
from studio.nano.grid import CAMERAS, FRAME, PROMPTS, SCORES, make_grid
from studio.nano.render import render
from studio.nano.report import conditions_line, gates_table, marks_table, report
from studio.nano.world import WORLDS
from studio.settings import ResolvedSettings

SMALL = WORLDS["small"]


class Perfect:
    """A ClipMaker that draws the held-out scene of a seed itself, and notes what it was asked."""

    def __init__(self, infer_steps: int = 20, quantize: str = "none") -> None:
        self.settings = ResolvedSettings(
            model="nano", prompt="x", negative_prompt="", first_image=None, motion_score=None, camera_move="",
            infer_steps=infer_steps, cfg_scale=4.0, time_shift=3.0, num_frames=17, height=64, width=64, seed=0,
        )  # fmt: skip
        self.asked: list[tuple[str, int, float, bool, str]] = []
        numbers = {"speed": "exact", "infer_steps": infer_steps, "cfg_scale": 4.0, "time_shift": 3.0}
        machine = {"dtype": "float32", "quantize": quantize, "device": "x86_64", "torch": "2.13"}
        self.computed = numbers | {"num_frames": 17, "height": 64, "width": 64} | machine

    def make(
        self, prompt: str, seed: int, *, motion_score: float, image: Image.Image | None = None, camera_move: str = ""
    ) -> np.ndarray:
        self.asked.append((prompt, seed, motion_score, image is not None, camera_move))
        return to_frames(render(held_out(SMALL, seed + 1)[-1:], 17, 64, 64).video)[0]

    def through_vae(self, video: torch.Tensor) -> tuple[np.ndarray, float]:
        return to_frames(video)[0], 30.0


class Folder:
    """Stands for NanoFolder; whatever is opened is perfect."""

    def __init__(self, *, turbo: bool) -> None:
        self.turbo = turbo
        self.opened: list[dict] = []

    def has(self, name: str) -> bool:
        return self.turbo

    @contextmanager
    def open(self, name: str, **how: object) -> Iterator[Perfect]:
        self.opened.append({"name": name, **how})
        steps = {"nano-turbo": 10}.get(name, 20)
        yield Perfect(how.get("overrides", {}).get("infer_steps", steps), "int8" if how.get("int8") else "none")


def tally(*clips: dict[str, bool]) -> Tally:
    return Tally(marks=list(clips))


def test_a_difference_is_paired_and_every_attribute_weighs_the_same() -> None:
    ours = tally({"colour": True, "shape": True}, {"colour": True}, {"colour": False}, {"colour": True})
    theirs = tally({"colour": True, "shape": False}, {"colour": False}, {"colour": False}, {"colour": False})
    told = difference([ours], [theirs])
    assert told["points"] == 75.0 and told["judgements"] == 5  # colour +50, shape +100
    # The spread is colour's alone: half of the standard error of (0, 1, 0, 1).
    assert told["interval"] == pytest.approx([75 - 1.96 * 12.5, 75 + 1.96 * 12.5], abs=0.06)
    assert difference([ours], [ours]) == {"points": 0.0, "interval": [0.0, 0.0], "judgements": 5}


def test_the_report_counts_every_way_and_its_tables_say_it() -> None:
    folder = Folder(turbo=True)
    told = json.loads(json.dumps(report(folder, SMALL, 3, {"cfg_scale": 2.0})))
    assert [(way["name"], way.get("with_image", False), way.get("int8", False)) for way in folder.opened] == [
        ("nano", False, False), ("nano", True, False), ("nano", False, True), ("nano", False, False),
        ("nano-turbo", False, False),
    ]  # fmt: skip
    assert folder.opened[3]["overrides"] == {"cfg_scale": 2.0, "infer_steps": 10} and not folder.opened[4]["overrides"]
    assert told["chinese_above_english"]["judgements"] == 2 * sum(
        marks["n"] for marks in told["text"]["zh"].values() if isinstance(marks, dict)
    )
    assert told["truth"]["colour"]["share"] == told["text"]["en"]["colour"]["share"] == 1.0
    assert told["image"]["zh"]["first_frame_psnr"] == 99.0
    marks = marks_table(told)
    assert "100 % (44-100, n=3)" in marks and marks.count("\n") == 9
    assert {len(line.split("|")) for line in marks.splitlines()} == {9}  # the same number of cells in every row
    ways = gates_table(told).splitlines()
    assert [line.split("|")[1].strip() for line in ways[2:]] == [
        "float32, 20 steps", "int8 weights, float32, 20 steps", "float32, 10 steps, not distilled",
        "Turbo, float32, 10 steps",
    ]  # fmt: skip
    assert (
        "17 frames of 64x64, 20 steps, speed exact, cfg 4, shift 3; computed in float32 on x86_64"
        in conditions_line(told)
    )
    without = report(Folder(turbo=False), SMALL, 2, {}, gates=1)
    assert (without["text"]["zh"]["colour"]["n"], without["gates_full"]["zh"]["colour"]["n"]) == (2, 1)
    assert set(without["gates"]) == {"int8", "few"} and "Turbo" not in gates_table(without)


def test_the_picture_has_a_row_for_every_prompt_move_and_score() -> None:
    alone, both = Perfect(), Perfect()
    picture = make_grid(alone, both, None, seed=7)
    assert picture.height == 12 + (len(PROMPTS) + len(CAMERAS)) * (FRAME + 22 + 12)
    assert picture.width == 12 + 2 * (5 * FRAME + 12)
    assert [(text, seed) for text, seed, *_ in alone.asked] == [
        (text, 7 + row) for row, texts in enumerate(PROMPTS) for text in texts
    ]
    assert {seed for _, seed, *_ in both.asked} == {7} and all(image for *_, image, _ in both.asked)
    assert [move for *_, move in both.asked] == [*CAMERAS, *["left"] * len(SCORES)]
    assert [score for _, _, score, *_ in both.asked[len(CAMERAS) :]] == list(SCORES)
