"""Weights and inputs of the parity data, drawn by rule: a tensor is a pure function of its name, shape and the seed."""

import json
import zlib
from math import prod, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

GOLDEN = Path(__file__).parent
PARITY: dict[str, Any] = json.loads((GOLDEN / "parity.json").read_text())
SEED: int = PARITY["seed"]


def normal(name: str, shape: tuple[int, ...]) -> Tensor:
    """Standard normal float32, from numpy's frozen RandomState stream."""
    stream = np.random.RandomState(zlib.crc32(name.encode()) ^ SEED)
    return torch.from_numpy(stream.standard_normal(shape)).float()


def weight(key: str, shape: tuple[int, ...]) -> Tensor:
    """A checkpoint tensor under its public key, float32 with bfloat16 values."""
    drawn = normal(key, tuple(shape))
    if len(shape) > 1 and "table" not in key and "embeddings" not in key:
        drawn *= 1.4 / sqrt(prod(shape[1:]))
    else:
        drawn *= 0.2
        if "norm" in key and key.endswith("weight"):
            drawn += 1
    return drawn.bfloat16().float()


def fill(module: nn.Module, keys: dict[str, list[int]]) -> nn.Module:
    """`module`, whose keys and shapes must be exactly `keys`, with its weights by rule."""
    module.load_state_dict({key: weight(key, tuple(shape)) for key, shape in keys.items()}, strict=True)
    return module.eval()


def golden(name: str) -> dict[str, Tensor]:
    """The recorded outputs in <name>.safetensors."""
    return load_file(GOLDEN / f"{name}.safetensors")


def relative_error(value: Tensor, reference: Tensor) -> float:
    """Norm of the difference over the norm of the reference, in float64."""
    assert value.shape == reference.shape, (value.shape, reference.shape)
    reference = reference.double()
    return float((value.double() - reference).norm() / reference.norm())
