"""Units from disk: the same bytes from every source, in bounded RAM, and never from a file that changed."""

import errno
import json
import os
import struct
from itertools import product
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.weight_files import read_table
from studio.errors import StudioError
from studio.memory.allocator import Allocator, BufferKind, IntegrityError, Machine
from studio.memory.streaming.layout import ALIGNMENT, UnitLayout
from studio.memory.streaming.reader import BLOCK, Shard, UnitReader
from studio.memory.streaming.sources import PinnedSource
from tests.memory.toys import CPU, open_toy, unit_entries, write_units

UNITS = 4
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def content(toy, kind: str, unit: int) -> dict[str, torch.Tensor]:
    into = torch.zeros(toy.layout.nbytes, dtype=torch.uint8)
    return {name: view.clone() for name, view in toy.layout.views(toy.sources[kind].read(unit, lambda: into)).items()}


def test_every_source_gives_the_tensors_cast_as_torch_casts(tmp_path):
    wrong = []
    for stored, wanted in product(DTYPES, DTYPES):
        tensors = write_units(tmp_path, UNITS, dtype=stored, width=70)
        toy = open_toy(tmp_path, UNITS, dtype=wanted, width=70, window_bytes=2 * BLOCK)
        for kind, (unit, part) in product(toy.sources, enumerate(tensors)):
            found = content(toy, kind, unit)
            wrong += [
                (stored, wanted, kind, unit, name)
                for name, tensor in found.items()
                if not torch.equal(tensor, part[name].to(wanted))
            ]
        toy.close()
    assert not wrong


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(0, 9000), min_size=1, max_size=6),
    dtypes=st.lists(st.sampled_from((*DTYPES, torch.int8)), min_size=6, max_size=6),
    padding=st.integers(0, 9),
    direct=st.booleans(),
    cast=st.booleans(),
)
def test_any_placement_in_the_file(tmp_path, sizes, dtypes, padding, direct, cast):
    """Headers of any length put elements at odd offsets and across every window's edge."""
    path = tmp_path / "odd.safetensors"
    tensors, header, data = {}, {}, b""
    names = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.int8: "I8"}
    for index, (size, dtype) in enumerate(zip(sizes, dtypes, strict=False)):
        tensor = torch.randint(-100, 100, (size,)).to(dtype)
        raw = tensor.view(torch.uint8).numpy().tobytes() if size else b""
        place = [len(data), len(data) + len(raw)]
        header[f"t{index}"] = {"dtype": names[dtype], "shape": [size], "data_offsets": place}
        tensors[f"t{index}"], data = tensor, data + raw
    text = json.dumps(header).encode() + b" " * padding
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    wanted = {name: tensor.to(torch.float32) if cast else tensor for name, tensor in tensors.items()}
    layout = UnitLayout.of(wanted)
    table = read_table(path)
    allocator = Allocator(Machine(CPU))
    reader = UnitReader(layout, [[table[field.name] for field in layout.fields]], allocator, window_bytes=2 * BLOCK)
    into = torch.zeros(layout.nbytes, dtype=torch.uint8)
    reader.read(0, into, direct=direct)
    for name, view in layout.views(into).items():
        assert torch.equal(view, wanted[name])
    reader.close()
    allocator.check()


def test_layout_is_aligned_and_gapless_but_for_that():
    layout = UnitLayout.of({"a": torch.empty(3), "b": torch.empty(5, 5, dtype=torch.bfloat16), "c": torch.empty(1)})
    assert [field.offset for field in layout.fields] == [0, ALIGNMENT, 2 * ALIGNMENT]
    assert layout.nbytes == 3 * ALIGNMENT
    views = layout.views(torch.zeros(layout.nbytes, dtype=torch.uint8))
    assert views["b"].shape == (5, 5) and views["b"].dtype == torch.bfloat16


def test_layout_wastes_under_two_percent_on_public_shapes():
    shapes = [(6, 6144), *[(6144,)] * 4, (18432, 6144), *[(6144, 6144)] * 3, (12288, 6144), *[(128,)] * 4]
    tensors = {str(i): torch.empty(shape, dtype=torch.bfloat16, device="meta") for i, shape in enumerate(shapes)}
    assert UnitLayout.of(tensors).nbytes <= 1.02 * sum(tensor.nbytes for tensor in tensors.values())


def test_pinned_units_take_their_bytes_and_pages_only(tmp_path):
    write_units(tmp_path, UNITS, width=700)
    toy = open_toy(tmp_path, UNITS, width=700)
    for unit in range(UNITS):
        content(toy, "pinned", unit)
    stored = UNITS * (700 * 700 + 700) * 4
    assert stored <= toy.allocator.allocated(BufferKind.PINNED) <= 1.02 * stored
    toy.sources["pinned"].release_except({1})
    assert toy.allocator.allocated(BufferKind.PINNED) * UNITS == toy.layout.nbytes * UNITS
    toy.close()
    toy.allocator.check()


