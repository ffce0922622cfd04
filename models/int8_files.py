"""Writes a copy of a network's checkpoint with int8 units, in the public layout that models.checkpoint reads.

One file per unit and one for the rest, each written piece by piece, so that neither the source nor the result lies in
RAM as a whole. Beside them `int8.json` records what they were made from. An interrupted run continues with the file it
was writing.
"""

import json
import os
import shutil
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from models.checkpoint import CheckpointError, build, fingerprint
from models.layout import LAYOUT
from models.quantized import SCALE_KEY, UNITS, int8_network, quantize_rows
from models.weight_files import DTYPES, TensorEntry, first_names, read_into

CODES_VERSION = 1  # of the quantiser: other codes for the same weights would raise it
RECORD = "int8.json"
PIECE_ELEMENTS = 8 << 20  # of a weight that are in RAM at once
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class OutputTensor:
    """A tensor to write. `source` is copied, or quantised where dtype is int8; None: scales, written with codes."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    source: TensorEntry | None

    @property
    def nbytes(self) -> int:
        return torch.Size(self.shape).numel() * self.dtype.itemsize


class Int8Files:
    """The int8 files of one component (of UNITS) of a checkpoint folder, and their writing."""

    def __init__(self, folder: Path, component: str, target: Path) -> None:
        """target: the folder to write, in the public layout like `folder`. Only headers and a few samples are read.

        Raises CheckpointError for a folder that cannot be read or that is int8 already, and for a target that holds
        anything else.
        """
        module, self._source = build(folder, component)
        if self._source.is_int8:
            raise CheckpointError(f"{folder} holds int8 weights already. Quantise the original files.")
        self._place = target / LAYOUT[component].folder
        self._unfinished = self._place.with_name(f"{self._place.name}.tmp")
        self._record = int8_record_of(folder, component)
        wanted = int8_network(module, component).state_dict()
        self._files = list(self._plan(wanted, UNITS[component]).items())
        self._check_place()

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors to be written."""
        return sum(output.nbytes for _, outputs in self._files for output in outputs)

    @property
    def nbytes_done(self) -> int:
        """Bytes in the finished files of an interrupted run."""
        return sum(_size(outputs) for path, outputs in self._paths() if self._can_resume() and _is_done(path, outputs))

    @property
    def is_current(self) -> bool:
        """Whether the target exists and was made from exactly these files."""
        return read_int8_record(self._place) == self._record

    def write(self, report: OnProgress = lambda done, total: None) -> None:
        """Write what is missing; the target appears when all of it is on the disk. report: files done, files in total.

        Raises CheckpointError for weights that cannot be read or are not finite; OSError for a target that cannot be
        written.
        """
        if not self._can_resume():
            shutil.rmtree(self._unfinished, ignore_errors=True)
        self._unfinished.mkdir(parents=True, exist_ok=True)
        _write_json(self._unfinished / RECORD, self._record)
        for count, (path, outputs) in enumerate(self._paths()):
            report(count, len(self._files))
            if not _is_done(path, outputs):
                _write_file(path, outputs)
        report(len(self._files), len(self._files))
        names = {output.name: name for name, outputs in self._files for output in outputs}
        index = {"metadata": {"total_size": self.nbytes}, "weight_map": names}
        _write_json(self._unfinished / f"{LAYOUT[self._source.component].weights[0]}.index.json", index)
        _write_json(self._unfinished / "config.json", self._source.config)
        for name in LAYOUT[self._source.component].tokenizer:
            if (path := self._source.folder / name).is_file():
                shutil.copyfile(path, self._unfinished / path.name)
        shutil.rmtree(self._place, ignore_errors=True)
        self._unfinished.replace(self._place)

    def _plan(self, wanted: dict[str, Tensor], units: str) -> dict[str, list[OutputTensor]]:
        """File name -> its tensors, wide types before narrow ones, so that all of them are aligned."""
        groups: dict[int, list[OutputTensor]] = {}
        for name, tensor in wanted.items():
            source = self._source.entries.get(name)
            dtype = source.dtype if source and tensor.dtype != torch.int8 else tensor.dtype
            unit = int(name.removeprefix(f"{units}.").split(".")[0]) if name.startswith(f"{units}.") else -1
            groups.setdefault(unit, []).append(OutputTensor(name, dtype, tuple(tensor.shape), source))
        stem = LAYOUT[self._source.component].weights[0].removesuffix(".safetensors")
        return {
            f"{stem}-{number + 1:05d}-of-{len(groups):05d}.safetensors": sorted(
                groups[unit], key=lambda output: -output.dtype.itemsize
            )
            for number, unit in enumerate(sorted(groups))
        }

    def _check_place(self) -> None:
        """Raise CheckpointError where the place, which is replaced as a whole, holds anything but earlier int8 files.

        The language model that speaks has no folder of its own: there the place is all of the target.
        """
        layout = LAYOUT[self._source.component]
        own = {
            RECORD,
            "config.json",
            f"{layout.weights[0]}.index.json",
            *(Path(name).name for name in layout.tokenizer),
        }
        shard = f"{layout.weights[0].removesuffix('.safetensors')}-*-of-*.safetensors"
        there = {path.name for path in self._place.iterdir()} if self._place.is_dir() else set()
        foreign = sorted(name for name in there - own if not fnmatchcase(name, shard))
        if foreign or (there and RECORD not in there):
            raise CheckpointError(
                f"{self._place} would be replaced by int8 weights, and holds other files: "
                f"{first_names(foreign or sorted(there))}. Move them, or choose another folder."
            )

    def _paths(self) -> Iterator[tuple[Path, list[OutputTensor]]]:
        return ((self._unfinished / name, outputs) for name, outputs in self._files)

    def _can_resume(self) -> bool:
        return read_int8_record(self._unfinished) == self._record


