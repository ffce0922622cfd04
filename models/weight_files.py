"""Weight files: the table of tensors in one, checked against the file, and plain reads of their bytes.

Nothing is mapped into memory: a mapped file that is shorter than it claims kills the process (SIGBUS), a short read is
an error with a sentence.
"""

import json
import math
import os
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from models.pickle_files import Archive, NotTensors, PickledTensor, header_of_bin, read_pickle
from models.regular_files import (
    LFS_POINTER,
    SMALL_FILE,
    CheckpointError,
    open_regular,
    read_json,
    read_up_to,
    reading,
)

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
HEADER_LIMIT = SMALL_FILE  # bytes; headers of the public shards have up to 0.1 MB
MOST_DIMENSIONS, MOST_BYTES = 8, 1 << 62
NAME_LENGTH = 80  # characters of a tensor's or file's name in a sentence
CAST_BYTES = 4 << 20  # scratch of a read that changes the dtype


@dataclass(frozen=True)
class TensorEntry:
    """Where one tensor lies in a file. `name`: its key; `offset`: of its first byte in `file`."""

    name: str
    file: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int
    nbytes: int


def read_index(path: Path) -> dict[str, str]:
    """Tensor name -> shard file name of a `*.safetensors.index.json`; every shard named is a file beside it."""
    names = read_json(path).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise CheckpointError(f"{path} has no weight_map from tensor names to file names. Download it again.")
    shards = sorted(set(names.values()))
    if outside := [name for name in shards if not _is_file_name(name)]:
        raise CheckpointError(f"{path} names {outside[0][:80]!r}, which is no file beside it. Do not use this folder.")
    if absent := [name for name in shards if not os.path.isfile(path.parent / name)]:
        raise CheckpointError(
            f"{path} names {len(absent)} files that are not there: {first_names(absent)}. Download them."
        )
    return names


def _is_file_name(name: str) -> bool:
    return name not in ("", ".", "..") and not set(name) & {"/", "\\", "\0"} and len(name) < 256


def read_table(path: Path) -> dict[str, TensorEntry]:
    """Name -> entry of every tensor in a .safetensors file or a PyTorch .bin, checked against the file's length.

    Raises CheckpointError for a missing, truncated or foreign file, for a Git-LFS pointer, for what is no file.
    """
    with reading(path), open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if file.read(len(LFS_POINTER)) == LFS_POINTER:
            raise CheckpointError(
                f"{path} is a Git-LFS pointer of {size} bytes, not the weights: run `git lfs pull` there, "
                "or download it."
            )
        file.seek(0)
        return _safetensors(path, file, size)[0] if path.suffix == ".safetensors" else _pickle_table(path, file, size)


def read_safetensors_header(path: Path) -> tuple[dict[str, TensorEntry], dict[str, str]]:
    """The table of a safetensors file of any name, and its metadata. Raises CheckpointError."""
    with reading(path), open_regular(path) as file:
        return _safetensors(path, file, os.fstat(file.fileno()).st_size)


def read_tensors(path: Path, limit: int) -> dict[str, Tensor]:
    """All tensors of a small safetensors file, which takes at most `limit` bytes. Raises CheckpointError."""
    with reading(path), open_regular(path) as file:
        if (size := os.fstat(file.fileno()).st_size) > limit:
            raise CheckpointError(f"{path} has {size:,} bytes, at most {limit:,} are read.")
        tensors = {}
        for name, entry in _safetensors(path, file, size)[0].items():
            tensors[name] = torch.empty(entry.shape, dtype=entry.dtype)
            file.seek(entry.offset)
            _fill(file, tensors[name], entry)
        return tensors


def read_tensor(entry: TensorEntry) -> Tensor:
    """The tensor on the CPU, as stored. Raises as `read_into`."""
    tensor = torch.empty(entry.shape, dtype=entry.dtype)
    read_into(entry, tensor)
    return tensor


