"""Which dtype a CPU computes fastest in: by its instruction sets and a measurement."""

import os
import subprocess
import sys

import pytest
import torch

from models.cpu import convolution_seconds, cpu_flags, fast_cpu_dtype, faster_dtype

X86 = "processor\t: 0\nflags\t\t: fpu avx2 {}\nbugs\t\t:\n\nprocessor\t: 1\nflags\t\t: fpu avx2\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd {}\n"


def measured(bfloat16: float):
    return {torch.float32: 1.0, torch.bfloat16: bfloat16}.__getitem__


def unmeasured(dtype: torch.dtype) -> float:
    raise AssertionError("nothing is measured on a CPU without the instructions")


def test_bfloat16_needs_an_instruction_and_a_measurement(tmp_path):
    file = tmp_path / "cpuinfo"
    for text, flag in ((X86, "avx512_bf16"), (X86, "amx_bf16"), (ARM, "bf16")):
        file.write_text(text.format(flag))
        assert faster_dtype(cpu_flags(file), measured(0.5)) == torch.bfloat16, flag
        assert faster_dtype(cpu_flags(file), measured(10.0)) == torch.float32, flag
        file.write_text(text.format(""))
        assert faster_dtype(cpu_flags(file), unmeasured) == torch.float32, flag


def test_without_a_list_of_instructions_the_measurement_decides(tmp_path):
    file = tmp_path / "cpuinfo"
    assert cpu_flags(file) is None
    file.write_text("processor : 0\n")
    assert cpu_flags(file) is None
    assert faster_dtype(None, measured(0.5)) == torch.bfloat16
    assert faster_dtype(None, measured(2.0)) == torch.float32


def test_this_machine_has_one_answer():
    assert convolution_seconds(torch.float32) > 0
    assert fast_cpu_dtype() is fast_cpu_dtype() is not None


@pytest.mark.skipif(not (cpu_flags() or frozenset()) & {"avx2"}, reason="needs an x86 CPU with AVX2")
def test_a_cpu_that_is_held_to_avx2_computes_in_float32():
    """oneDNN without AVX-512 emulates bfloat16, whatever the CPU's flags say: the measurement sees it."""
    code = "from models.cpu import fast_cpu_dtype; print(fast_cpu_dtype())"
    told = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert told.stdout.strip() == "torch.float32"
