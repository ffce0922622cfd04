"""A model is fetched beside the page: seen, stopped, gone on with, and told why it failed."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from studio.checkpoints.download_record import DownloadRecord, progress
from studio.errors import StudioError
from studio.service.downloads import Downloads

CHILD = """
import json, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
print(json.dumps({"said": "begins"}), "no json", sep=chr(10), flush=True)
if sys.argv[2] == "fail":
    values = {"folder": "/x", "free_gb": 1.0, "need_gb": 2.0}
    print(json.dumps({"error": "disk_full", "values": values, "text": "full"}))
    sys.exit(1)
if sys.argv[2] == "die":
    sys.exit(3)
with open(folder / "a.incomplete", "ab") as file:
    file.write(bytes(300))
while True:
    time.sleep(0.05)
"""


@pytest.fixture
def downloads(tmp_path: Path) -> Iterator[Downloads]:
    folder = tmp_path / "checkpoints" / "wait"
    folder.mkdir(parents=True)
    DownloadRecord("hf", "a/b", "c", total_bytes=1000, whole=False).write(folder)
    made = Downloads(
        lambda model, source, alone: [sys.executable, "-S", "-c", CHILD, str(folder), "fail" if alone else source],
        lambda model: progress(folder.parent / model),
    )
    yield made
    made.stop()


def until(done: Callable[[], object]) -> None:
    while not done():
        time.sleep(0.02)


def test_it_is_seen_stopped_and_gone_on_with(downloads: Downloads) -> None:
    assert downloads.stamp() == "" and not downloads.state("other").running
    downloads.start("wait", "hf")
    until(lambda: downloads.state("wait").done_bytes == 300)
    now = downloads.state("wait")
    assert now.running and now.total_bytes == 1000 and now.error is None and downloads.stamp() == "wait300"
    with pytest.raises(StudioError, match="wait is being downloaded"):
        downloads.start("other", "hf")
    downloads.stop()
    assert not downloads.state("wait").running and downloads.state("wait").done_bytes == 300
    downloads.stop()
    downloads.start("wait", "hf")
    until(lambda: downloads.state("wait").done_bytes == 600)
    assert downloads.state("wait").error is None, "a stop is no error"


def test_a_failed_one_says_why(downloads: Downloads) -> None:
    for source, code, values in (
        ("fail", "disk_full", {"folder": "/x", "free_gb": 1.0, "need_gb": 2.0}),
        ("die", "download_ended", {"model": "wait", "exit": 3}),
    ):
        downloads.start("wait", source)
        until(lambda: downloads.state("wait").error)
        until(lambda: not downloads.state("wait").running)
        error = downloads.state("wait").error
        assert error is not None and (error.code, error.values) == (code, values)
