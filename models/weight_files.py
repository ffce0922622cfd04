"""Weight files: the table of tensors in one, checked against the file, and plain reads of their bytes.

Nothing is mapped into memory: a mapped file that is shorter than it claims kills the process (SIGBUS), a short read is
an error with a sentence.
"""

import json
import math
import pickle
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

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
HEADER_LIMIT = 100_000_000  # bytes; the safetensors format's own limit
CAST_BYTES = 4 << 20  # scratch of a read that changes the dtype
LFS_POINTER = b"version https://git-lfs"


class CheckpointError(Exception):
    """A checkpoint cannot be used; the message is a sentence with the file, the numbers and what to do."""


@dataclass(frozen=True)
class TensorEntry:
    """Where one tensor lies in a file. `name`: its key; `offset`: of its first byte in `file`."""

    name: str
    file: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int
    nbytes: int


def read_json(path: Path) -> dict[str, Any]:
    """A json object. Raises CheckpointError where there is none."""
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing. Download it.") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is no readable json file ({error}). Download it again.") from None
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} holds no json object. Download it again.")
    return data


def read_index(path: Path) -> dict[str, str]:
    """Tensor name -> shard file name of a `*.safetensors.index.json`; every shard named is a file beside it."""
    names = read_json(path).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise CheckpointError(f"{path} has no weight_map from tensor names to file names. Download it again.")
    shards = sorted(set(names.values()))
    if outside := [name for name in shards if name in ("", ".", "..") or Path(name).name != name or "\\" in name]:
        raise CheckpointError(f"{path} names {outside[0]!r}, which is no file beside it. Do not use this folder.")
    if absent := [name for name in shards if not (path.parent / name).is_file()]:
        raise CheckpointError(
            f"{path} names {len(absent)} files that are not there: {first_names(absent)}. Download them."
        )
    return names


def read_table(path: Path) -> dict[str, TensorEntry]:
    """Name -> entry of every tensor in a .safetensors file or a PyTorch .bin, checked against the file's length.

    Raises CheckpointError for a missing, truncated or foreign file and for a Git-LFS pointer.
    """
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            start = file.read(len(LFS_POINTER))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from None
    if start == LFS_POINTER:
        raise CheckpointError(
            f"{path} is a Git-LFS pointer of {size} bytes, not the weights: run `git lfs pull` there, or download it."
        )
    return _safetensors_table(path, size) if path.suffix == ".safetensors" else _pickle_table(path, size)


def read_into(entry: TensorEntry, out: Tensor) -> None:
    """Fill `out` (contiguous, on the CPU, entry.shape) from the file; another dtype is cast piece by piece.

    Raises CheckpointError where the file ends too early; ValueError for an unfit `out`.
    """
    if out.device.type != "cpu" or not out.is_contiguous() or tuple(out.shape) != entry.shape:
        raise ValueError(f"{entry.name} {entry.shape} cannot be read into {tuple(out.shape)} on {out.device}")
    if not out.numel():
        return
    with open(entry.file, "rb", buffering=0) as file:
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
    """
    with open(path, "rb") as file:
        if path.suffix == ".safetensors":
            length = struct.unpack("<Q", file.read(8))[0]
            return file.read(length), 8 + length
        with zipfile.ZipFile(file) as archive:
            file.seek(archive.start_dir)
            return file.read(), 0


def first_names(names: list[str], count: int = 5) -> str:
    """The first few names as text, with the number left out."""
    rest = len(names) - count
    return ", ".join(names[:count]) + (f" and {rest} more" if rest > 0 else "")


def _fill(file: Any, out: Tensor, entry: TensorEntry) -> None:
    buffer = out.view(-1).view(torch.uint8).numpy().data
    done = 0
    while done < len(buffer):
        count = file.readinto(buffer[done:])
        if not count:
            raise CheckpointError(f"{entry.file} ended while {entry.name} was read from it. Download it again.")
        done += count


def _safetensors_table(path: Path, size: int) -> dict[str, TensorEntry]:
    # Format: u64 length of the header, the header (json), then the data, to which the offsets are relative.
    with open(path, "rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else HEADER_LIMIT + 1
        if length > HEADER_LIMIT:
            raise CheckpointError(f"{path} ({size} bytes) is no safetensors file. Download it again.")
        if 8 + length > size:
            raise _cut_short(path, 8 + length, size)
        text = file.read(length)
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        table = {name: _entry(name, path, fields, 8 + length) for name, fields in header.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"The header of {path} cannot be read ({reason}). Download it again.") from None
    end = max((entry.offset + entry.nbytes for entry in table.values()), default=8 + length)
    if end > size:
        raise _cut_short(path, end, size)
    if end < size:
        raise CheckpointError(f"{path} has {size} bytes, its header describes {end}. Download it again.")
    return table


def _entry(name: str, path: Path, fields: Mapping[str, Any], base: int) -> TensorEntry:
    dtype, shape = DTYPES[fields["dtype"]], tuple(fields["shape"])
    begin, end = fields["data_offsets"]
    if not all(isinstance(n, int) and n >= 0 for n in (*shape, begin, end)):
        raise ValueError(f"{name} has a size or place that is no number")
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name} of shape {shape} takes {end - begin} bytes")
    return TensorEntry(name, path, dtype, shape, base + begin, end - begin)


def _pickle_table(path: Path, size: int) -> dict[str, TensorEntry]:
    """Only the pickle of names and shapes is read, with torch's allowlist; the weights stay untouched.

    Under FakeTensorMode torch.load makes tensors without data whose storages know their place in the file
    (PyTorch notes, "Serialization semantics").
    """
    try:
        zipfile.ZipFile(path).close()  # the directory at the end is there, so the file is whole
        with FakeTensorMode():
            tensors = torch.load(path, weights_only=True, map_location="cpu")
        items = {name: tensor for name, tensor in tensors.items() if isinstance(tensor, Tensor)}
    except zipfile.BadZipFile:
        reason = f"{path} ({size} bytes) is cut short or no PyTorch file: the directory at its end is missing."
        raise CheckpointError(f"{reason} Download it again.") from None
    except pickle.UnpicklingError:
        raise CheckpointError(f"{path} holds more than tensors and was not opened. Do not use this file.") from None
    except (OSError, ValueError, RuntimeError, AttributeError, EOFError) as error:
        raise CheckpointError(f"{path} cannot be read ({str(error).splitlines()[0]}). Download it again.") from None
    table = {name: _pickle_entry(name, path, tensor) for name, tensor in items.items()}
    end = max((entry.offset + entry.nbytes for entry in table.values()), default=0)
    if end > size:
        raise _cut_short(path, end, size)
    return table


def _pickle_entry(name: str, path: Path, tensor: Tensor) -> TensorEntry:
    if not tensor.is_contiguous():
        raise CheckpointError(f"{path} stores {name} with gaps. Save it again with contiguous tensors.")
    start, width = tensor.untyped_storage()._checkpoint_offset, tensor.dtype.itemsize
    if start is None:
        raise CheckpointError(f"{path} does not say where {name} lies. Save it again with torch.save.")
    offset, nbytes = start + int(tensor.storage_offset()) * width, tensor.numel() * width
    return TensorEntry(name, path, tensor.dtype, tuple(tensor.shape), offset, nbytes)


def _cut_short(path: Path, expected: int, actual: int) -> CheckpointError:
    return CheckpointError(f"{path} is cut short: {expected:,} bytes expected, {actual:,} there. Download it again.")
