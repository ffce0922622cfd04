"""A planted comparison, and a voter in a browser who judges it by what is seen, as a rule."""

import random
from pathlib import Path
from typing import Any

import numpy as np

from studio.evals.results import Run
from studio.video_writer import VideoWriter
from tests.evals.test_summary import row, run

GAIN, LEVELS, SEEN_BY_EYE = 22, 24, 6
# The mean brightness of what a visitor sees on each side: the voter's rule knows no more than a person would.
SEEN = """() => ["left", "right"].map((side) => {
  const video = document.querySelector(`[data-part=${side}] video`), canvas = document.createElement("canvas");
  canvas.width = canvas.height = 8;
  const context = canvas.getContext("2d");
  context.drawImage(video, 0, 0, 8, 8);
  return context.getImageData(0, 0, 8, 8).data.reduce((sum, value) => sum + value, 0) / 256;
})"""
READY = """(before) => document.querySelector("[data-part=left] video")?.src !== before &&
  ["left", "right"].every((side) => document.querySelector(`[data-part=${side}] video`)?.readyState >= 3)"""
ENDED = "!document.querySelector('[data-part=end]').hidden"


def planted(folder: Path, prompts: int) -> tuple[Run, float]:
    """A run whose second recipe is brighter by GAIN, before noise of LEVELS, in most pairs; and its true margin."""
    dice = random.Random(4)
    made, wins = [], 0
    for number in range(prompts):
        light = [110.0, 110.0]
        while abs(light[1] - light[0]) < SEEN_BY_EYE:
            light = [110 + dice.uniform(-LEVELS, LEVELS), 110 + GAIN + dice.uniform(-LEVELS, LEVELS)]
        wins += 1 if light[1] > light[0] else -1
        for name, value in zip("ab", light, strict=True):
            one = row(f"c{number}", name)
            path = folder / one.clip
            path.parent.mkdir(parents=True, exist_ok=True)
            writer = VideoWriter(path, 64, 64, 25, {"settings": one.settings})
            writer.add(np.full((25, 64, 64, 3), value, np.uint8))
            writer.close()
            made.append(one)
    return run(made, folder), wins / prompts


def vote(page: Any) -> None:
    """Vote on every pair by what is seen, with keys and by touch, and ask for the result."""
    page.fill("[data-part=voter]", "robot")
    page.tap("[data-part=begin]")
    before = ""
    while True:
        page.wait_for_function(f"(before) => {ENDED} || ({READY})(before)", arg=before)
        if page.evaluate(ENDED):
            break
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert not {"a", "b"} & set(page.inner_text(".blind").split()), "a recipe's name is on the page"
        before = page.evaluate("document.querySelector('[data-part=left] video').src")
        left, right = page.evaluate(SEEN)
        for _ in range(4):
            page.keyboard.press("1" if left > right else "2")
        page.tap(f"[data-side={'left' if left > right else 'right'}]")
    page.tap("[data-part=show]")
    page.wait_for_selector(".result table")
    assert "b" in page.inner_text(".result")
