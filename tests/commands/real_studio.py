"""A real studio for tests/test_end_to_end.py: app.py in processes of its own, its page in Chromium, a tiny model.

The tests of one file share a browser, and those that break nothing share a running program.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from studio.commands.page import QUEUE_FOLDER
from studio.config import ROOT
from studio.filenames import LATENTS
from studio.media import read_video
from studio.pipeline.latents_file import read_latents
from studio.queue.job import Job, JobState
from studio.queue.jobs import JobQueue
from studio.settings import GenerationSettings
from tests.ui.fake_backend import paint
from tests.ui.visitor import free_port, launched, visitors

EVIL = "<img src=x onerror=alert(1)>"
PROMPT = "红衣女孩在雪中转身微笑，镜头缓慢推进"
# Long enough to be interrupted, at a size no menu has: such settings come into the form from a file.
LONG = GenerationSettings(
    "step-video-ti2v", PROMPT, first_image="x", motion_score=5.0, camera_move="push-in", infer_steps=200, cfg_scale=4.0,
    time_shift=7.0, num_frames=51, height=128, width=128, seed=7,
)  # fmt: skip
SHORT = replace(LONG, infer_steps=2, num_frames=17, height=64, width=96, seed=11)
WAIT = 150.0  # seconds; what a slow and crowded machine may need: at load 9 a video of 544x992 took over 60


def until(condition: Callable[[], Any], seconds: float = WAIT) -> Any:
    """The first true answer of `condition`."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)
    return answer


class Studio:
    """app.py with one model folder and one output folder. Its device locks are its own, as on a machine of its own."""

    def __init__(self, models: Path, folder: Path, device: str = "cpu") -> None:
        self.folder, self.port, self._device = folder, free_port(), device
        self._models = models
        self._page: subprocess.Popen[str] | None = None
        (folder / "tmp").mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def queue(self) -> JobQueue:
        return JobQueue(self.folder / QUEUE_FOLDER)

    @property
    def page_pid(self) -> int:
        return self._page.pid

    @property
    def worker(self) -> psutil.Process:
        """The page's worker, once it is there."""
        return until(lambda: next(iter(self._children("worker")), None))

    @property
    def sound_worker(self) -> psutil.Process:
        """The page's worker of sound jobs, once it is there."""
        return until(lambda: next(iter(self._children("sound_worker")), None))

    def _children(self, command: str) -> list[psutil.Process]:
        children = psutil.Process(self._page.pid).children()
        return [child for child in children if command in child.cmdline()]

    def run(self, *words: object) -> subprocess.Popen[str]:
        """Start app.py with these words."""
        machine = ["--model-dir", self._models, "--output-dir", self.folder, "--device", self._device, "--ram", 4]
        command = [sys.executable, ROOT / "app.py", *words, *machine]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(self.folder / "tmp"), "PYTHONUNBUFFERED": "1"}
        options = {"env": environment, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen([str(word) for word in command], **options)

    def open(self) -> "Studio":
        """Start the page and wait until it answers."""
        self._page = self.run("--port", self.port)
        lines = []
        while "The page:" not in (line := self._page.stdout.readline()):
            lines.append(line)
            assert line, f"the page did not start: {lines}"
        return self

    def kill(self) -> None:
        """As a power cut would; its worker ends by itself."""
        worker = self.worker
        self._page.kill()
        self._page.wait()
        worker.wait(WAIT)

    def close(self) -> int:
        """As `kill` does, or the end of a session; the exit code."""
        if self._page.poll() is None:
            self._page.send_signal(signal.SIGTERM)
        return self._page.wait(WAIT)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as made:
        yield made


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture of a shape that no size has."""
    path = tmp_path_factory.mktemp("picture") / "日落.png"
    Image.fromarray(paint(1, 300, 421, 5)[0]).save(path)
    return path


@pytest.fixture(scope="module")
def undisturbed(model_dir: Path, picture: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], np.ndarray]:
    """The frames of LONG as the command line makes them without a break; made beside the first tests."""
    studio = Studio(model_dir, tmp_path_factory.mktemp("undisturbed"))
    fields = {name: value for name, value in asdict(LONG).items() if value not in (None, "")} | {"first_image": picture}
    words = [word for name, value in fields.items() for word in (f"--{name.replace('_', '-')}", value)]
    process = studio.run("generate", *words, "--output", studio.folder / "whole.mp4")

    def frames() -> np.ndarray:
        assert process.wait(WAIT) == 0, process.stdout.read()
        return read_video(studio.folder / "whole.mp4")

    return frames


@pytest.fixture(scope="module")
def shared(
    model_dir: Path, undisturbed: Callable[[], np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Studio]:
    """A running program for the tests that leave it well."""
    studio = Studio(model_dir, tmp_path_factory.mktemp("shared")).open()
    yield studio
    assert studio.close() == 0


@pytest.fixture
def own(model_dir: Path, tmp_path: Path) -> Iterator[Studio]:
    """A program that the test may kill."""
    studio = Studio(model_dir, tmp_path / "outputs").open()
    yield studio
    studio.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a program's page as a new visitor. No page may ask another host or run what a user wrote."""
    with visitors(browser, WAIT) as open_page:
        yield lambda studio, *options, **named: open_page(studio.url, *options, **named)


def ask(page: Any, settings: GenerationSettings, picture: Path, folder: Path) -> None:
    """Fill the form with a picture and with settings from a file."""
    if not page.is_visible(".crop img"):
        page.set_input_files("#first-image input[type=file]", picture)
        page.wait_for_selector(".crop img")
    path = folder / "settings.json"
    path.write_text(json.dumps({"settings": asdict(settings)}), encoding="utf-8")
    if not page.is_visible("#seed"):
        page.click("#drawer-toggle")
    page.fill("#prompt textarea", "another")  # so that the file surely differs from the form
    page.set_input_files("#restore-file input[type=file]", path)
    page.click('#differs [data-id="apply"]')
    page.wait_for_selector("#message .alert.good")
    page.wait_for_function("document.querySelector('#prompt textarea').value !== 'another'")
    page.wait_for_function(f"document.querySelector('#seed input, #seed textarea').value === '{settings.seed}'")


def generate(studio: Studio, page: Any) -> Job:
    """Click Generate; the job that this makes."""
    known = {job.id for job in studio.queue.list()}
    page.click("#generate")
    return until(lambda: next((job for job in studio.queue.list() if job.id not in known), None))


def reached(studio: Studio, job: Job, step: int) -> Job:
    """The job once it has done so many steps; it must not have ended before."""

    def look() -> Job | None:
        now = studio.queue.get(job.id)
        assert now.state in (JobState.QUEUED, JobState.RUNNING), now
        return now if now.progress and now.progress.phase == "denoise" and now.progress.step >= step else None

    return until(look)


def ended(studio: Studio, job: Job, state: JobState) -> Job:
    """The job once it ended, which it must have in this state."""
    now = until(lambda: (now := studio.queue.get(job.id)).state not in ("queued", "running") and now)
    assert now.state == state, now
    return now


def plays(page: Any, job: Job) -> None:
    """Wait until the stage shows the job's video; right after a click it may still show an earlier one."""
    page.wait_for_selector(f".stage.finished video[src$='/{job.id}/result']")


def frames_of(job: Job) -> np.ndarray:
    return read_video(Path(job.result.path))


def saved_step(job: Job) -> int:
    return read_latents(job.folder / LATENTS).state.step
