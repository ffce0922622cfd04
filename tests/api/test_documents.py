"""What docs/api.md tells people to type runs, in its order."""

import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from studio.config import ROOT
from studio.media import read_video
from studio.queue.job import JobState
from tests.api.serving import Api, until
from tests.api.test_videos import LONG, png

TEXT = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
WITH_CURL = TEXT.partition("## With curl")[2].partition("\n## ")[0]

UNDONE = [JobState.QUEUED, JobState.RUNNING]


def commands(language: str, text: str = WITH_CURL) -> list[str]:
    """The commands in the blocks of a language, lines that go on joined."""
    blocks = re.findall(rf"```{language}\n(.*?)```", text, flags=re.S)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line]


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_commands_with_curl(api: Api, tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(png())
    known = {"URL": api.url, "KEY": api.write}

    def run(command: str) -> Any:
        done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=os.environ | known, capture_output=True)
        assert done.returncode == 0, (command, done)
        return json.loads(done.stdout) if done.stdout[:1] == b"{" else done.stdout.decode()

    lines, answers = commands("bash"), {}
    assert len(lines) == 17 and all(line.startswith("curl -s") for line in lines)
    for line in lines:
        if "-X POST" in line or "-X DELETE" in line:  # of one that runs, or was stopped
            if "/cancel" in line:
                until(lambda: not api.fake.backend.queue.count(UNDONE))  # the remix is made, at its pace
                api.fake.pace.step_seconds = 1.0  # a shell may take seconds to start where the machine is busy
                with api.client() as client:
                    known["ID"] = client.post("/v1/videos", json={"prompt": "long", **LONG}).json()["id"]
                until(lambda id=known["ID"]: api.job(id).progress)
            if "/resume" in line or "-X DELETE" in line:
                api.ended(known["ID"])  # a job that runs is neither resumed nor deleted
        answers[line] = answer = run(line)
        api.fake.pace.step_seconds = 0.02
        assert not isinstance(answer, dict) or not answer.get("error"), (line, answer)
        if isinstance(answer, dict) and answer.get("object") == "video" and "ID" not in line:
            last = answer["id"]
            known |= {"ID": last} if "picture.png" in line else {}
    assert len(read_video(tmp_path / "video.mp4")) == 17 and (tmp_path / "first-bytes").stat().st_size == 100
    assert (tmp_path / "thumbnail.jpg").stat().st_size and (tmp_path / "spritesheet.jpg").stat().st_size
    assert [json.loads(part[6:])["status"] for part in answers[lines[4]].splitlines() if part[:5] == "data:"][-1] == (
        "completed"
    )


def test_the_lines_of_the_client(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openai", reason="openai is not installed (requirements-test.txt)")
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.S)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        exec(code, {"URL": api.url, "KEY": api.write})
    assert read_video(tmp_path / "ball.mp4").shape == (17, 64, 64, 3)


def test_the_commands_for_keys(tmp_path: Path) -> None:
    lines = commands("bash", TEXT.partition("## With curl")[0])
    assert [line.split()[3] for line in lines] == ["new", "list", "revoke"]
    said = []
    for line in lines:
        words = [sys.executable, str(ROOT / "app.py"), *line.partition("#")[0].split()[2:]]
        done = subprocess.run([*words, "--output-dir", str(tmp_path)], capture_output=True, text=True, check=True)
        said.append(done.stdout)
    assert said[0].startswith("svs_") and said[1].startswith("robot") and "revoked" in said[2]
