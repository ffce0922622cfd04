"""`blind` in Chromium, on a phone, through a login: a script that votes by a rule finds the planted better recipe."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.config import ROOT
from studio.evals.results import Run
from studio.video_writer import VideoWriter
from tests.commands.real_studio import browser, until
from tests.evals.test_summary import row, run
from tests.ui.visitor import PHONE, free_port, is_foreign

PROMPTS, GAIN, LEVELS, SEEN_BY_EYE = 20, 22, 24, 6
# The mean brightness of what a visitor sees on each side: the voter's rule knows no more than a person would.
SEEN = """() => ["left", "right"].map((side) => {
  const video = document.querySelector(`#${side} video`), canvas = document.createElement("canvas");
  canvas.width = canvas.height = 8;
  const context = canvas.getContext("2d");
  context.drawImage(video, 0, 0, 8, 8);
  return context.getImageData(0, 0, 8, 8).data.reduce((sum, value) => sum + value, 0) / 256;
})"""
READY = """(before) => document.querySelector("#left video")?.src !== before &&
  ["left", "right"].every((side) => document.querySelector(`#${side} video`)?.readyState >= 3)"""


def planted(folder: Path) -> tuple[Run, float]:
    """A run whose second recipe is brighter by GAIN, before noise of LEVELS, in most pairs; and its true margin."""
    dice = random.Random(4)
    made, wins = [], 0
    for number in range(PROMPTS):
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
    return run(made, folder), wins / PROMPTS


@pytest.mark.browser
def test_a_voter_with_a_rule_finds_the_planted_recipe(tmp_path: Path, browser: Any) -> None:
    made, truth = planted(tmp_path / "run")
    made.store()
    port = free_port()
    words = [sys.executable, ROOT / "app.py", "blind", f"{tmp_path}/run:a", f"{tmp_path}/run:b"]
    served = [*map(str, words), "--port", str(port), "--auth", "ann:secret"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(served, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        until(lambda: "127.0.0.1" in process.stdout.readline())
        foreign = vote(browser, f"http://127.0.0.1:{port}")
        assert not foreign
    finally:
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    (votes,) = (tmp_path / "run" / "blind").glob("*.jsonl")
    lines = [json.loads(line) for line in votes.read_text().splitlines()]
    assert len(lines) == PROMPTS + 2 and sum(line["repeat"] for line in lines) == 2
    result = subprocess.run([*map(str, words), "--result"], env=environment, text=True, capture_output=True, check=True)
    overall = next(line for line in result.stdout.splitlines() if line.startswith("overall"))
    assert f"{100 * truth:+.0f} %" in overall and "  decided" in overall, overall
    assert "judged alike: +100 %" in result.stdout


def vote(browser: Any, url: str) -> list[str]:
    """Vote on every pair by what is seen, with keys and by touch; returns what was asked of other hosts."""
    foreign: list[str] = []
    page = browser.new_context(viewport=PHONE, locale="zh-CN", has_touch=True).new_page()
    page.on("request", lambda asked: foreign.append(asked.url) if is_foreign(asked.url, url) else None)
    page.on("pageerror", lambda error: foreign.append(f"error: {error}"))
    page.goto(url)
    page.fill("[name=user]", "ann")
    page.fill("[name=password]", "secret")
    page.press("[name=password]", "Enter")
    page.fill("#voter", "robot")
    page.tap("#begin")
    before = ""
    while True:
        page.wait_for_function(f"(before) => !document.querySelector('#end').hidden || ({READY})(before)", arg=before)
        if page.is_visible("#end"):
            break
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert not {"a", "b"} & set(page.inner_text("main").split()), "a recipe's name is on the page"
        before = page.get_attribute("#left video", "src") and page.evaluate("document.querySelector('#left video').src")
        left, right = page.evaluate(SEEN)
        for _ in range(4):
            page.keyboard.press("1" if left > right else "2")
        page.tap(f"[data-side={'left' if left > right else 'right'}]")
    page.tap("#show")
    page.wait_for_selector("#result table")
    assert "b" in page.inner_text("#result")
    return foreign
