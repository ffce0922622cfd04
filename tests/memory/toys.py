"""Toy networks on disk for the memory room: units of two tensors each, in real safetensors shards."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.weight_files import TensorEntry, read_table
from studio.memory.allocator import Allocator, Machine
from studio.memory.plan import ComponentPlan
from studio.memory.streaming.arena import Arena, Place
from studio.memory.streaming.backends import CpuBackend, DeviceBackend
from studio.memory.streaming.layout import UnitLayout
from studio.memory.streaming.reader import WINDOW_BYTES, UnitReader
from studio.memory.streaming.sources import FileSource, PinnedSource, Source
from studio.memory.streaming.streamer import Streamer

CPU = torch.device("cpu")


class ToyBlock(nn.Module):
    """x + tanh(x @ w) * s, with an odd-sized tensor so that alignment matters."""

    def __init__(self, width: int = 7) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, width))
        self.scale = nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.tanh(x @ self.weight) * self.scale


def write_units(folder: Path, units: int, *, dtype: torch.dtype = torch.float32, width: int = 7) -> list[dict]:
    """Random units spread over two shards whose boundary cuts through a unit; the tensors of each unit."""
    generator = torch.Generator().manual_seed(units)
    tensors = [
        {
            "weight": torch.randn(width, width, generator=generator).to(dtype),
            "scale": torch.randn(width, generator=generator).to(dtype),
        }
        for _ in range(units)
    ]
    flat = {f"blocks.{unit}.{name}": tensor for unit, part in enumerate(tensors) for name, tensor in part.items()}
    names = sorted(flat)
    for shard, chosen in enumerate((names[: len(names) // 2], names[len(names) // 2 :])):
        save_file({name: flat[name] for name in chosen}, folder / f"shard{shard}.safetensors")
    return tensors


def unit_entries(folder: Path, units: int, layout: UnitLayout) -> list[list[TensorEntry]]:
    table: dict[str, TensorEntry] = {}
    for path in sorted(folder.glob("*.safetensors")):
        table |= read_table(path)
    return [[table[f"blocks.{unit}.{field.name}"] for field in layout.fields] for unit in range(units)]


@dataclass
class Toy:
    """A streamer over toy units with everything it is made of."""

    allocator: Allocator
    reader: UnitReader
    sources: dict[str, Source]
    streamer: Streamer
    layout: UnitLayout
    backend: Any

    def run(self, x: Tensor, *, last: bool = False) -> Tensor:
        for _, block in self.streamer.blocks(last=last):
            x = block(x)
        return x

    def close(self) -> None:
        self.streamer.release()
        self.reader.close()


def open_toy(
    folder: Path,
    units: int,
    *,
    machine: Machine | None = None,
    backend: DeviceBackend | None = None,
    dtype: torch.dtype = torch.float32,
    width: int = 7,
    window_bytes: int = WINDOW_BYTES,
    arena: Place | None = None,
) -> Toy:
    def build() -> nn.Module:
        with torch.device("meta"):
            return ToyBlock(width).to(dtype)

    allocator = Allocator(machine or Machine(CPU))
    layout = UnitLayout.of(build().state_dict())
    reader = UnitReader(layout, unit_entries(folder, units, layout), allocator, window_bytes=window_bytes)
    sources: dict[str, Source] = {
        "cached": FileSource(reader, direct=False),
        "direct": FileSource(reader, direct=True),
        "pinned": PinnedSource(
            reader, allocator, ThreadPoolExecutor(1), None if arena is None else Arena(arena, units, layout.nbytes)
        ),
    }
    backend = backend or CpuBackend()
    streamer = Streamer(layout, build, sources, backend, allocator, ThreadPoolExecutor(1))
    return Toy(allocator, reader, sources, streamer, layout, backend)


def component_plan(source: list[str], slots: int, unit_bytes: int = 1) -> ComponentPlan:
    resident = tuple(unit for unit, kind in enumerate(source) if kind == "resident")
    return ComponentPlan(resident, slots, tuple(source), unit_bytes=unit_bytes, rest_bytes=0)


def expected(tensors: list[dict], x: Tensor, dtype: torch.dtype) -> Tensor:
    """The slow twin: every unit in ordinary memory."""
    for part in tensors:
        block = ToyBlock(x.shape[-1])
        block.load_state_dict({name: tensor.to(dtype) for name, tensor in part.items()}, assign=True)
        with torch.no_grad():
            x = block(x)
    return x
