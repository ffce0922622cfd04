"""--quantize end to end: int8 weights, and products in int8, as a user asks for them."""

import json
import shutil
from itertools import combinations
from pathlib import Path

import pytest
import torch

from models.quantized import int8_compute_available
from studio.commands.cli import main
from studio.config import load_models, load_studio
from studio.errors import InputError
from studio.memory.plan import WeightMode
from studio.messages import message
from studio.pipeline import engine as engine_module
from studio.pipeline.engine import EngineOptions, open_engine
from studio.pipeline.latents_file import read_latents, resume_point, save_latents
from studio.pipeline.rerun import provenance_of
from studio.pipeline.run import Request
from studio.pipeline.sampler import SamplerState
from studio.settings import GenerationSettings

pytestmark = pytest.mark.skipif(not int8_compute_available(), reason="computing in int8 needs bitsandbytes")
SIZE = ["--num-frames", "1", "--height", "64", "--width", "64", "--infer-steps", "2", "--seed", "5"]
MODES = tuple(WeightMode)


@pytest.fixture(scope="module")
def models(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with int8 weights."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(model_dir / "step-video-t2v", folder / "step-video-t2v")
    assert main(["quantize", "--model-dir", str(folder), "step-video-t2v"]) == 0
    return folder


def test_each_mode_makes_its_own_video_and_says_which(models, outputs, open_tiny, tmp_path, capsys):
    open_tiny("step-video-t2v")  # brings the colours of previews into the cache
    machine = ["--model-dir", str(models), "--output-dir", str(outputs), "--device", "cpu", "--ram", "4"]
    latents, told = {}, {}
    for mode in MODES:
        words = ["--model", "step-video-t2v", "--prompt", "x", *SIZE, "--keep-latents"]
        stem = tmp_path / mode
        assert main(["generate", *machine, *words, "--quantize", mode, "--output", str(stem)]) == 0
        told[mode] = capsys.readouterr().err
        latents[mode] = read_latents(tmp_path / f"{mode}.latents.safetensors").state.latents
        assert json.loads((tmp_path / f"{mode}.json").read_text())["quantize"] == mode
    for one, other in combinations(MODES, 2):
        apart = (latents[one] - latents[other]).norm() / latents["none"].norm()
        assert 0 < apart < 0.1, f"{one} and {other}"
    assert ["Computing in int8, as asked" in told[mode] for mode in MODES] == [False, False, True]
    code = main(["generate", *machine, "--from-video", str(tmp_path / "int8.json"), "--quantize", "int8-compute"])
    assert code == 0 and "Made with quantize int8, now int8-compute" in capsys.readouterr().err


def test_steps_of_one_mode_are_not_gone_on_with_in_another(models, outputs, tmp_path):
    config = load_studio(model_dir=str(models), output_dir=str(outputs), ram_gb=4)
    model = load_models()["step-video-t2v"]
    settings = GenerationSettings(model.name, "x", num_frames=17, height=64, width=64, seed=1).resolve(model)
    request = Request(settings, tmp_path / "a", tmp_path / "work")
    opened = {mode: open_engine(model, False, {}, config, EngineOptions("cpu", weights=mode)) for mode in MODES}
    provenance = {mode: provenance_of(engine, None) for mode, engine in opened.items()}
    request.workdir.mkdir()
    save_latents(
        request.workdir,
        SamplerState(torch.zeros(settings.video_shape.latent_shape(4)), 1),
        settings,
        provenance["int8"],
    )
    found = {mode: resume_point(request.workdir, settings, provenance[mode]) for mode in MODES}
    assert [found[mode] is not None for mode in MODES] == [False, True, False]
    prompts = [opened[mode].text_fingerprint for mode in MODES]
    assert prompts[0] != prompts[1] == prompts[2], "the language model multiplies alike in both int8 modes"


def test_without_bitsandbytes_it_is_refused_in_both_languages(models, outputs, open_tiny, capsys, monkeypatch):
    open_tiny("step-video-t2v")
    monkeypatch.setattr(engine_module, "int8_compute_available", lambda: False)
    machine = ["--model-dir", str(models), "--output-dir", str(outputs), "--device", "cpu"]
    words = ["--model", "step-video-t2v", "--prompt", "x", *SIZE]
    assert main(["generate", *machine, *words, "--quantize", "int8-compute"]) == 2
    assert "pip install bitsandbytes" in capsys.readouterr().err
    assert main(["generate", *machine, *words, "--quantize", "int8"]) == 0
    with pytest.raises(InputError) as refused:
        engine_module.check_weights(EngineOptions(weights=WeightMode.INT8_COMPUTE))
    assert "bitsandbytes" in message(refused.value.code, refused.value.values, "zh")


def test_plan_states_the_speed_it_computes_in_int8_with(tmp_path, capsys):
    words = ["plan", "--model", "step-video-t2v", "--model-dir", str(tmp_path), "--output-dir", str(tmp_path), "--json"]
    plans = {}
    for mode in MODES:
        assert main([*words, "--vram", "24", "--ram", "64", "--quantize", mode]) == 0
        plans[mode] = json.loads(capsys.readouterr().out)
    assert "int8_tflops" not in plans["int8"]["assumptions"] and "int8_tflops" in plans["int8-compute"]["assumptions"]
    assert plans["none"]["resident_blocks"] < plans["int8"]["resident_blocks"]
    assert abs(plans["int8"]["resident_blocks"] - plans["int8-compute"]["resident_blocks"]) <= 2
