"""What GPU benches measure with: device events, names of kernels, clocks, memory beside the allocator.

On a CPU the same functions work with the clock, so that a bench can be rehearsed.
"""

import hashlib
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from studio.memory import usage
from studio.units import GB

ROOT = Path(__file__).resolve().parents[2]
CLOCKS = "clocks.sm,clocks.mem,power.draw,temperature.gpu,driver_version"


def seconds_of(device: torch.device, work: Callable[[], object], times: int = 1) -> float:
    """Seconds of `work`, repeated back to back: on a GPU between two events of its stream, so that what the host or
    another stream does meanwhile counts only where the stream waits for it."""
    if device.type != "cuda":
        began = time.perf_counter()
        for _ in range(times):
            work()
        return (time.perf_counter() - began) / times
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(times):
        work()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3 / times  # it says milliseconds


def best_of(device: torch.device, work: Callable[[], object], repeats: int = 5, times: int = 1) -> float:
    """The least `seconds_of` of some repeats, after one to warm up."""
    work()
    return min(seconds_of(device, work, times) for _ in range(repeats))


def kernels(device: torch.device, work: Callable[[], object], count: int = 1) -> list[tuple[str, float]]:
    """The `count` longest kernels of `work` and their seconds; on a CPU its operators."""
    on_gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as profiler:
        work()
        if on_gpu:
            torch.cuda.synchronize()
    name = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    rows = sorted(profiler.key_averages(), key=lambda row: -getattr(row, name))
    return [(row.key[:120], round(getattr(row, name) / 1e6, 6)) for row in rows[:count]]


def outside_bytes(device: torch.device) -> int:
    """What of the device is in use beside this process's allocator; nothing else may run on it. 0 on a CPU."""
    if device.type != "cuda":
        return 0
    free, total = torch.cuda.mem_get_info(device)
    return total - free - torch.cuda.memory_reserved(device)


def device_peaks(device: torch.device) -> dict[str, Any]:
    """Peaks since the last reset: RAM, what the allocator reserved, what lies beside it; retries of the allocator and
    out-of-memory errors since the process began."""
    row: dict[str, Any] = {"ram_gb": round(usage.peak_ram() / GB, 2), "peak_vram_gb": 0.0}
    if device.type == "cuda":
        stats = torch.cuda.memory_stats(device)
        row["peak_vram_gb"] = round(torch.cuda.max_memory_reserved(device) / GB, 2)
        row["outside_gb"] = round(outside_bytes(device) / GB, 2)
        row["alloc_retries"], row["ooms"] = stats["num_alloc_retries"], stats["num_ooms"]
    return row


def ever_reserved(device: torch.device) -> int:
    """Bytes that PyTorch's allocator ever took from the driver; constant where steps need no new segment."""
    return torch.cuda.memory_stats(device)["reserved_bytes.all.allocated"] if device.type == "cuda" else 0


def clocks(device: torch.device) -> str:
    """What the driver's program says now: MHz of processors and memory, watts, degrees, version; "" without it."""
    if device.type != "cuda":
        return ""
    command = ["nvidia-smi", f"--query-gpu={CLOCKS}", "--format=csv,noheader", "-i", "0"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def run_child(command: Sequence[str], seconds: float) -> tuple[list[dict[str, Any]], str]:
    """The JSON lines that a process printed, which is ended when the time is up; and why it failed, "" where it did
    not."""
    failed = ""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        try:
            code = subprocess.run(command, stdout=out, stderr=errors, timeout=seconds, cwd=ROOT).returncode
            errors.seek(0)
            said = errors.read().strip().splitlines()[-1:] or [f"exit code {code}"]
            failed = said[0][:300] if code else ""
        except subprocess.TimeoutExpired:
            failed = "the time was up"
        out.seek(0)
        return [json.loads(line) for line in out if line.startswith("{")], failed


def bits_of(tensors: list[Tensor]) -> str:
    """The first digits of a hash of their numbers: equal where every bit is."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
