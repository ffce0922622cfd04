"""Nothing is sent anywhere: system calls of `sound`, of its robot and ffmpeg; `chat` asks the named server alone."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from studio.config import ROOT
from tests.audio.clips import make_clip, tone, write_sound
from tests.toy_chat import toy_chat

STRACE = shutil.which("strace")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(STRACE is None, reason="strace is not installed: it names the addresses of every process"),
]


def addresses(trace: Path, *words: str) -> set[str]:
    """host:port of every internet address that the command or a process of it connected or sent to."""
    calls = ["-f", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", str(trace)]
    subprocess.run([STRACE, *calls, sys.executable, str(ROOT / "app.py"), *words], check=True, capture_output=True)
    port, host = r"sin6?_port=htons\((\d+)\)", r"(?:inet_addr\(|inet_pton\(AF_INET6, )\"([^\"]+)\""
    lines = [line for line in trace.read_text().splitlines() if "AF_INET" in line]
    return {f"{re.search(host, line)[1]}:{re.search(port, line)[1]}" for line in lines}


def test_a_soundtrack_asks_nobody_and_a_chat_its_server_alone(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", 25)
    (tmp_path / "scene.txt").write_text("0-1 s: rain", encoding="utf-8")
    bell = write_sound(tmp_path / "bell.mp3", tone(0.3))
    words = ["--say", "Go!", "--layers-file", str(tmp_path / "scene.txt"), "--layer", f"{bell}:0-0.5"]
    assert addresses(tmp_path / "sound.trace", "sound", str(clip), *words) == set()
    assert (tmp_path / "clip-sound.mp4").is_file()
    with toy_chat() as toy:
        asked = addresses(tmp_path / "chat.trace", "chat", "a cat", "--chat-url", toy.url)
        assert asked == {toy.url.removeprefix("http://")}, "and so it would have been seen"
