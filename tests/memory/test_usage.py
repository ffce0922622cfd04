"""Budgets: control groups of both kinds, promises of the config, and what this process really takes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from studio.config import load_studio
from studio.memory import usage as budget
from studio.memory.allocator import Account, Kind, Machine
from studio.units import GB

CPU = torch.device("cpu")


def write_group(folder: Path, **files: int | str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f"memory.{name}").write_text(f"{content}".strip() + "\n")


def stat(inactive: int, active: int, prefix: str = "") -> str:
    return f"anon 77\n{prefix}inactive_file {inactive}\n{prefix}active_file {active}\n"


def test_the_tightest_group_on_the_way_up_counts_without_its_page_cache(tmp_path):
    own = tmp_path / "own"
    own.write_text("0::/outer/inner\n")
    root = tmp_path / "groups"
    write_group(root / "outer", max=1000, current=700, stat=stat(100, 50))
    write_group(root / "outer/inner", max="max", current=600, stat=stat(0, 0))
    assert budget.free_in_cgroups(own, root) == [1000 - (700 - 150)]


def test_version_one_groups(tmp_path):
    own = tmp_path / "own"
    own.write_text("9:cpu:/x\n4:memory:/job\n")
    write_group(
        tmp_path / "memory/job", limit_in_bytes=2000, usage_in_bytes=500, stat=stat(1, 2) + stat(30, 20, "total_")
    )
    assert budget.free_in_cgroups(own, tmp_path) == [2000 - (500 - 50)]


@pytest.mark.parametrize("text", ["", "0::/gone\n", "9:cpu:/x\n"])
def test_groups_that_cannot_be_read_limit_nothing(tmp_path, text):
    own = tmp_path / "own"
    own.write_text(text)
    assert budget.free_in_cgroups(own, tmp_path) == []
    assert budget.free_in_cgroups(tmp_path / "absent", tmp_path) == []


def test_promises_hold_and_else_what_is_free_less_the_reserve(tmp_path):
    config = load_studio(ram_gb=3.5, vram_gb=2.0)
    assert budget.budgets_for(CPU, config) == budget.Budgets(2 * GB, int(3.5 * GB))
    free = budget.budgets_for(CPU, replace(config, ram_gb=None, ram_reserve_gb=0.0)).ram_bytes
    less = budget.budgets_for(CPU, replace(config, ram_gb=None, ram_reserve_gb=1.0)).ram_bytes
    assert abs(free - less - GB) < GB // 2  # other programs come and go in between
    assert budget.process_ram() < free


def test_process_ram_and_its_peak_follow_what_is_touched():
    budget.reset_peaks(CPU)
    before = budget.process_ram()
    lease = Account(Machine(CPU)).take(Kind.ARENAS, 96 << 20)
    assert budget.process_ram() - before < 8 << 20, "nothing is touched yet"
    lease.memory.fill_(1)
    assert 90 << 20 < budget.process_ram() - before < 110 << 20
    lease.release()
    assert budget.process_ram() - before < 16 << 20
    assert budget.peak_ram() - before > 80 << 20
    budget.reset_peaks(CPU)
    assert budget.peak_ram() - before < 48 << 20


def test_a_cpu_has_no_vram():
    assert budget.free_vram(CPU) == budget.process_vram(CPU) == budget.peak_vram(CPU) == 0
    budget.cap_vram(CPU, 0)
