"""One copy of units in RAM for several processes: the same pages, read once, given back by the last one."""

import dataclasses
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from studio.errors import StudioError
from studio.memory.allocator import BufferKind, Machine
from studio.memory.plan import CAN_SHARE_RAM
from studio.memory.streaming.arena import TAG_BYTES, Arena, ArenaFile, Place, stride
from tests.memory.streaming.fake import FakeBackend, FakeMachine
from tests.memory.toys import CPU, Toy, component_plan, expected, open_toy, write_units

pytestmark = pytest.mark.skipif(not CAN_SHARE_RAM, reason="no memfd here")

ROOT = Path(__file__).resolve().parents[3]
UNITS, NBYTES = 4, 4 << 20
TAG, OTHER_TAG = b"a" * TAG_BYTES, b"b" * TAG_BYTES
# Another process: "take N" reads the digit of its argument, "drop N", "pss", "die" while it reads; answers a line.
OTHER = """
import os, sys
from studio.memory.streaming.arena import Arena, Place
place = Place(sys.argv[1], int(sys.argv[5]), int(sys.argv[6]))
arena, kept, filled = Arena(place, int(sys.argv[2]), int(sys.argv[3])), {}, []

def read():
    filled.append(1)
    kept[unit][:] = sys.argv[4].encode() * len(kept[unit])

def die():
    kept[unit][:100] = b"x" * 100
    os._exit(9)

for line in sys.stdin:
    word, unit = line.split()
    unit = int(unit)
    if word in ("take", "die"):
        kept[unit] = arena.map(unit)
        arena.fill(unit, b"a" * 8, read if word == "take" else die)
        digits = set(kept[unit][:])  # reads every page
        print("".join(map(chr, digits)), len(filled), flush=True)
    elif word == "drop":
        del kept[unit]
        print(arena.release(unit), flush=True)
    elif word == "pss":
        table = open("/proc/self/smaps_rollup").read().splitlines()
        print(next(line.split()[1] for line in table if line.startswith("Pss_Shmem")), flush=True)
"""


