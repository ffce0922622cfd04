"""What this machine has free and what this process uses, in bytes.

RAM counts as anonymous + shared memory (registered memory is anonymous too); pages of files are the kernel's to take
back and count apart. VRAM is what the driver charges the process: the allocator's segments and the CUDA context.
"""

import ctypes
import gc
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import torch

from studio.memory.plan import Budgets
from studio.units import GB

if TYPE_CHECKING:
    from studio.config import StudioConfig  # needs omegaconf, which a machine with torch alone may lack

# What a CUDA context with PyTorch's kernels takes beside the allocator. An assumption on the high side: the driver
# offers no way to ask for one process's share that works inside containers.
CUDA_CONTEXT_BYTES = 640 << 20
M_MMAP_THRESHOLD = -3  # malloc.h
HEAP_BLOCK_BYTES = 2 << 20
SELF = Path("/proc/self")


def budgets_for(device: torch.device, config: "StudioConfig") -> Budgets:
    """The promises of the config; where it makes none, what is free now less the config's reserve."""
    vram = _bytes(config.vram_gb, free_vram(device) - config.vram_reserve_gb * GB)
    ram = _bytes(config.ram_gb, free_ram() + process_ram() - config.ram_reserve_gb * GB)
    return Budgets(vram_bytes=vram, ram_bytes=ram)


def free_vram(device: torch.device) -> int:
    """What this process may have on the device, its own share included; 0 on a CPU."""
    if device.type != "cuda":
        return 0
    free, total = torch.cuda.mem_get_info(device)
    return min(total, free + process_vram(device))


def process_vram(device: torch.device) -> int:
    """Segments of PyTorch's allocator plus the context; 0 on a CPU."""
    if device.type != "cuda":
        return 0
    return torch.cuda.memory_reserved(device) + CUDA_CONTEXT_BYTES


def peak_vram(device: torch.device) -> int:
    """The most process_vram has been since reset_peaks."""
    if device.type != "cuda":
        return 0
    return torch.cuda.max_memory_reserved(device) + CUDA_CONTEXT_BYTES


def cap_vram(device: torch.device, vram_bytes: int) -> None:
    """Make PyTorch's allocator refuse what would break the promise; the refusal is what steps a plan down."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        share = (vram_bytes - CUDA_CONTEXT_BYTES) / total
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.set_per_process_memory_fraction(min(max(share, 0.0), 1.0), index)


def keep_heap_tight() -> None:
    """Make the C heap give every larger block pages of its own, which go back to the system when it is freed.

    By itself glibc raises that limit to 32 MiB as blocks come and go, and a third of a decode's RAM is gaps then.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if set_option is not None:
        set_option(M_MMAP_THRESHOLD, HEAP_BLOCK_BYTES)


def free_ram() -> int:
    """What the kernel, or this process's control group if that is tighter, would still give."""
    return max(min([psutil.virtual_memory().available, *free_in_cgroups()]), 0)


def process_ram() -> int:
    """Anonymous + shared memory of this process now."""
    table = _status()
    return table["RssAnon"] + table["RssShmem"]


def peak_ram() -> int:
    """The most process_ram has been since reset_peaks, to within what file pages came and went meanwhile."""
    table = _status()
    return max(table["VmHWM"] - table["RssFile"], table["RssAnon"] + table["RssShmem"])


def reset_peaks(device: torch.device) -> None:
    """Begin to measure peaks anew."""
    with suppress(OSError):  # a container may forbid it; peaks are then those of the process
        (SELF / "clear_refs").write_text("5")  # proc(5): resets VmHWM
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def return_memory(device: torch.device) -> None:
    """Give back what the allocators keep for later: Python's cycles, PyTorch's segments, the C heap's free pages."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None  # glibc alone has it
    if trim is not None:
        trim(0)


def _bytes(promised_gb: float | None, free: float) -> int:
    return max(int(free if promised_gb is None else promised_gb * GB), 0)


def _status() -> dict[str, int]:
    """Lines `Name:  123 kB` of /proc/self/status as bytes by name; elsewhere all memory counts as anonymous."""
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


def free_in_cgroups(own: Path = SELF / "cgroup", root: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """Limit less use, page cache not counted as use, of every limited control group the process is in (v1 and v2)."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return []
    free = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        limit, usage = ("limit_in_bytes", "usage_in_bytes") if controllers else ("max", "current")
        top = root / controllers
        # The path may be the host's while a container sees its own group as the root: whatever exists is asked.
        for parts in range(len(Path(path).parts)):
            free.append(_free_in(top.joinpath(*Path(path).parts[1 : parts + 1]), limit, usage))
    return [number for number in free if number is not None]


def _free_in(folder: Path, limit_name: str, usage_name: str) -> int | None:
    try:
        limit = (folder / f"memory.{limit_name}").read_text().strip()
        used = int((folder / f"memory.{usage_name}").read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    if limit == "max":
        return None
    prefix = "total_" if "total_inactive_file" in stat else ""
    cache = sum(int(stat.get(f"{prefix}{name}_file", 0)) for name in ("inactive", "active"))
    return int(limit) - (used - cache)
