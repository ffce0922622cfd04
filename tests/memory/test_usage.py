"""Budgets of the config, and the memory that this process really takes."""

import gc
from dataclasses import replace

import torch

from studio.config import load_studio
from studio.memory import extend_allocator_settings, usage
from studio.memory.allocator import Allocator, BufferKind, Machine
from studio.memory.plan import Budgets
from studio.units import GB

CPU = torch.device("cpu")


def test_budgets_are_those_of_the_config_and_else_what_is_free_less_the_reserve(monkeypatch):
    config = load_studio(ram_gb=3.5, vram_gb=2.0)
    assert usage.budgets_for(CPU, config) == Budgets(2 * GB, int(3.5 * GB))
    monkeypatch.setattr(usage, "free_ram", lambda: 10 * GB)
    monkeypatch.setattr(usage, "process_ram", lambda: 2 * GB)
    for reserve_gb, ram_gb in ((0.0, 12), (1.5, 10.5), (20.0, 0)):
        budgets = usage.budgets_for(CPU, replace(config, ram_gb=None, ram_reserve_gb=reserve_gb))
        assert budgets.ram_bytes == ram_gb * GB, reserve_gb


def test_process_ram_and_its_peak_follow_what_is_touched():
    usage.reset_peaks(CPU)
    before = usage.process_ram()
    buffer = Allocator(Machine(CPU)).allocate(BufferKind.PINNED, 96 << 20)
    assert usage.process_ram() - before < 8 << 20, "nothing is touched yet"
    buffer.memory.fill_(1)
    assert 90 << 20 < usage.process_ram() - before < 110 << 20
    buffer.release()
    assert usage.process_ram() - before < 16 << 20
    assert usage.peak_ram() - before > 80 << 20
    usage.reset_peaks(CPU)
    assert usage.peak_ram() - before < 48 << 20


def test_the_users_allocator_settings_are_kept_and_extended():
    ours, cuda, new = "expandable_segments:True", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"
    for given, wanted in (
        ({}, {new: ours}),
        ({cuda: "max_split_size_mb:512"}, {cuda: f"max_split_size_mb:512,{ours}"}),
        ({new: "max_split_size_mb:512,"}, {new: f"max_split_size_mb:512,{ours}"}),
        ({cuda: "a:1", new: ""}, {cuda: f"a:1,{ours}", new: ours}),
        ({cuda: "expandable_segments:False"}, {cuda: "expandable_segments:False"}),
    ):
        environment = dict(given)
        for _ in range(2):
            extend_allocator_settings(environment)
        assert environment == wanted


def test_a_cpu_has_no_vram():
    assert usage.free_vram(CPU) == usage.process_vram(CPU) == usage.peak_vram(CPU) == usage.alloc_retries(CPU) == 0
    usage.cap_vram(CPU, 0)


def test_registered_memory_is_unregistered_once_released_or_not():
    class Registering(Machine):
        def __init__(self) -> None:
            super().__init__(CPU)
            self.registered: list[int] = []

        def register(self, memory: torch.Tensor) -> bool:
            self.registered.append(memory.data_ptr())
            return True

        def unregister(self, memory: torch.Tensor) -> None:
            self.registered.remove(memory.data_ptr())  # raises where it is not there

    machine = Registering()
    for release in (True, False):
        allocator = Allocator(machine)
        buffer = allocator.allocate(BufferKind.PINNED, 4096, register=True)
        assert machine.registered == [buffer.memory.data_ptr()]
        if release:
            buffer.release()
        del buffer, allocator
        gc.collect()
        assert machine.registered == []
