"""The streamer: right bits under every plan, on a device that is as late as it may be, and bugs that are found."""

import random
import threading
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from studio.memory.allocator import BufferKind, Machine
from tests.memory.streaming.fake import FakeBackend, FakeMachine
from tests.memory.toys import CPU, component_plan, expected, open_toy, write_units

UNITS = 5
KINDS = ("resident", "pinned", "cached", "direct")


@pytest.fixture(scope="module")
def toy_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    return folder, write_units(folder, UNITS)


def draw_plan(chance: random.Random):
    kinds = chance.choice((KINDS, ("pinned",), ("cached",), ("resident", "direct"), ("pinned", "direct")))
    return component_plan([chance.choice(kinds) for _ in range(UNITS)], slots=chance.randint(1, UNITS))


def run_schedule(folder: Path, seed: int, forgets: frozenset[str] = frozenset()) -> int:
    """Random plans, passes and interruptions on the fake device; how many uses saw another unit's weights."""
    chance = random.Random(seed)
    backend = FakeBackend(seed, forgets)
    toy = open_toy(folder, UNITS, machine=FakeMachine(registers=chance.random() < 0.8), backend=backend)
    truth = [torch.empty(toy.layout.nbytes, dtype=torch.uint8) for _ in range(UNITS)]
    for unit, memory in enumerate(truth):
        toy.reader.read(unit, memory.zero_())
    weights = [toy.layout.views(memory)["weight"] for memory in truth]
    wrong = []

    def use(unit, block):
        weight = block.weight  # what a kernel launch takes: the address, not the module
        backend.calculate(lambda: wrong.append(unit) if not torch.equal(weight, weights[unit]) else None)

    try:
        for _ in range(chance.randint(1, 3)):
            toy.streamer.set_plan(draw_plan(chance))
            for _ in range(chance.randint(1, 4)):
                leave_at = chance.choice((None, None, None, chance.randrange(UNITS)))
                for unit, block in toy.streamer.blocks(last=chance.random() < 0.3):
                    use(unit, block)
                    use(unit, block)
                    if unit == leave_at:
                        break
    finally:
        backend.drain()
        toy.close()
    toy.allocator.check()
    assert toy.allocator.allocated() == 0
    return len(wrong)


@pytest.mark.parametrize("seeds", [range(100), pytest.param(range(100, 5000), marks=pytest.mark.slow)], ids=str)
def test_random_schedules_on_a_late_device(toy_files, seeds):
    wrong = [seed for seed in seeds if run_schedule(toy_files[0], seed)]
    assert not wrong


def test_planted_bugs_are_caught(toy_files):
    for bug in ("ready", "free", "staging"):
        caught = sum(run_schedule(toy_files[0], seed, frozenset({bug})) > 0 for seed in range(50))
        assert caught > 3, bug


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sources=st.lists(st.sampled_from(KINDS), min_size=UNITS, max_size=UNITS),
    slots=st.integers(1, UNITS),
    dtype=st.sampled_from((torch.float32, torch.bfloat16)),
)
def test_every_plan_gives_the_bits_of_all_resident(toy_files, sources, slots, dtype):
    folder, tensors = toy_files
    x = torch.randn(3, 7, generator=torch.Generator().manual_seed(0)).to(dtype)
    toy = open_toy(folder, UNITS, dtype=dtype)
    try:
        toy.streamer.set_plan(component_plan(sources, slots))
        first, second = toy.run(x), toy.run(x, last=True)
    finally:
        toy.close()
    wanted = expected(tensors, x, dtype)
    assert torch.equal(first, wanted) and torch.equal(second, wanted)
    assert toy.allocator.allocated() == 0


def test_addresses_and_buffers_stay_over_passes(toy_files):
    toy = open_toy(toy_files[0], UNITS)
    toy.streamer.set_plan(component_plan(["direct", "resident", "direct", "pinned", "direct"], slots=2))
    passes = [[next(block.parameters()).data_ptr() for _, block in toy.streamer.blocks()] for _ in range(3)]
    held = toy.allocator.allocated()
    assert len(set(passes[0])) == 3  # one resident unit and two slots
    assert passes[0][1] == passes[1][1] == passes[2][1]
    assert set(passes[1]) == set(passes[2]) == set(passes[0])
    list(toy.streamer.blocks())
    assert toy.allocator.allocated() == held
    toy.close()


