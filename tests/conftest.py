"""Shared fixtures: small checkpoints in the public layout, written once per test run."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from studio.config import load_camera_moves, load_models, load_studio
from studio.memory.planning.speeds import load_speeds
from studio.nano.checkpoint import write_checkpoint
from studio.pipeline.engine import CACHE_FOLDER, EngineOptions, open_engine
from studio.pipeline.run import Engine
from tests.tiny import TINY

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with step-video-t2v (single files) and step-video-ti2v (sharded), of tiny sizes and random weights."""
    folder = tmp_path_factory.mktemp("checkpoints")
    write_checkpoint(folder / "step-video-t2v", TINY, 1)
    write_checkpoint(folder / "step-video-ti2v", TINY, 2, use_additional_conditions=True, shards=3)
    return folder


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that knows this machine's speeds, so that not every test measures them for a second."""
    folder = tmp_path_factory.mktemp("measured")
    load_speeds(folder, torch.device("cpu"))
    return folder


@pytest.fixture
def outputs(measured: Path, tmp_path: Path) -> Path:
    """A new output folder on a machine whose speeds are known."""
    folder = tmp_path / "outputs"
    shutil.copytree(measured, folder / CACHE_FOLDER)
    return folder


@pytest.fixture
def open_tiny(model_dir: Path, outputs: Path) -> Callable[..., Engine]:
    """Open a tiny model by name, on the CPU: open_tiny("step-video-ti2v")."""

    def open_model(name: str, **options: str) -> Engine:
        config = load_studio(model_dir=str(model_dir), output_dir=str(outputs), ram_gb=4)
        model = load_models()[name]
        return open_engine(model, model.takes_image, load_camera_moves(), config, EngineOptions("cpu", **options))

    return open_model