def test_a_pinned_unit_is_read_once(tmp_path):
    write_units(tmp_path, UNITS)
    toy = open_toy(tmp_path, UNITS)
    first = content(toy, "pinned", 2)
    (tmp_path / "shard0.safetensors").unlink()
    (tmp_path / "shard1.safetensors").unlink()
    again = content(toy, "pinned", 2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    toy.close()


def harm(path: Path, how: str) -> None:
    original = path.read_bytes()
    if how == "cut":
        os.truncate(path, len(original) // 2)
    elif how == "grown":
        path.write_bytes(original + b"0")
    elif how == "rewritten":
        path.write_bytes(original[:-8] + b"xxxxxxxx")
    elif how == "replaced":
        path.with_name("new").write_bytes(original)
        path.with_name("new").replace(path)
    else:
        path.unlink()


def test_a_file_that_changed_is_never_computed_with(tmp_path):
    for kind, how in product(("cached", "direct", "pinned"), ("cut", "grown", "rewritten", "replaced", "deleted")):
        write_units(tmp_path, UNITS)
        toy = open_toy(tmp_path, UNITS)
        content(toy, kind, 0)
        harm(tmp_path / "shard0.safetensors", how)
        with pytest.raises(StudioError) as caught:
            content(toy, kind, 1)
        assert "shard0.safetensors" in str(caught.value), (kind, how)
        toy.close()
        del caught
        toy.allocator.check()
        assert toy.allocator.allocated() == 0, (kind, how)


def test_a_read_error_names_the_file(tmp_path):
    class BadDisk(Machine):
        def read(self, file, buffers, offset):
            raise OSError(errno.EIO, "Input/output error")

    write_units(tmp_path, UNITS)
    toy = open_toy(tmp_path, UNITS, machine=BadDisk(CPU))
    for kind in toy.sources:
        with pytest.raises(StudioError, match="shard0.*Input/output error"):
            content(toy, kind, 0)
    toy.close()


def test_direct_reads_go_on_where_the_file_system_has_none(tmp_path):
    class NoDirect(Machine):
        def read(self, file, buffers, offset):
            import fcntl

            if fcntl.fcntl(file, fcntl.F_GETFL) & os.O_DIRECT:
                raise OSError(errno.EINVAL, "Invalid argument")
            return super().read(file, buffers, offset)

    tensors = write_units(tmp_path, UNITS)
    toy = open_toy(tmp_path, UNITS, machine=NoDirect(CPU))
    assert torch.equal(content(toy, "direct", 3)["weight"], tensors[3]["weight"])
    toy.close()


def test_short_reads_are_completed(tmp_path):
    class Trickle(Machine):
        most = 0

        def read(self, file, buffers, offset):
            return super().read(file, [buffers[0][: self.most]], offset)

    machine, tensors = Trickle(CPU), write_units(tmp_path, UNITS)
    toy = open_toy(tmp_path, UNITS, machine=machine)
    for machine.most, (unit, part) in product((1, 3, 100), enumerate(tensors)):
        assert torch.equal(content(toy, "cached", unit)["weight"], part["weight"]), (machine.most, unit)
    toy.close()


def test_refused_registration_falls_back_to_the_given_buffer(tmp_path):
    tensors = write_units(tmp_path, UNITS)
    toy = open_toy(tmp_path, UNITS)  # a CPU registers nothing
    into = torch.zeros(toy.layout.nbytes, dtype=torch.uint8)
    source = toy.sources["pinned"]
    assert source.read(1, lambda: into) is into and source.registered(1) is None
    assert torch.equal(toy.layout.views(into)["weight"], tensors[1]["weight"])
    toy.close()


def test_a_failed_read_pins_nothing(tmp_path):
    write_units(tmp_path, UNITS)
    toy = open_toy(tmp_path, UNITS)
    os.truncate(tmp_path / "shard1.safetensors", 100)
    with pytest.raises(StudioError):
        toy.sources["pinned"].read(UNITS - 1, lambda: torch.empty(0))
    assert toy.allocator.allocated(BufferKind.PINNED) == 0
    assert isinstance(toy.sources["pinned"], PinnedSource) and not toy.sources["pinned"].units
    toy.close()


def test_adjacent_tensors_are_read_together(tmp_path):
    write_units(tmp_path, UNITS)
    toy = open_toy(tmp_path, UNITS)
    reads = []

    class Counting(Machine):
        def read(self, file, buffers, offset):
            reads.append(len(buffers))
            return super().read(file, buffers, offset)

    allocator = Allocator(Counting(CPU))
    reader = UnitReader(toy.layout, unit_entries(tmp_path, UNITS, toy.layout), allocator)
    reader.read(0, torch.empty(toy.layout.nbytes, dtype=torch.uint8))
    assert reads == [2]  # both tensors with one call
    reader.close()
    toy.close()


def test_shards_are_opened_once_and_closed(tmp_path):
    write_units(tmp_path, UNITS)
    before = len(os.listdir("/proc/self/fd"))
    toy = open_toy(tmp_path, UNITS)
    for unit in range(UNITS):
        content(toy, "direct", unit)
    assert len(os.listdir("/proc/self/fd")) - before <= 4
    toy.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_missing_shard_is_a_sentence(tmp_path):
    with pytest.raises(StudioError, match="cannot be opened"):
        Shard(tmp_path / "none.safetensors")


def test_the_allocator_finds_what_outlives_its_buffer():
    allocator = Allocator(Machine(CPU))
    buffer = allocator.allocate(BufferKind.SLOTS, 4096)
    view = buffer.memory[5:10]
    allocator.check()
    assert (allocator.allocated(BufferKind.SLOTS), allocator.alive(BufferKind.SLOTS)) == (4096, 4096)
    buffer.release()
    with pytest.raises(IntegrityError, match="0 bytes counted, 4,096 alive"):
        allocator.check()
    del view
    allocator.check()
    assert allocator.allocated() == allocator.alive() == 0


def test_memory_returns_to_the_system():
    allocator = Allocator(Machine(CPU))

    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before = resident()
    buffer = allocator.allocate(BufferKind.PINNED, 64 << 20)
    buffer.memory.fill_(1)
    assert resident() - before > 60 << 20
    buffer.release()
    assert resident() - before < 4 << 20


def test_refused_memory_is_a_memory_error():
    with pytest.raises(MemoryError, match="refused"):
        Allocator(Machine(CPU)).allocate(BufferKind.PINNED, 1 << 60)
