"""The dtype that this CPU computes fastest in.

With AVX512_BF16 or AMX, bfloat16 is several times faster than float32; with AVX2 alone oneDNN emulates it, and a 3D
convolution takes 10 to 20 times as long as in float32 (tests/bench/LOG.md). So work on a CPU cannot have one dtype for
all CPUs.
"""

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch.nn import functional as F

BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # /proc/cpuinfo: x86, x86, ARM
CHANNELS, FRAMES, SIDE = 16, 5, 16  # of the measured convolution: 0.7 ms in float32
REPEATS = 5


@cache
def fast_cpu_dtype() -> torch.dtype:
    """bfloat16 where this CPU has instructions for it and PyTorch is faster with them, else float32.

    Measured once per process, in 30 ms (0.2 s where bfloat16 is emulated); not at all where /proc/cpuinfo lists no such
    instruction.
    """
    return faster_dtype(cpu_flags(), convolution_seconds)


def faster_dtype(flags: frozenset[str] | None, seconds: Callable[[torch.dtype], float]) -> torch.dtype:
    """flags: of the CPU; None: unknown, so that the measurement decides alone. seconds: of the same work in a dtype."""
    if flags is not None and not flags & BFLOAT16_FLAGS:
        return torch.float32
    return min((torch.float32, torch.bfloat16), key=seconds)


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str] | None:
    """The instruction sets that Linux reports; None where it reports none."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return None
    flags = [line.partition(":")[2].split() for line in lines if line.lower().startswith(("flags", "features"))]
    return frozenset(flags[0]) if flags else None


@torch.no_grad()
def convolution_seconds(dtype: torch.dtype) -> float:
    """Processor seconds of a small 3D convolution on one thread: the best of a few, after one that prepares the kernel.

    One thread, since threads that wait for each other on a busy machine would be measured instead of the arithmetic.
    """
    video = torch.zeros(1, CHANNELS, FRAMES, SIDE, SIDE, dtype=dtype)
    weight = torch.zeros(CHANNELS, CHANNELS, 3, 3, 3, dtype=dtype)
    threads, taken = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        for _ in range(1 + REPEATS):
            began = time.thread_time()
            F.conv3d(video, weight, padding=1)
            taken.append(time.thread_time() - began)
    finally:
        torch.set_num_threads(threads)
    return min(taken[1:])
