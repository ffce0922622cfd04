"""What the planner says of a run against the run itself, in a process of its own on a CPU."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.memory.random_checkpoint import Sizes, write_checkpoint

ROOT = Path(__file__).resolve().parents[3]
HERE = "tests.memory.planning.test_planner_reality"
WIDE = Sizes(heads=24, latent_channels=8, vae_channels=64, norm_groups=8, takes_image=False)
SLIM = replace(WIDE, heads=4, layers=3)

pytestmark = pytest.mark.slow


def in_a_process_of_its_own(function: str, *arguments: object) -> dict:
    command = f"import {HERE} as here, json; print(json.dumps(here.{function}(*{[str(a) for a in arguments]!r})))"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("wide"), WIDE)


def test_ram_of_a_step_is_within_ten_percent(wide):
    found = in_a_process_of_its_own("step_in_ram", wide)
    assert found["activations"] > 500 << 20
    assert found["predicted"] == pytest.approx(found["measured"], rel=0.1)


def test_ram_of_a_step_that_computes_in_int8_is_within_ten_percent(wide):
    pytest.importorskip("bitsandbytes", reason="it computes in int8")
    found = in_a_process_of_its_own("step_in_ram", wide, "int8-compute")
    assert found["activations"] > 500 << 20
    assert found["predicted"] == pytest.approx(found["measured"], rel=0.1)


def test_ram_of_decoding_is_within_ten_percent(wide):
    found = in_a_process_of_its_own("decode_in_ram", wide)
    assert found["activations"] > 500 << 20
    assert found["predicted"] == pytest.approx(found["measured"], rel=0.1)


def test_time_of_a_step_is_within_15_percent_after_one_measured_run(tmp_path):
    """Videos of two thirds and of 5/3 of the length; much shorter ones fit a processor's cache and are faster still.

    Processor time of one thread and the best of five rounds, so that what else the machine does counts less.
    """
    found = in_a_process_of_its_own("step_times", write_checkpoint(tmp_path / "slim", SLIM))
    for frames, (predicted, measured) in found.items():
        assert predicted == pytest.approx(measured, rel=0.15), f"{frames} frames"


def _open(folder: str, mode: str = "none"):
    import torch

    from studio.checkpoints.quantize import int8_folders, quantize
    from studio.memory.manager import MemoryManager
    from studio.memory.plan import Budgets, RuntimeConfig, WeightMode

    parts = dict.fromkeys(("transformer", "step_llm", "clip", "vae"), Path(folder))
    weights = WeightMode(mode)
    if weights.is_int8:
        quantize(parts, lambda text: None)
        parts = int8_folders(parts)
    return MemoryManager(
        parts, RuntimeConfig(torch.device("cpu"), torch.float32, Budgets(0, 12 << 30), weights=weights)
    )


def _step(manager, video, steps: int = 1) -> list[float]:
    """Processor seconds of each step, two conditions each."""
    import time

    import torch

    from studio.memory.manager import Condition

    conditions = [Condition(torch.randn(1, 320, 64), torch.randn(1, 77, 32)) for _ in range(2)]
    latents = torch.randn(1, video.latent_frames, 8, video.latent_height, video.latent_width)
    seconds = []
    with manager.transformer(video) as transformer:
        for _ in range(steps):
            began = time.process_time()
            transformer.velocities(latents, 0.5, conditions)
            seconds.append(time.process_time() - began)
    return seconds


def _above_base(manager, work) -> int:
    """Bytes of RAM that `work` takes at its worst beyond what the process has once its libraries are warm."""
    manager.release()
    base = manager.usage().ram_bytes
    manager.reset_peaks()
    work()
    return manager.usage().ram_peak_bytes - base


def step_in_ram(folder: str, mode: str = "none") -> dict:
    from models.geometry import VideoShape
    from studio.memory.planning.planner import phase_bytes

    # Fewer tokens than a chunk: of more, q, k and v are allocated before they are written, and are no RAM until then.
    manager, video = _open(folder, mode), VideoShape(34, 384, 448)
    _step(manager, VideoShape(1, 64, 64))
    measured = _above_base(manager, lambda: _step(manager, video))
    predicted = phase_bytes(manager._plans.request(video), manager.plan(video))["denoise"]
    plan = manager.plan(video).transformer
    weights = len(plan.resident) * plan.unit_bytes + plan.rest_bytes
    return {"predicted": predicted, "measured": measured, "activations": measured - weights}


def decode_in_ram(folder: str) -> dict:
    import torch

    from models.geometry import VideoShape
    from studio.memory.planning.planner import phase_bytes

    def decode(video: VideoShape) -> None:
        latents = torch.randn(1, video.latent_frames, 8, video.latent_height, video.latent_width)
        with manager.vae(video) as vae:
            for piece in vae.decode_chunks(latents):
                del piece

    manager, video = _open(folder), VideoShape(17, 400, 480)
    decode(VideoShape(1, 64, 64))
    measured = _above_base(manager, lambda: decode(video))
    predicted = phase_bytes(manager._plans.request(video), manager.plan(video))["decode"]
    weights = manager._plans.request(video).sizes.vae_bytes
    return {"predicted": predicted, "measured": measured, "activations": measured - weights}


def step_times(folder: str) -> dict:
    import tempfile

    import torch

    from models.geometry import VideoShape
    from studio.memory.planning.planner import calibrate, step_seconds
    from studio.memory.planning.speeds import load_speeds

    manager = _open(folder)
    speeds = load_speeds(Path(tempfile.mkdtemp()), torch.device("cpu"))
    videos = known, *others = [VideoShape(frames, 240, 320) for frames in (51, 34, 85)]
    rounds = [[_step(manager, video, 2)[1] for video in videos] for _ in range(5)]
    measured = {video: min(seconds) for video, seconds in zip(videos, zip(*rounds, strict=True), strict=True)}
    base = replace(manager._plans.request(known), speeds=speeds)
    corrected = replace(base, speeds=calibrate(base, manager.plan(known), measured[known]))

    def predicted(video: VideoShape) -> float:
        return step_seconds(replace(corrected, video=video), manager.plan(video))

    return {video.frames: (predicted(video), measured[video]) for video in others}
