"""Refusals and read errors where units pass through staging buffers on their way to a (fake, late) device."""

import errno
from pathlib import Path

import pytest
import torch

from studio.errors import StudioError
from tests.memory.streaming.fake import FakeBackend, FakeMachine
from tests.memory.toys import component_plan, open_toy, write_units

UNITS = 5
BIG = (["resident", "pinned", "direct", "cached", "resident"], 2)
SMALL = (["direct", "pinned", "direct", "cached", "resident"], 1)


class Faulty(FakeMachine):
    """Refuses the n-th allocation or fails the n-th read, counted from 1; registering may be refused."""

    def __init__(self, *, allocation: int = 0, read: int = 0, registers: bool = True) -> None:
        super().__init__(registers)
        self.refused, self.failed, self.allocations, self.reads = allocation, read, 0, 0

    def host_memory(self, nbytes):
        self.allocations += 1
        if self.allocations == self.refused:
            raise MemoryError("planted")
        return super().host_memory(nbytes)

    def read(self, file, buffers, offset):
        self.reads += 1
        if self.reads == self.failed:
            raise OSError(errno.EIO, "Input/output error")
        return super().read(file, buffers, offset)


@pytest.fixture(scope="module")
def toy_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    return folder, write_units(folder, UNITS)


def run_passes(files: tuple[Path, list[dict]], machine: Faulty, seed: int) -> int:
    """Three passes; after an error, goes on with the smaller plan. How many errors there were."""
    (folder, tensors), backend = files, FakeBackend(seed)
    toy = open_toy(folder, UNITS, machine=machine, backend=backend)
    seen, errors, plan = [], 0, BIG

    def use(unit, weight):  # what a kernel launch takes: the address, not the module
        backend.calculate(lambda: seen.append((unit, weight.clone())))

    for _ in range(3):
        try:
            toy.streamer.set_plan(component_plan(*plan))
            for unit, block in toy.streamer.blocks():
                use(unit, block.weight)
        except (MemoryError, StudioError):
            errors, plan = errors + 1, SMALL
    backend.drain()
    assert all(torch.equal(weight, tensors[unit]["weight"]) for unit, weight in seen)
    assert len(seen) >= 2 * UNITS
    toy.close()
    toy.allocator.check()
    assert toy.allocator.allocated() == 0
    return errors


def test_every_point_in_turn(toy_files):
    for registers in (True, False):
        clean = Faulty(registers=registers)
        assert run_passes(toy_files, clean, 0) == 0
        for what, total in (("allocation", clean.allocations), ("read", clean.reads)):
            errors = [
                run_passes(toy_files, Faulty(**{what: point}, registers=registers), seed)
                for point in range(1, total + 1)
                for seed in range(2)
            ]
            assert max(errors) == 1 and sum(errors) > len(errors) / 2, (registers, what)
