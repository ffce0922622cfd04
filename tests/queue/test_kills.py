"""Two hundred kills at random moments: what was acknowledged is there, whole, and nothing lies about at the end."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_two_hundred_kills_break_no_promise(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.queue.kills", str(tmp_path), "2", "200"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr[-2000:]
    found = json.loads(ran.stdout)
    assert found["broken"] == [], found
    kills = [found["by role"].get(role, 0) for role in ("work", "submit", "throw", "delete", "restore")]
    assert sum(kills) == 200 and min(kills) > 5 and found["finished"] > 5, found
