"""Shared fixtures: small checkpoints in the public layout, written once per test run.

A machine for GPU tests lacks the packages of the pipeline, so a fixture imports what it needs when it is used.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from multiprocessing.util import get_temp_dir
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

if TYPE_CHECKING:
    from studio.pipeline.run import Engine

LONG_SECONDS = 1800
if "PYTEST_XDIST_WORKER" in os.environ:  # processes share the cores: one thread each, and in programs that they start
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long by its marker has more time before it counts as hanging; pyproject.toml has the others' limit."""
    for item in items:
        if any(item.get_closest_marker(name) for name in ("slow", "gpu", "browser")):
            item.add_marker(pytest.mark.timeout(LONG_SECONDS))


@pytest.fixture(scope="session", autouse=True)
def own_locks() -> Iterator[None]:
    """Device locks are this process's own: others test on the same machine. The path is short: sockets lie there."""
    get_temp_dir()  # multiprocessing removes its own folder at the very end, so it must not lie in this one
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", folder)
        yield


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with step-video-t2v (single files) and step-video-ti2v (sharded), of tiny sizes and random weights."""
    from studio.nano.checkpoint import write_checkpoint
    from tests.tiny import TINY

    folder = tmp_path_factory.mktemp("checkpoints")
    write_checkpoint(folder / "step-video-t2v", TINY, 1)
    write_checkpoint(folder / "step-video-ti2v", TINY, 2, use_additional_conditions=True, shards=3)
    return folder


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder with speeds of this machine, so that no test has to measure them; they are assumed ones."""
    from studio.memory.planning import speeds

    folder = tmp_path_factory.mktemp("measured")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speeds, "_measure_device", lambda device, *_: speeds.ASSUMED[device.type])
        patch.setattr(speeds, "_disk_speed", lambda *_: speeds.DiskSpeed(1.0, speeds.DISK_BYTES))
        speeds.load_speeds(folder, torch.device("cpu"))
    return folder


@pytest.fixture(scope="session")
def colours(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[["Engine"], None]:
    """colours(engine): its VAE's colours of previews are in its cache, fitted once per test run."""
    from studio.pipeline.preview import LatentColours
    from studio.settings import GenerationSettings

    folder = tmp_path_factory.mktemp("colours")

    def give(engine: "Engine") -> None:
        kept = folder / engine.colours.path.name
        if not kept.exists():
            shape = GenerationSettings(engine.model.name, "x", num_frames=17, height=64, width=64).resolve(engine.model)
            with engine.memory.vae(shape.video_shape) as vae:
                LatentColours.fit(vae.encode_moments).store(kept)
        engine.colours.path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(kept, engine.colours.path)

    return give


@pytest.fixture
def outputs(measured: Path, tmp_path: Path) -> Path:
    """A new output folder on a machine whose speeds are known."""
    from studio.pipeline.engine import CACHE_FOLDER

    folder = tmp_path / "outputs"
    shutil.copytree(measured, folder / CACHE_FOLDER)
    return folder


@pytest.fixture
def open_tiny(model_dir: Path, outputs: Path, colours: Callable[["Engine"], None]) -> "Callable[..., Engine]":
    """Open a tiny model by name, on the CPU: open_tiny("step-video-ti2v")."""
    from studio.config import load_camera_moves, load_models, load_studio
    from studio.pipeline.engine import EngineOptions, open_engine

    def open_model(name: str, **options: Any) -> "Engine":
        config = load_studio(model_dir=str(model_dir), output_dir=str(outputs), ram_gb=4)
        model = load_models()[name]
        engine = open_engine(model, model.takes_image, load_camera_moves(), config, EngineOptions("cpu", **options))
        colours(engine)
        return engine

    return open_model
