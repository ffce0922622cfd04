"""Host memory (RAM) of this machine and of the control groups this process runs in. Bytes; imports no torch.

Page cache does not count as used: the kernel takes it back when a process needs the memory.
"""

from dataclasses import dataclass
from pathlib import Path

import psutil

OWN_GROUPS = Path("/proc/self/cgroup")
GROUPS_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class GroupMemory:
    """A control group with a memory limit: the limit, and what its processes use of it."""

    limit_bytes: int
    used_bytes: int

    @property
    def free_bytes(self) -> int:
        """What is left; below 0 where the limit was lowered later."""
        return self.limit_bytes - self.used_bytes


def free_ram() -> int:
    """What this process can still allocate: as the kernel says, or less where a control group has less left."""
    return max(min([psutil.virtual_memory().available, *(group.free_bytes for group in control_groups())]), 0)


def ram_in_use() -> tuple[int, int]:
    """(used, total) of the control group with least left, or of the machine where no group has less left."""
    machine = psutil.virtual_memory()
    whole = GroupMemory(machine.total, machine.total - machine.available)
    tightest = min([whole, *control_groups()], key=lambda memory: memory.free_bytes)
    return tightest.used_bytes, tightest.limit_bytes


def control_groups(own: Path = OWN_GROUPS, root: Path = GROUPS_ROOT) -> list[GroupMemory]:
    """Every control group with a memory limit that this process is in, its parents included (cgroup v1 and v2).

    own: the kernel's list of this process's groups. root: where their files are mounted. What cannot be read limits
    nothing.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        names = ("limit_in_bytes", "usage_in_bytes") if controllers else ("max", "current")
        # The path may be the host's while a container sees its own group as the root: every folder that exists counts.
        parts = Path(path).parts
        found += [_read_group((root / controllers).joinpath(*parts[1 : n + 1]), *names) for n in range(len(parts))]
    return [group for group in found if group is not None]


def _read_group(folder: Path, limit_name: str, used_name: str) -> GroupMemory | None:
    try:
        limit = (folder / f"memory.{limit_name}").read_text().strip()
        used = int((folder / f"memory.{used_name}").read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        prefix = "total_" if "total_inactive_file" in stat else ""
        cache = sum(int(stat.get(f"{prefix}{name}_file", 0)) for name in ("inactive", "active"))
        return None if limit == "max" else GroupMemory(int(limit), used - cache)
    except (OSError, ValueError):
        return None
