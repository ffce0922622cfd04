"""Memory that this machine has free and that this process uses, in bytes.

RAM: anonymous + shared memory (registered memory is one of these); file pages do not count, since the kernel can take
them back. The one copy of weights of processes that share a video counts whole in each. VRAM: what the driver charges
the process, the segments of PyTorch's allocator and the CUDA context.
"""

import ctypes
import gc
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import torch

from studio.host_memory import free_ram
from studio.memory.plan import Budgets
from studio.units import GB

if TYPE_CHECKING:
    from studio.config import StudioConfig  # imports omegaconf, which a GPU machine for tests may lack

# VRAM of a CUDA context with PyTorch's kernels, beside the allocator. On an H200 with CUDA 13.0: 692 MiB after one
# operator of each kind, 768 after steps; 870 with 54 GB of RAM registered, which CAP_SLACK_BYTES covers
# (tests/bench/results/first_gpu.jsonl, stream.jsonl). An assumption elsewhere: inside containers the driver cannot
# report one process's share.
CUDA_CONTEXT_BYTES = 768 << 20
# VRAM of the budget that plans leave free. PyTorch compares an allocation's whole size with the cap, though the free
# end of a segment would serve a part of it; at the cap it synchronises and gives segments back: slow, though not wrong.
CAP_SLACK_BYTES = 3 * GB // 10
M_MMAP_THRESHOLD = -3  # malloc.h
HEAP_BLOCK_BYTES = 2 << 20
SELF = Path("/proc/self")


def budgets_for(device: torch.device, config: "StudioConfig") -> Budgets:
    """The budgets in the config; where it has none, the memory that is free now minus the config's reserve."""
    vram = _bytes(config.vram_gb, free_vram(device) - config.vram_reserve_gb * GB)
    ram = _bytes(config.ram_gb, free_ram() + process_ram() - config.ram_reserve_gb * GB)
    return Budgets(vram_bytes=vram, ram_bytes=ram)


def free_vram(device: torch.device) -> int:
    """VRAM that this process can have, its own share included; 0 on a CPU."""
    if device.type != "cuda":
        return 0
    free, total = torch.cuda.mem_get_info(device)
    return min(total, free + process_vram(device))


def process_vram(device: torch.device) -> int:
    """VRAM of this process: segments of PyTorch's allocator plus the context; 0 on a CPU."""
    if device.type != "cuda":
        return 0
    return torch.cuda.memory_reserved(device) + CUDA_CONTEXT_BYTES


def peak_vram(device: torch.device) -> int:
    """The highest process_vram since reset_peaks."""
    if device.type != "cuda":
        return 0
    return torch.cuda.max_memory_reserved(device) + CUDA_CONTEXT_BYTES


def cap_vram(device: torch.device, vram_bytes: int) -> None:
    """Make PyTorch's allocator refuse memory beyond the budget; the refusal makes the plan step down."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        share = (vram_bytes - CUDA_CONTEXT_BYTES) / total
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.set_per_process_memory_fraction(min(max(share, 0.0), 1.0), index)


def has_cuda_context() -> bool:
    """Whether this process holds memory of a GPU that only its end releases."""
    return torch.cuda.is_initialized()


def alloc_retries(device: torch.device) -> int:
    """How often PyTorch's allocator gave segments back to find memory, since the start of the process; 0 on a CPU."""
    return int(torch.cuda.memory_stats(device).get("num_alloc_retries", 0)) if device.type == "cuda" else 0


def limit_heap_gaps() -> None:
    """Make malloc map blocks of HEAP_BLOCK_BYTES or more separately, so that the system gets them back when freed.

    glibc by itself raises that threshold up to 32 MiB; gaps in the heap then take a third of the RAM of a decode.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if set_option is not None:
        set_option(M_MMAP_THRESHOLD, HEAP_BLOCK_BYTES)


def process_ram() -> int:
    """RAM of this process: anonymous + shared memory."""
    table = _status()
    return table["RssAnon"] + table["RssShmem"]


def peak_ram() -> int:
    """The highest process_ram since reset_peaks; exact as far as the process's file pages stayed the same."""
    table = _status()
    return max(table["VmHWM"] - table["RssFile"], table["RssAnon"] + table["RssShmem"])


def reset_peaks(device: torch.device) -> None:
    """Restart the measurement of peaks."""
    with suppress(OSError):  # forbidden in some containers: peaks are then since the start of the process
        (SELF / "clear_refs").write_text("5")  # proc(5): resets VmHWM
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def release_cached_memory(device: torch.device) -> None:
    """Release what is cached for later use: Python's reference cycles, PyTorch's segments, malloc's free pages."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None  # only in glibc
    if trim is not None:
        trim(0)


def _bytes(budget_gb: float | None, free: float) -> int:
    return max(int(free if budget_gb is None else budget_gb * GB), 0)


def _status() -> dict[str, int]:
    """Bytes by name, from the lines `Name:  123 kB` of /proc/self/status; without that file all RAM is anonymous."""
    try:
        lines = (SELF / "status").read_text().splitlines()
    except OSError:
        rss = psutil.Process().memory_info().rss
        return {"RssAnon": rss, "RssShmem": 0, "RssFile": 0, "VmHWM": rss}
    table = {}
    for line in lines:
        name, _, rest = line.partition(":")
        if rest.endswith(" kB"):
            table[name] = int(rest.removesuffix(" kB")) * 1024
    return table
