"""`blind` in Chromium, on a phone, through a login: a script that votes by a rule finds the planted better recipe."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from studio.config import ROOT
from tests.commands.real_studio import browser, until
from tests.evals.voter import planted, vote
from tests.ui.visitor import PHONE, free_port, is_foreign

PROMPTS = 20


@pytest.mark.browser
def test_a_voter_with_a_rule_finds_the_planted_recipe(tmp_path: Path, browser: Any) -> None:
    made, truth = planted(tmp_path / "run", PROMPTS)
    made.store()
    port = free_port()
    words = [sys.executable, ROOT / "app.py", "blind", f"{tmp_path}/run:a", f"{tmp_path}/run:b"]
    served = [*map(str, words), "--port", str(port), "--auth", "ann:secret"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(served, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        until(lambda: "127.0.0.1" in process.stdout.readline())
        wrong: list[str] = []
        url = f"http://127.0.0.1:{port}"
        page = browser.new_context(viewport=PHONE, locale="zh-CN", has_touch=True).new_page()
        page.on("request", lambda asked: wrong.append(asked.url) if is_foreign(asked.url, url) else None)
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.goto(url)
        page.fill("[name=user]", "ann")
        page.fill("[name=password]", "secret")
        page.press("[name=password]", "Enter")
        vote(page)
        assert not wrong
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