class Other:
    """Such a process."""

    def __init__(self, place: Place, digit: int) -> None:
        numbers = [str(number) for number in (UNITS, NBYTES, digit, place.device, place.inode)]
        words = [sys.executable, "-c", OTHER, place.path, *numbers]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)

    def ask(self, word: str, unit: int = 0) -> str:
        self.process.stdin.write(f"{word} {unit}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


@pytest.fixture
def file() -> Iterator[ArenaFile]:
    made = ArenaFile("units")
    yield made
    made.close()


def test_two_processes_have_the_same_pages_and_the_last_one_gives_them_back(file: ArenaFile) -> None:
    one, two = Other(file.place, 1), Other(file.place, 2)
    assert [one.ask("take", unit) for unit in range(UNITS)] == ["1 1", "1 2", "1 3", "1 4"]
    alone = int(one.ask("pss"))
    assert [two.ask("take", unit) for unit in range(UNITS)] == ["1 0"] * UNITS, "read by the other"
    whole = UNITS * NBYTES
    assert whole <= file.nbytes <= whole + mmap.PAGESIZE, "once, not twice"
    halves = [int(each.ask("pss")) * 1024 for each in (one, two)]
    assert alone * 1024 >= whole and all(0.45 * whole < half < 0.6 * whole for half in halves), (alone, halves)
    assert one.ask("drop", 0) == "False" and file.nbytes >= whole, "the other still uses it"
    assert two.ask("drop", 0) == "True" and file.nbytes <= whole - NBYTES + mmap.PAGESIZE
    assert two.ask("take", 0) == "2 1", "read anew"
    two.process.kill()
    two.process.wait()
    assert one.ask("drop", 1) == "True", "a process that died uses nothing"
    one.process.kill()
    one.process.wait()


def test_one_that_dies_while_it_reads_leaves_the_unit_to_the_next(file: ArenaFile) -> None:
    one, two = Other(file.place, 1), Other(file.place, 2)
    assert one.ask("die", 3) == "" and one.process.wait() == 9
    assert two.ask("take", 3) == "2 1"
    two.process.stdin.close()
    assert two.process.wait() == 0


def test_what_cannot_be_read_is_not_there_other_files_are_read_anew_and_another_size_is_refused(
    file: ArenaFile,
) -> None:
    arena, other = Arena(file.place, UNITS, 100), Arena(file.place, UNITS, 100)
    reads: list[str] = []

    def refuse() -> None:
        raise OSError("the disk is gone")

    memory, same = arena.map(2), other.map(2)
    with pytest.raises(OSError, match="disk is gone"):
        arena.fill(2, TAG, refuse)
    for each, tag, name in ((other, TAG, "first"), (arena, TAG, "again"), (arena, OTHER_TAG, "of other files")):
        each.fill(2, tag, lambda name=name: reads.append(name))
    assert reads == ["first", "of other files"]
    memory[:4] = b"text"
    assert same[:4] == b"text" and len(memory) == mmap.PAGESIZE and arena.held == other.held == (2,)
    assert not arena.release(2) and other.release(2) and file.nbytes <= mmap.PAGESIZE
    with pytest.raises(ValueError, match="take"):
        Arena(file.place, UNITS, 5000)
    with pytest.raises(OSError, match="is closed"):
        Arena(dataclasses.replace(file.place, inode=1), UNITS, 100)
    none_free = Arena(file.place, UNITS, 100, free=lambda: 0)
    with pytest.raises(MemoryError, match="4,096 bytes of RAM were refused"):
        none_free.map(0)
    arena.map(0)
    arena.fill(0, TAG, lambda: None)
    none_free.map(0)  # what is there takes none
    assert none_free.held == (0,)
    for each in (arena, other, none_free):
        each.close()


class Counting(FakeMachine):
    """A GPU's machine: which memory is registered now, by address, and how many bytes were read from files."""

    def __init__(self) -> None:
        super().__init__()
        self.registered: set[int] = set()
        self.bytes_read = 0

    def register(self, memory: torch.Tensor) -> bool:
        self.registered.add(memory.data_ptr())
        return True

    def unregister(self, memory: torch.Tensor) -> None:
        self.registered.remove(memory.data_ptr())

    def read(self, file: int, buffers: list[memoryview], offset: int) -> int:
        count = super().read(file, buffers, offset)
        self.bytes_read += count
        return count


def test_each_registers_what_one_reads(tmp_path: Path, file: ArenaFile) -> None:
    """Two streamers on two late devices: registered by each, read once, computed with at once, as from own copies."""
    tensors = write_units(tmp_path, UNITS, width=70)
    x = torch.randn(2, 70)
    wanted, toys, machines = expected(tensors, x, torch.float32), list[Toy](), [Counting(), Counting()]
    for seed, machine in enumerate(machines):
        backend = FakeBackend(seed)
        toys.append(open_toy(tmp_path, UNITS, machine=machine, backend=backend, width=70, arena=file.place))
        toys[-1].streamer.set_plan(component_plan(["pinned"] * UNITS, 2))

    def run(toy: Toy) -> torch.Tensor:
        found = [x]
        for _, block in toy.streamer.blocks():
            toy.backend.calculate(lambda block=block: found.append(block(found[-1])))
        toy.backend.drain()
        return found[-1]

    for _ in range(3):
        assert all(torch.equal(run(toy), wanted) for toy in toys)
    nbytes = toys[0].layout.nbytes
    assert all(toy.allocator.allocated(BufferKind.PINNED) == UNITS * nbytes for toy in toys), "each uses all"
    assert UNITS * nbytes <= file.nbytes <= UNITS * stride(nbytes) + mmap.PAGESIZE, "which are there once"
    assert [len(machine.registered) for machine in machines] == [UNITS] * 2
    assert machines[0].registered.isdisjoint(machines[1].registered), "each maps them itself"
    assert machines[1].bytes_read == 0 < machines[0].bytes_read
    first, second = (toy.sources["pinned"] for toy in toys)
    first.registered(1)[:8] = 7
    assert second.registered(1)[:8].tolist() == [7] * 8, "the same pages"
    for toy, machine, left in zip(toys, machines, (UNITS * nbytes, 0), strict=True):
        toy.streamer.set_plan(component_plan(["resident"] * UNITS, 0))
        assert not machine.registered and file.nbytes >= left, "released by each, given back by the last"
        toy.close()
        toy.allocator.check()
    assert file.nbytes <= mmap.PAGESIZE


def test_memory_that_one_has_registered_stays_when_another_releases_it(tmp_path: Path, file: ArenaFile) -> None:
    """Pages that are given back below a registration would be others than those that the GPU reads."""
    tensors = write_units(tmp_path, UNITS)
    one, two = (open_toy(tmp_path, UNITS, machine=Counting(), arena=file.place) for _ in range(2))
    two.sources["pinned"].prepare(0)  # registered, not read yet
    one.sources["pinned"].read(0, lambda: torch.empty(0))
    one.sources["pinned"].release_except(set())
    memory = two.sources["pinned"].read(0, lambda: torch.empty(0))
    assert torch.equal(two.layout.views(memory)["weight"], tensors[0]["weight"])
    assert file.nbytes >= stride(two.layout.nbytes)
    two.sources["pinned"].prepare(1)
    two.sources["pinned"].release_prepared()
    del memory
    for toy in (one, two):
        toy.close()
        toy.allocator.check()
    assert file.nbytes <= mmap.PAGESIZE


def test_files_that_changed_are_not_computed_with_though_another_had_read_them(tmp_path: Path, file: ArenaFile) -> None:
    write_units(tmp_path, UNITS)
    old, late = (open_toy(tmp_path, UNITS, machine=Machine(CPU), arena=file.place) for _ in range(2))
    into = torch.empty(old.layout.nbytes, dtype=torch.uint8)
    old.sources["pinned"].read(0, lambda: into)
    changed = [part["weight"] + 1 for part in write_units(tmp_path, UNITS)]
    for path in tmp_path.glob("shard*"):
        os.utime(path, ns=(1, 1))
    with pytest.raises(StudioError, match="changed while it was in use"):
        late.sources["pinned"].read(0, lambda: into)
    fresh = open_toy(tmp_path, UNITS, machine=Machine(CPU), arena=file.place)
    into.zero_()
    fresh.sources["pinned"].read(0, lambda: into)
    assert torch.equal(fresh.layout.views(into)["weight"] + 1, changed[0]), "read anew, though the old one is there"
    for toy in (old, late, fresh):
        toy.close()
        toy.allocator.check()
