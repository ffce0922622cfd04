"""nano's Turbo: a transformer alone beside nano's other parts, from training folder to video in single passes."""

import argparse
import dataclasses
from pathlib import Path

import pytest
import torch

from models.checkpoint import load_transformer
from models.transformer import Block, Hidden
from models.vae import VAE, VAEParams
from studio.commands.cli import main
from studio.config import ROOT, load_models, load_studio
from studio.media import read_video
from studio.nano import __main__ as nano
from studio.nano import train_vae
from studio.nano.checkpoint import write_checkpoint
from studio.nano.model import text_alone
from studio.nano.train_denoiser import new_denoiser
from studio.nano.train_turbo import DEFAULT_MOTION
from studio.pipeline.engine import EngineOptions, is_installed
from studio.pipeline.estimate import Estimator
from studio.settings import GenerationSettings
from tests.tiny import TINY

MODEL = load_models()["nano-turbo"]
SHIPPED = ROOT / "assets" / "nano" / "turbo"
SPEEDS = dict.fromkeys(("tflops", "link_gbps", "disk_gbps"))


@pytest.fixture
def shared_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program whose assets/nano holds a tiny nano, and no Turbo yet."""
    monkeypatch.setattr("studio.config.ROOT", tmp_path)
    return write_checkpoint(tmp_path / "assets/nano/ti2v", TINY, 1, use_additional_conditions=True).parent


@pytest.fixture
def built_in(shared_parts: Path, outputs: Path) -> Path:
    """The same with a Turbo of random weights."""
    write_checkpoint(shared_parts / "turbo", TINY, 2, components=("transformer",))
    return shared_parts


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[Block]:
    """Every run of a transformer block from here on, once for each condition that it computes."""
    ran, forward = [], Block.forward

    def counted(block: Block, *hiddens: Hidden, **named: object) -> None:
        ran.extend([block] * len(hiddens))
        forward(block, *hiddens, **named)

    monkeypatch.setattr(Block, "forward", counted)
    return ran


def generate(folder: Path, *words: object) -> Path:
    made = folder / "made.mp4"
    machine = ["--output-dir", folder / "outputs", "--device", "cpu", "--ram", 4, "--output", made]
    wanted = ["--model", "nano-turbo", "--prompt", "a red circle", *words]
    assert main([str(word) for word in ("generate", *machine, *wanted)]) == 0
    return made


def test_without_its_transformer_it_is_not_installed(shared_parts: Path, tmp_path: Path) -> None:
    assert not is_installed(MODEL, tmp_path)
    write_checkpoint(shared_parts / "turbo", TINY, 2, components=("transformer",))
    assert is_installed(MODEL, tmp_path)
    assert [path.name for path in (shared_parts / "turbo").iterdir()] == ["transformer"]


def test_its_defaults_are_one_pass_per_step(built_in: Path, tmp_path: Path, passes: list[Block]) -> None:
    assert read_video(generate(tmp_path)).shape == (17, 128, 224, 3)
    assert len(passes) == 10 * TINY.layers, "10 steps, and no unconditional half"


def test_guidance_is_a_second_pass(built_in: Path, tmp_path: Path, passes: list[Block]) -> None:
    generate(tmp_path, "--cfg-scale", 2, "--infer-steps", 3)
    assert len(passes) == 3 * TINY.layers * 2


def test_the_plan_knows_that_a_step_is_one_pass(built_in: Path, tmp_path: Path) -> None:
    estimator = Estimator(load_studio(output_dir=str(tmp_path), ram_gb=4), EngineOptions("cpu"))

    def seconds(cfg_scale: float) -> float:
        asked = GenerationSettings("nano-turbo", "x", cfg_scale=cfg_scale, height=512, width=512).resolve(MODEL)
        return estimator.for_command(asked, MODEL, SPEEDS).plan.seconds_per_step

    assert seconds(1.0) < 0.7 * seconds(4.0)


def test_export_writes_the_students_transformer_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training folder with all stages; the state files hold what their stages write and export reads."""
    small_vae = TINY.vae_config()
    monkeypatch.setattr(nano, "SIZES", TINY)
    monkeypatch.setattr(train_vae, "VAE_CONFIG", small_vae)
    vae = VAE(VAEParams.from_config(small_vae)).state_dict()
    torch.save({"average": vae, "module": {}}, tmp_path / "vae.pt")
    teacher, student = (new_denoiser(TINY, tmp_path / "tokenizers", "cpu", seed) for seed in (3, 4))
    torch.save({"average": teacher.state_dict()}, tmp_path / "denoiser.pt")
    options = argparse.Namespace(folder=tmp_path, to=tmp_path / "made")
    nano.export(options)
    assert sorted(path.name for path in options.to.iterdir()) == ["ti2v"], "no Turbo was trained"
    torch.save({"average": student.state_dict()}, tmp_path / "turbo.pt")
    nano.export(options)
    assert [path.name for path in (options.to / "turbo").iterdir()] == ["transformer"]
    with nano.nano_folder(argparse.Namespace(folder=tmp_path, checkpoint=None, device="cpu")) as asked:
        assert asked.has("nano") and asked.has("nano-turbo"), "the judge can be asked about a training folder"
    wanted = text_alone(student.transformer, DEFAULT_MOTION).state_dict()
    found = load_transformer(options.to / "turbo", torch.bfloat16).state_dict()
    assert all(torch.equal(found[name], value.bfloat16()) for name, value in wanted.items()) and len(found) > 10


@pytest.mark.skipif(not SHIPPED.is_dir(), reason="no Turbo is shipped yet: python -m studio.nano train --stage turbo")
def test_the_shipped_one_is_a_transformer_that_fits_nanos_parts() -> None:
    assert [path.name for path in SHIPPED.iterdir()] == ["transformer"]
    params = load_transformer(SHIPPED, torch.bfloat16).params
    assert not params.takes_image and not params.takes_motion_score
    both = load_transformer(SHIPPED.parent / "ti2v", torch.bfloat16).params
    assert params == dataclasses.replace(both, takes_image=False, takes_motion_score=False)
