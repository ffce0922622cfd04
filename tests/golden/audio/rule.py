"""Weights and inputs of the audio parity data, drawn by rule as those of the video (tests.golden.rule), other seed."""

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
TOKENS: dict[str, Any] = json.loads((GOLDEN / "tokens.json").read_text())
SEED: int = PARITY["seed"]


def normal(name: str, shape: tuple[int, ...], seed: int = SEED) -> Tensor:
    """Standard normal float32, from numpy's frozen RandomState stream."""
    stream = np.random.RandomState(zlib.crc32(name.encode()) ^ seed)
    return torch.from_numpy(stream.standard_normal(shape)).float()


def weight(key: str, shape: tuple[int, ...], seed: int = SEED) -> Tensor:
    """A checkpoint tensor under its public key, float32 with bfloat16 values; HiFT's gains are scaled as recorded."""
    drawn = normal(key, tuple(shape), seed)
    if len(shape) > 1:
        drawn *= 1.4 / sqrt(prod(shape[1:]))
    else:
        drawn *= 0.2
        if "norm" in key and key.endswith("weight"):
            drawn += 1
    drawn = drawn.bfloat16().float()
    return drawn * PARITY["hift"]["weight_g_scale"] if key.endswith("weight_g") else drawn


def fill(module: nn.Module, keys: dict[str, list[int]], seed: int = SEED) -> nn.Module:
    """`module`, whose keys and shapes must be exactly `keys`, with its weights by rule."""
    module.load_state_dict({key: weight(key, tuple(shape), seed) for key, shape in keys.items()}, strict=True)
    return module.eval().requires_grad_(False)


def golden(name: str) -> dict[str, Tensor]:
    """The recorded outputs in <name>.safetensors."""
    return load_file(GOLDEN / f"{name}.safetensors")
