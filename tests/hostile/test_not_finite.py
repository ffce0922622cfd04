"""Weights that are not finite end a job in the phase that meets them: no video, no exit code 0, nothing cached."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from studio.commands.cli import main
from studio.config import load_camera_moves, load_models, load_studio
from studio.errors import StudioError
from studio.pipeline.engine import CACHE_FOLDER, EngineOptions, open_engine
from studio.pipeline.generate import generate
from studio.pipeline.run import Request
from studio.settings import GenerationSettings
from tests.hostile.harms import WEIGHTS, tensors
from tests.hostile.probes import MODEL

NAN, INF = float("nan"), float("inf")
WHERE = (  # component, a tensor, its value, the code and the phase of the sentence
    ("step_llm", "word_embeddings.weight", NAN, "values_not_finite", "encode_text"),
    ("clip", "word_embeddings.weight", INF, "values_not_finite", "encode_text"),
    ("transformer", "proj_out.bias", INF, "latents_not_finite", "denoise"),
    ("vae", r"decoder\.conv_out\..*bias", INF, "values_not_finite", "decode"),
)


@pytest.fixture
def spoiled(model_dir: Path, tmp_path: Path) -> Callable[[str, str, float], Path]:
    """A model folder in which one tensor holds a value that is no number."""

    def make(component: str, ending: str, value: float) -> Path:
        def edit(found: dict[str, torch.Tensor]) -> None:
            name = next(name for name in found if re.search(ending, name))
            found[name] = torch.full_like(found[name], value)

        shutil.rmtree(tmp_path / "models", ignore_errors=True)
        folder = Path(shutil.copytree(model_dir / MODEL, tmp_path / "models" / MODEL))
        tensors(WEIGHTS[component], edit)(folder)
        return tmp_path / "models"

    return make


@pytest.mark.parametrize(("component", "tensor", "value", "code", "phase"), WHERE)
def test_the_job_fails_in_its_phase_and_leaves_nothing(
    spoiled, outputs: Path, tmp_path: Path, component: str, tensor: str, value: float, code: str, phase: str
) -> None:
    model = load_models()[MODEL]
    small = {"num_frames": 1, "height": 64, "width": 64, "infer_steps": 2, "seed": 1}
    settings = GenerationSettings(MODEL, "a red ball", **small).resolve(model)
    config = load_studio(model_dir=spoiled(component, tensor, value), output_dir=outputs, ram_gb=4)
    engine = open_engine(model, False, load_camera_moves(), config, EngineOptions("cpu"))
    stem, work = tmp_path / "out" / "clip", tmp_path / "work"
    with pytest.raises(StudioError) as caught:
        generate(Request(settings, stem, work), engine, lambda event: None, lambda: False)
    assert (caught.value.code, caught.value.values["phase"]) == (code, phase)
    cached = {path.parent.name for path in (outputs / CACHE_FOLDER).rglob("*.safetensors")}
    assert not cached & {"encode_text": {"embeddings", "colours"}, "encode_image": {"colours"}}.get(phase, set())
    assert phase == "decode" or not (work / "latents.safetensors").exists()
    assert not list(stem.parent.glob("*"))


def test_the_command_line_fails(spoiled, outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    machine = ["--model-dir", str(spoiled("transformer", "proj_out.bias", float("nan"))), "--output-dir", str(outputs)]
    words = ["--model", MODEL, "--prompt", "x", "--num-frames", "1", "--height", "64", "--width", "64", "--seed", "1"]
    code = main(["generate", *machine, "--device", "cpu", "--ram", "4", *words, "--infer-steps", "2"])
    said = capsys.readouterr()
    assert code == 1 and "after step 1 of 2" in said.err and not list(outputs.glob("*.png"))
