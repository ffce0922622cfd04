"""The Triton kernels: under Triton's interpreter, and compiled for cards that are not here."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from models.kernels import aligned, served

ROOT = Path(__file__).resolve().parents[2]
# A Python that has Triton and PyTorch, for machines where this one has no Triton.
PYTHON = os.environ.get("TRITON_PYTHON") or (sys.executable if find_spec("triton") else None)
needs_triton = pytest.mark.skipif(PYTHON is None, reason="Triton is not installed, and TRITON_PYTHON names no Python")


def proofs(mode: str) -> dict[str, Any]:
    command = [str(PYTHON), "-m", "tests.models.triton_proofs", mode]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@needs_triton
@pytest.mark.slow
def test_kernels_are_their_plain_twins_and_move_what_they_declare():
    told = proofs("interpret")
    assert len(told) == 8
    for name, found in told.items():
        assert 0 < found["error"] <= 3e-7, (name, found)  # float32 against float64
        assert found["counted"] == found["declared"] > 0, (name, found)


@needs_triton
@pytest.mark.slow
def test_kernels_compile_for_every_card_with_loads_of_16_bytes():
    """As the program launches them at full size; no register is spilled to memory."""
    told = proofs("compile")
    assert {name.split()[-1] for name in told} == {"sm_80", "sm_89", "sm_90"} and len(told) == 15
    once = {"moments": {"ld 2", "st 4"}, "joined moments": {"st 4"}}  # per part of an image, or per group
    for name, found in told.items():
        narrow = once.get(name.rpartition(" ")[0], {"st 16"})
        assert set(found["widths"]) == {"ld 16"} | narrow and not found["spills"] and found["cubin"], (name, found)


def test_only_tensors_for_wide_loads_are_served():
    rows = torch.empty(2, 40, 96, dtype=torch.bfloat16)
    assert aligned(rows) and aligned(rows[:, 3:9]) and aligned(torch.empty(1, 1, 7, 16)[:, :, 2:3])
    assert not aligned(rows[:, :, 1:]) and not aligned(rows[..., ::2]) and not aligned(torch.empty(2, 40, 24))
    with torch.no_grad():
        assert not served(rows)  # on a CPU