def int8_record_of(folder: Path, component: str) -> dict[str, Any]:
    """The record of int8 files that would be made from this folder now."""
    return {"codes_version": CODES_VERSION, "source_fingerprint": fingerprint(folder, component, torch.int8)}


def read_int8_record(place: Path) -> dict[str, Any] | None:
    """The record in a folder of int8 files; None where there is no readable one."""
    try:
        return json.loads((place / RECORD).read_text())
    except (OSError, ValueError):
        return None


def _write_file(path: Path, outputs: list[OutputTensor]) -> None:
    unfinished = path.with_name(f"{path.name}.tmp")
    header = _header(outputs)
    sizes = [output.nbytes for output in outputs]
    places = {output.name: len(header) + sum(sizes[:i]) for i, output in enumerate(outputs)}
    with open(unfinished, "wb") as file:
        file.write(header)
        for output in outputs:
            if output.source is not None:
                _write_tensor(file, output.source, places, quantised=output.dtype == torch.int8)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def _header(outputs: list[OutputTensor]) -> bytes:
    """The start of a safetensors file: the header's length as u64, then json, padded to 8 bytes to align the data."""
    table, end = {}, 0
    for output in outputs:
        offsets = [end, end + output.nbytes]
        table[output.name] = {
            "dtype": DTYPE_NAMES[output.dtype],
            "shape": list(output.shape),
            "data_offsets": offsets,
        }
        end = offsets[1]
    text = json.dumps(table).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _write_tensor(file: BinaryIO, source: TensorEntry, places: Mapping[str, int], *, quantised: bool) -> None:
    """Write a tensor at its place; quantised: its codes there, and its scales at theirs."""
    scales = []
    file.seek(places[source.name])
    for rows in _pieces(source):
        values = torch.empty(rows.shape, dtype=rows.dtype)
        read_into(rows, values)
        if quantised:
            try:
                values, scale = quantize_rows(values)
            except ValueError as error:
                raise CheckpointError(f"{source.name} in {source.file} cannot become int8: {error}.") from None
            scales.append(scale)
        file.write(_bytes(values))
    if quantised:
        file.seek(places[f"{source.name.removesuffix('weight')}{SCALE_KEY}"])
        file.write(_bytes(torch.cat(scales)))


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.view(-1).view(torch.uint8).numpy().data


def _pieces(entry: TensorEntry) -> Iterator[TensorEntry]:
    """The tensor in pieces of whole rows, along its first dimension."""
    if not entry.shape:
        yield entry
        return
    row_bytes = entry.nbytes // max(entry.shape[0], 1)
    step = max(PIECE_ELEMENTS * entry.dtype.itemsize // max(row_bytes, 1), 1)
    for start in range(0, entry.shape[0], step):
        count = min(step, entry.shape[0] - start)
        place, size = entry.offset + start * row_bytes, count * row_bytes
        yield replace(entry, shape=(count, *entry.shape[1:]), offset=place, nbytes=size)


def _size(outputs: list[OutputTensor]) -> int:
    return sum(output.nbytes for output in outputs)


def _is_done(path: Path, outputs: list[OutputTensor]) -> bool:
    """A file gets its name when it is complete and on the disk."""
    return path.is_file() and path.stat().st_size == len(_header(outputs)) + _size(outputs)


def _write_json(path: Path, data: dict[str, Any]) -> None:
    with open(path, "w") as file:
        json.dump(data, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
