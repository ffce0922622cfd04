"""Budgets of the config, and the memory that this process really takes."""

from dataclasses import replace

import torch

from studio.config import load_studio
from studio.memory import usage as budget
from studio.memory.allocator import Allocator, BufferKind, Machine
from studio.units import GB

CPU = torch.device("cpu")


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
    buffer = Allocator(Machine(CPU)).allocate(BufferKind.PINNED, 96 << 20)
    assert budget.process_ram() - before < 8 << 20, "nothing is touched yet"
    buffer.memory.fill_(1)
    assert 90 << 20 < budget.process_ram() - before < 110 << 20
    buffer.release()
    assert budget.process_ram() - before < 16 << 20
    assert budget.peak_ram() - before > 80 << 20
    budget.reset_peaks(CPU)
    assert budget.peak_ram() - before < 48 << 20


def test_a_cpu_has_no_vram():
    assert budget.free_vram(CPU) == budget.process_vram(CPU) == budget.peak_vram(CPU) == 0
    budget.cap_vram(CPU, 0)
