"""What this machine has free and what this process uses, in bytes.

RAM counts as anonymous + shared memory (registered memory is anonymous too); pages of files are the kernel's to take
back and count apart. VRAM is what the driver charges the process: the allocator's segments and the CUDA context.
"""

import ctypes
import gc
import os
from pathlib import Path

import torch

from studio.config import StudioConfig
from studio.memory.plan import GB, Budgets

# What a CUDA context with PyTorch's kernels takes beside the allocator. An assumption on the high side: the driver
# offers no way to ask for one process's share that works inside containers.
CUDA_CONTEXT_BYTES = 640 << 20
SELF = Path("/proc/self")
CGROUPS = Path("/sys/fs/cgroup")


def budgets_for(device: torch.device, config: StudioConfig) -> Budgets:
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
        torch.cuda.set_per_process_memory_fraction(min(max(share, 0.0), 1.0), device)


def free_ram() -> int:
    """What the kernel, or this process's control group if that is tighter, would still give."""
    try:
        machine = _table(Path("/proc/meminfo"))["MemAvailable"]
    except OSError:  # no Linux
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return max(min([machine, *_free_in_cgroups()]), 0)


def process_ram() -> int:
    """Anonymous + shared memory of this process now."""
    try:
        table = _table(SELF / "status")
    except OSError:
        return 0
    return table["RssAnon"] + table["RssShmem"]


def peak_ram() -> int:
    """The most process_ram has been since reset_peaks, to within what file pages came and went meanwhile."""
    try:
        table = _table(SELF / "status")
    except OSError:
        return 0
    return max(table["VmHWM"] - table["RssFile"], table["RssAnon"] + table["RssShmem"])


def reset_peaks(device: torch.device) -> None:
    """Begin to measure peaks anew."""
    try:
        (SELF / "clear_refs").write_text("5")  # proc(5): resets VmHWM
    except OSError:
        pass
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


def _table(path: Path) -> dict[str, int]:
    """A /proc file of lines `Name:  123 kB` as bytes by name."""
    table = {}
    for line in path.read_text().splitlines():
        name, _, rest = line.partition(":")
        number, _, unit = rest.strip().partition(" ")
        if unit == "kB":
            table[name] = int(number) * 1024
    return table


def _free_in_cgroups() -> list[int]:
    """Limit less use, page cache not counted as use, of every control group this process is in (v1 and v2)."""
    try:
        lines = (SELF / "cgroup").read_text().splitlines()
    except OSError:
        return []
    free = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            root = CGROUPS / controllers
            limit, usage = ("limit_in_bytes", "usage_in_bytes") if controllers else ("max", "current")
            group = root / path.lstrip("/")
            folders = [group, *group.parents] if group.is_relative_to(root) else [root]
            # A container sees its own group as the root, so the root is asked as well as the path.
            free += [_free_in(folder, limit, usage) for folder in folders if folder.is_relative_to(root)]
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