def test_accounting_follows_the_plan(toy_files):
    toy = open_toy(toy_files[0], UNITS, machine=FakeMachine(registers=False), backend=FakeBackend(1))
    unit = toy.layout.nbytes
    toy.streamer.set_plan(component_plan(["resident", "pinned", "direct", "pinned", "direct"], slots=2))
    list(toy.streamer.blocks())
    assert toy.allocator.allocated(BufferKind.RESIDENT) == unit
    assert toy.allocator.allocated(BufferKind.SLOTS) == 2 * unit
    assert toy.allocator.allocated(BufferKind.PINNED) == 2 * unit
    assert toy.allocator.allocated(BufferKind.STAGING) == 2 * unit + toy.reader.bounce_bytes
    toy.allocator.check()
    toy.streamer.release_staging()
    assert toy.allocator.allocated(BufferKind.STAGING) == toy.reader.bounce_bytes
    assert toy.allocator.allocated(BufferKind.SLOTS, BufferKind.RESIDENT) == 3 * unit
    list(toy.streamer.blocks())
    assert toy.streamer.staging_buffers == 2, "allocated again where they are needed"
    toy.streamer.set_plan(component_plan(["direct", "pinned", "direct", "direct", "direct"], slots=1))
    assert toy.streamer.staging_buffers == 0, "of the plan before; one with all units pinned counts none"
    assert toy.allocator.allocated(BufferKind.RESIDENT) == 0
    assert (toy.allocator.allocated(BufferKind.SLOTS), toy.allocator.allocated(BufferKind.PINNED)) == (unit, unit)
    toy.streamer.offload()
    assert toy.allocator.allocated(BufferKind.SLOTS, BufferKind.RESIDENT) == 0
    assert toy.allocator.allocated(BufferKind.PINNED) == unit  # kept for the next run
    toy.close()
    toy.allocator.check()
    assert toy.allocator.allocated() == 0


def test_resident_units_stay_when_the_plan_steps_down(toy_files):
    reads = []

    class CountingMachine(FakeMachine):
        def read(self, file, buffers, offset):
            reads.append(offset)
            return super().read(file, buffers, offset)

    toy = open_toy(toy_files[0], UNITS, machine=CountingMachine())
    toy.streamer.set_plan(component_plan(["resident"] * UNITS, slots=0))
    list(toy.streamer.blocks())
    reads.clear()
    toy.streamer.set_plan(component_plan(["cached", *["resident"] * (UNITS - 1)], slots=1))
    list(toy.streamer.blocks(last=True))
    assert 0 < len(reads) <= 2  # one unit, which lies in at most two pieces
    toy.close()


def test_the_first_pass_computes_while_it_reads(toy_files):
    """A cold start takes the longer of reading and computing, not their sum: neither waits for all of the other."""
    patience, own_reads = 30.0, 2  # seconds; a unit takes two reads here, or one and its shard's last
    first_block, more = threading.Event(), threading.Event()
    reads, waited = [], []

    class HaltingDisk(Machine):
        def read(self, file, buffers, offset):
            reads.append(offset)
            if len(reads) > own_reads:
                more.set()
                waited.append(first_block.wait(patience))
            return super().read(file, buffers, offset)

    toy = open_toy(toy_files[0], UNITS, machine=HaltingDisk(CPU))
    toy.streamer.set_plan(component_plan(["resident", "direct", "direct", "resident", "direct"], slots=2))
    for unit, _ in toy.streamer.blocks(last=True):
        first_block.set()
        if unit == 0:
            assert more.wait(patience), "the next unit is read while the first is in use"
    toy.close()
    assert len(waited) > own_reads and all(waited), "the first block waits for itself alone"


def test_the_caller_is_never_far_ahead_of_the_device(toy_files):
    """Or a cancelled step would go on to its end: everything would have been asked for already."""
    backend = FakeBackend(3)
    toy = open_toy(toy_files[0], UNITS, backend=backend)
    toy.streamer.set_plan(component_plan(["resident", "pinned", "resident", "pinned", "resident"], slots=1))
    computed: list[int] = []
    most = 0
    for unit, _ in toy.streamer.blocks():
        most = max(most, unit - len(computed))
        backend.calculate(partial(computed.append, unit))
    backend.drain()
    toy.close()
    assert most == 1 and computed == list(range(UNITS))


def test_without_a_plan_there_are_no_blocks(toy_files):
    toy = open_toy(toy_files[0], UNITS)
    with pytest.raises(RuntimeError, match="no plan"):
        next(toy.streamer.blocks())
    toy.close()
