"""One video on two ranks, which are real processes: the latents of one, and one end for all."""

import dataclasses
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from studio.config import StudioConfig, load_camera_moves, load_studio
from studio.errors import Cancelled, InputError, RankLost, StudioError
from studio.events import Progress
from studio.media import read_metadata
from studio.pipeline.engine import EngineOptions
from studio.pipeline.generate import generate
from studio.pipeline.latents_file import read_latents
from studio.pipeline.rank_process import Opening
from studio.pipeline.ranks import Ranks
from studio.pipeline.run import Engine, Request
from tests.pipeline.test_generate import final_latents, make_request

LONG = {"infer_steps": 8, "height": 64, "width": 64}


@pytest.fixture
def config(model_dir: Path, outputs: Path) -> StudioConfig:
    return load_studio(model_dir=str(model_dir), output_dir=str(outputs), ram_gb=4)


@contextmanager
def two_ranks(engine: Engine, config: StudioConfig, offload: str = "auto") -> Iterator[Engine]:
    """The engine with a second rank on the CPU, which opens the model under `config`."""
    options = EngineOptions("cpu", offload=offload)
    opening = Opening(
        engine.model, engine.model.takes_image, load_camera_moves(), config, options, ("cpu", "cpu"), threads=1
    )
    ranks = Ranks(opening)
    try:
        yield dataclasses.replace(engine, ranks=ranks.start())
    finally:
        ranks.close()


def latents_of(request: Request, engine: Engine) -> torch.Tensor:
    generate(request, engine, lambda event: None, lambda: False)
    return final_latents(request)


def run_until(request: Request, engine: Engine, step: int, act: Callable[[], bool]) -> None:
    """Make the video; once `step` steps are done, `act()` says between two blocks whether it is cancelled."""
    done = [0]

    def emit(event: object) -> None:
        if isinstance(event, Progress) and event.phase == "denoise":
            done[0] = event.step

    calls = [0]

    def cancelled() -> bool:
        calls[0] += done[0] >= step
        return calls[0] > 1 and act()  # the first call lies before the first block of the next step

    generate(request, engine, emit, cancelled)


def test_two_ranks_make_the_latents_of_one_and_stop_together(
    open_tiny: Callable[..., Engine], config: StudioConfig, tmp_path: Path
) -> None:
    engine = open_tiny("step-video-t2v")
    requests = {
        schedule: make_request(engine, tmp_path, f"one-{schedule}", guidance_schedule=schedule, **LONG)
        for schedule in ("constant", "falling")
    }
    alone = {schedule: latents_of(request, engine) for schedule, request in requests.items()}
    assert not torch.equal(*alone.values())
    with two_ranks(engine, config) as both:
        for schedule in requests:  # two videos of one group; the falling one's last steps have a single pass
            request = make_request(engine, tmp_path, f"two-{schedule}", guidance_schedule=schedule, **LONG)
            assert torch.equal(latents_of(request, both), alone[schedule]), schedule
            assert read_metadata(request.stem.with_suffix(".mp4").read_bytes())["gpus"] == 2
        with pytest.raises(InputError, match="no second pass"):
            latents_of(make_request(engine, tmp_path, "unguided", cfg_scale=1.0, **LONG), both)
        stopped = make_request(engine, tmp_path, "stopped", **LONG)
        with pytest.raises(Cancelled):
            run_until(stopped, both, 3, lambda: True)
        other = both.ranks._peers[0].process
    assert other.exitcode == 0, "it ended by itself"
    assert read_latents(stopped.workdir / "latents.safetensors").state.step == 3
    assert torch.equal(latents_of(stopped, engine), alone["constant"]), "one rank goes on where two were stopped"


def test_whatever_ends_one_rank_ends_both_with_its_reason(
    open_tiny: Callable[..., Engine], config: StudioConfig, tmp_path: Path
) -> None:
    engine = open_tiny("step-video-t2v")
    alone = latents_of(make_request(engine, tmp_path, "alone", **LONG), engine)
    request = make_request(engine, tmp_path, "killed", **LONG)
    with two_ranks(engine, config) as both:
        other = both.ranks._peers[0].process

        def kill() -> bool:
            if other.is_alive():
                os.kill(other.pid, signal.SIGKILL)
            return False

        with pytest.raises(RankLost, match="signal 9"):
            run_until(request, both, 2, kill)
    assert read_latents(request.workdir / "latents.safetensors").state.step == 2
    with two_ranks(engine, config) as both:
        assert torch.equal(latents_of(request, both), alone), "new ranks go on"

    bad = {"no_plan": {"ram_gb": 0.001}, "model_missing": {"model_dir": tmp_path}}
    for code, values in bad.items():
        with two_ranks(engine, dataclasses.replace(config, **values)) as both, pytest.raises(StudioError) as caught:
            latents_of(make_request(engine, tmp_path, code, **LONG), both)
        assert caught.value.code == code


@pytest.mark.slow
def test_pictures_and_streamed_blocks_have_the_bits_of_one_rank(
    open_tiny: Callable[..., Engine], config: StudioConfig, tmp_path: Path
) -> None:
    cases: list[tuple[str, str, int]] = [
        ("step-video-ti2v", "none", 34),
        ("step-video-ti2v", "blocks", 17),
        ("step-video-t2v", "disk", 34),
    ]
    for name, offload, frames in cases:
        fields: dict[str, Any] = {"num_frames": frames, **LONG}
        engine = open_tiny(name, offload=offload)
        alone = latents_of(make_request(engine, tmp_path, f"{name}-{offload}-one", **fields), engine)
        with two_ranks(engine, config, offload) as both:
            request = make_request(engine, tmp_path, f"{name}-{offload}-two", **fields)
            assert torch.equal(latents_of(request, both), alone), (name, offload, frames)


def test_a_number_of_devices_that_cannot_share_is_refused(
    open_tiny: Callable[..., Engine], config: StudioConfig
) -> None:
    engine = open_tiny("step-video-t2v")
    for devices in (("cpu",), ("cpu",) * 3, ("cpu",) * 4):
        with pytest.raises(InputError, match=f"cannot use {len(devices)} GPUs: 2 share it"):
            Ranks(Opening(engine.model, False, engine.moves, config, EngineOptions("cpu"), devices))