def read_into(entry: TensorEntry, out: Tensor) -> None:
    """Fill `out` (contiguous, on the CPU, entry.shape) from the file; another dtype is cast piece by piece.

    Raises CheckpointError where the file ends too early or cannot be read; ValueError for an unfit `out`.
    """
    if out.device.type != "cpu" or not out.is_contiguous() or tuple(out.shape) != entry.shape:
        raise ValueError(f"{entry.name} {entry.shape} cannot be read into {tuple(out.shape)} on {out.device}")
    if not out.numel():
        return
    with reading(entry.file), open_regular(entry.file) as file:
        file.seek(entry.offset)
        if out.dtype == entry.dtype:
            _fill(file, out, entry)
            return
        flat = out.view(-1)
        scratch = torch.empty(min(flat.numel(), CAST_BYTES // entry.dtype.itemsize), dtype=entry.dtype)
        for begin in range(0, flat.numel(), scratch.numel()):
            piece = flat[begin : begin + scratch.numel()]
            _fill(file, scratch[: piece.numel()], entry)
            piece.copy_(scratch[: piece.numel()])


def header_bytes(path: Path) -> tuple[bytes, int]:
    """The bytes of a file that describe its content, for a fingerprint, and the offset where its data begin.

    safetensors: the json header. PyTorch .bin: the zip directory at its end, which holds a checksum per tensor.
    Raises CheckpointError.
    """
    with reading(path):
        if path.suffix != ".safetensors":
            return header_of_bin(path)
        with open_regular(path) as file:
            length = _header_length(path, file, os.fstat(file.fileno()).st_size)
            return read_up_to(file, length), 8 + length


def first_names(names: list[str], count: int = 5) -> str:
    """The first few names as text, with the number left out; a long name is cut."""
    rest = len(names) - count
    shown = [name if len(name) <= NAME_LENGTH else f"{name[:NAME_LENGTH]}…" for name in names[:count]]
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")


def _fill(file: Any, out: Tensor, entry: TensorEntry) -> None:
    buffer = out.view(-1).view(torch.uint8).numpy().data
    done = 0
    while done < len(buffer):
        count = file.readinto(buffer[done:])
        if not count:
            raise CheckpointError(f"{entry.file} ended while {entry.name} was read from it. Download it again.")
        done += count


def _header_length(path: Path, file: BinaryIO, size: int) -> int:
    """The u64 at the start of a safetensors file, which its header (json) follows, then the data."""
    start = file.read(8)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else HEADER_LIMIT + 1
    if length > HEADER_LIMIT:
        raise CheckpointError(f"{path} ({size} bytes) is no safetensors file. Download it again.")
    if 8 + length > size:
        raise _cut_short(path, 8 + length, size)
    return length


def _safetensors(path: Path, file: BinaryIO, size: int) -> tuple[dict[str, TensorEntry], dict[str, str]]:
    """Table and metadata."""
    length = _header_length(path, file, size)
    with reading(path, "has a header that cannot be read"):
        text = read_up_to(file, length)
        if not text.startswith(b"{"):  # as the format says; before the parser spends its time on anything else
            raise ValueError("it holds no object")
        header = json.loads(text)
        metadata = header.pop("__metadata__", None) or {}
        if not all(isinstance(text, str) for text in metadata.values()):
            raise ValueError("its metadata are no texts")
        table = {name: _entry(name, path, fields, 8 + length) for name, fields in header.items()}
    end = 8 + length
    for entry in sorted(table.values(), key=lambda entry: (entry.offset, entry.nbytes)):
        if entry.offset != end:
            raise CheckpointError(
                f"{path} has a header whose tensors overlap or leave gaps, at {first_names([entry.name])}. "
                "Download it again."
            )
        end += entry.nbytes
    if end > size:
        raise _cut_short(path, end, size)
    if end < size:
        raise CheckpointError(f"{path} has {size} bytes, its header describes {end}. Download it again.")
    return table, metadata


def _entry(name: str, path: Path, fields: Mapping[str, Any], base: int) -> TensorEntry:
    dtype, shape = DTYPES[fields["dtype"]], tuple(fields["shape"])
    begin, end = fields["data_offsets"]
    known = (isinstance(n, int) and 0 <= n < MOST_BYTES for n in (*shape[:MOST_DIMENSIONS], begin, end))
    if len(shape) > MOST_DIMENSIONS or not all(known):
        raise ValueError(f"{first_names([name])} has a size or place that is no number")
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{first_names([name])} of shape {shape} takes {end - begin} bytes")
    return TensorEntry(name, path, dtype, shape, base + begin, end - begin)


def _pickle_table(path: Path, file: BinaryIO, size: int) -> dict[str, TensorEntry]:
    try:
        archive = Archive(file)
        tensors = read_pickle(archive.pickle())
    except zipfile.BadZipFile:
        reason = f"{path} ({size} bytes) is cut short or no PyTorch file: the directory at its end is missing."
        raise CheckpointError(f"{reason} Download it again.") from None
    except NotTensors as error:
        raise CheckpointError(f"{path} holds more than tensors ({error}) and was not opened. Do not use it.") from None
    table = {name: _pickle_entry(name, path, tensor, archive) for name, tensor in tensors.items()}
    end = max((entry.offset + entry.nbytes for entry in table.values()), default=0)
    if end > size:
        raise _cut_short(path, end, size)
    return table


def _pickle_entry(name: str, path: Path, tensor: PickledTensor, archive: Archive) -> TensorEntry:
    said = first_names([name])
    if not tensor.is_contiguous:
        raise CheckpointError(f"{path} stores {said} with gaps. Save it again with contiguous tensors.")
    dtype = tensor.storage.dtype
    place, room = archive.place(f"data/{tensor.storage.key}")
    begin, nbytes = tensor.offset * dtype.itemsize, tensor.elements * dtype.itemsize
    if begin + nbytes > room:
        raise CheckpointError(
            f"{path} stores {said} in {room:,} bytes, it needs {begin + nbytes:,}. Download it again."
        )
    return TensorEntry(name, path, dtype, tensor.shape, place + begin, nbytes)


def _cut_short(path: Path, expected: int, actual: int) -> CheckpointError:
    return CheckpointError(f"{path} is cut short: {expected:,} bytes expected, {actual:,} there. Download it again.")
