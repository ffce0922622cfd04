"""What `pip install .` brings: the wheel's contents and metadata, and a video made with it far from the clone."""

import os
import signal
import subprocess
import sys
import sysconfig
import time
from email.parser import Parser
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from studio.commands.page import QUEUE_FOLDER
from studio.config import ROOT, load_examples, load_models
from studio.examples import first_image, thumbnail
from studio.media import read_video
from studio.queue.jobs import JobQueue, JobState
from studio.settings import GenerationSettings
from tests.ui.visitor import free_port

TINY = GenerationSettings("nano", "A red ball", infer_steps=1, num_frames=17, height=64, width=64, seed=1)


def pinned(requirements: Path) -> set[str]:
    lines = (line.partition("#")[0].strip() for line in requirements.read_text(encoding="utf-8").splitlines())
    return {line for line in lines if line and not line.startswith("-r")}


@pytest.fixture(scope="module")
def wheel() -> Any:
    """The build backend's view of this repository; it builds nothing yet."""
    return import_module("hatchling.builders.wheel").WheelBuilder(str(ROOT))


def test_the_wheel_brings_the_program_and_its_data_alone(wheel: Any) -> None:
    files = {Path(file.distribution_path) for file in wheel.recurse_included_files()}
    expected = {path.relative_to(ROOT) for room in ("models", "studio") for path in (ROOT / room).rglob("*.py")}
    expected |= {path.relative_to(ROOT) for path in (ROOT / "studio" / "ui" / "assets").iterdir()}
    expected |= {"studio" / path.relative_to(ROOT) for path in (ROOT / "configs").rglob("*.yaml")}
    for example in load_examples().values():
        pictures = [thumbnail(example, "en"), thumbnail(example, "zh"), first_image(example)]
        expected |= {"studio" / picture.relative_to(ROOT) for picture in pictures if picture}
    weights = [path for path in (ROOT / "assets" / "nano").rglob("*.safetensors") if path.parent.name != "int8"]
    expected |= {"studio" / path.relative_to(ROOT) for path in weights}
    assert sorted(expected - files) == [] and len(weights) > 3
    assert {path.parts[0] for path in files} == {"models", "studio"}
    own = {path for path in files if path.parent.name != "suites"}  # prompts of `evaluate` are data
    strange = {path for path in own if "int8" in path.parts or path.suffix in (".pyc", ".md", ".jsonl")}
    assert strange == set()


def test_the_metadata_names_what_requirements_txt_pins(wheel: Any) -> None:
    metadata = Parser().parsestr(wheel.config.core_metadata_constructor(wheel.metadata))
    needed = metadata.get_all("Requires-Dist", [])
    assert {line for line in needed if "extra ==" not in line} == pinned(ROOT / "requirements.txt")
    extras = {line.split("==")[0] for line in needed if "extra ==" in line}
    assert extras == {"flash-attn", "triton", "opencv-python-headless", "rapidocr", "onnxruntime", "ray"}
    assert metadata["Requires-Python"] == ">=3.11" and metadata["Name"] == "step-video-studio"
    assert set(wheel.metadata.build.requires) <= pinned(ROOT / "requirements-test.txt"), "the tests build as pip does"


def test_the_installed_command_is_the_command_line(wheel: Any) -> None:
    (name, target), *others = wheel.metadata.core.scripts.items()
    module, _, function = target.partition(":")
    assert name == "step-video-studio" and not others and callable(getattr(import_module(module), function))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a new environment that holds this program's wheel, and its dependencies from ours."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    build = ["wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run([*pip, *build], check=True, cwd=folder)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    (wheel,) = folder.glob("*.whl")
    python = folder / "venv" / "bin" / "python"
    subprocess.run([*pip, "--python", str(python), "install", "--no-index", "--no-deps", str(wheel)], check=True)
    base = {"base": str(folder / "venv"), "platbase": str(folder / "venv")}
    own = Path(sysconfig.get_path("purelib", scheme="venv", vars=base))
    (own / "dependencies.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    return python.parent


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_the_installed_program_makes_a_video_from_another_folder(installed: Path, tmp_path: Path) -> None:
    words = ["generate", "--device", "cpu", "--model", "nano", "--prompt", "A red ball", "--output", "ball.mp4"]
    words += ["--infer-steps", "1", "--num-frames", "17", "--height", "64", "--width", "64", "--seed", "1"]
    subprocess.run([installed / "step-video-studio", *words], check=True, cwd=tmp_path, env=environment())
    assert read_video(tmp_path / "ball.mp4").shape == (17, 64, 64, 3)
    absent = [installed / "step-video-studio", "generate", "--model", "step-video-t2v", "--prompt", "x"]
    refused = subprocess.run(absent, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert refused.returncode == 2 and "step-video-studio download step-video-t2v" in refused.stderr


@pytest.mark.slow
def test_the_installed_page_starts_its_worker(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "studio").mkdir()  # what lies where the user works is never taken for the program
    (tmp_path / "studio" / "__init__.py").write_text("raise SystemExit('the wrong program')")
    queue = JobQueue(tmp_path / "outputs" / QUEUE_FOLDER)
    job = queue.submit(TINY.resolve(load_models()["nano"]))
    command = [installed / "step-video-studio", "--device", "cpu", "--port", str(free_port())]
    page = subprocess.Popen(command, cwd=tmp_path, env=environment())
    try:
        deadline = time.monotonic() + 300
        while queue.get(job.id).state in (JobState.QUEUED, JobState.RUNNING):
            assert page.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
        assert queue.get(job.id).state == JobState.FINISHED, queue.get(job.id).error
    finally:
        page.send_signal(signal.SIGTERM)
        assert page.wait(60) == 0
