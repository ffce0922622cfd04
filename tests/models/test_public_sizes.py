"""The full-size networks, on the meta device: exactly the tensors of the public checkpoints."""

import hashlib
import json
from functools import cache
from pathlib import Path

import pytest
import torch

from models.clip_config import ClipParams
from models.step_llm import StepLLM, StepLLMParams
from models.transformer import Transformer, TransformerParams
from tests.golden.rule import GOLDEN

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "checkpoint"
IMAGE_TOO = {"takes_image": True, "takes_motion_score": True}
NETWORKS = {
    "dit_t2v": (lambda: Transformer(TransformerParams()), 29_342_478_400),
    "dit_ti2v": (lambda: Transformer(TransformerParams(**IMAGE_TOO)), 29_382_205_504),
    "step_llm": (lambda: StepLLM(StepLLMParams()), 19_579_600_896),
}
# md5 of the keys and shapes. A public loader (DiffSynth-Studio 1.1.9) keeps the first, taken from the real files;
# the second is computed here and published nowhere.
HASHES = {"dit_t2v": "5c0216a2132b082c10cb7a0e0377e681", "dit_ti2v": "8584ff2d95f53f214d60b6cec25451ce"}


def _recorded(text):
    shapes = {}
    for line in text.splitlines():
        key, _, shape = line.partition("\t")
        for i in range(48 if "{48}" in key else 1):
            shapes[key.replace("{48}", str(i))] = tuple(map(int, shape.split("x")))
    return shapes


@cache
def _shapes(name):
    with torch.device("meta"):
        network = NETWORKS[name][0]()
    return {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}


def test_keys_shapes_and_count():
    for name, (_, parameters) in NETWORKS.items():
        shapes = _shapes(name)
        assert shapes == _recorded((GOLDEN / f"keys_{name}.tsv").read_text()), name
        assert sum(torch.Size(shape).numel() for shape in shapes.values()) == parameters, name


def test_hash_of_keys_and_shapes():
    found = {}
    for name in HASHES:
        words = [*_shapes(name), *(f"{key}:{'_'.join(map(str, shape))}" for key, shape in _shapes(name).items())]
        found[name] = hashlib.md5(",".join(sorted(words)).encode()).hexdigest()
    assert found == HASHES


@pytest.mark.skipif(not SHARED.exists(), reason="the collected facts about the public checkpoints are not here")
def test_the_compact_list_is_the_whole_one():
    for name in NETWORKS:
        whole = _recorded((SHARED / "keymaps" / f"{name}.tsv").read_text())
        assert _recorded((GOLDEN / f"keys_{name}.tsv").read_text()) == whole, name


@pytest.mark.skipif(not SHARED.exists(), reason="the collected facts about the public checkpoints are not here")
def test_public_configs_give_the_default_sizes():
    def config(part):
        return json.loads((SHARED / "t2v" / part / "config.json").read_text())

    assert StepLLMParams.from_config(config("step_llm")) == StepLLMParams()
    assert ClipParams.from_config(config("hunyuan_clip/clip_text_encoder")) == ClipParams()
    transformer = config("transformer")
    assert TransformerParams.from_config(transformer) == TransformerParams()
    with_image = TransformerParams.from_config(transformer | {"use_additional_conditions": True})
    assert with_image == TransformerParams(**IMAGE_TOO)
