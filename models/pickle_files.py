"""PyTorch's .bin and .pt files: where their tensors lie, without unpickling anything.

Such a file is a zip archive (PyTorch notes, "Serialization semantics"): NAME/data.pkl says name, shape and storage of
each tensor, NAME/data/KEY holds a storage, uncompressed. The pickle is a program that could call anything. Here its few
instructions that describe tensors are carried out on plain data; any other one refuses the file. No more memory is used
than the description itself takes.
"""

import math
import pickletools
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from models.regular_files import SMALL_FILE, open_regular, read_up_to

STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
ORDERED_DICT = "collections OrderedDict"
TENSOR = "torch._utils _rebuild_tensor_v2"
PARAMETER = "torch._utils _rebuild_parameter"
KNOWN = {ORDERED_DICT, TENSOR, PARAMETER, *(f"torch {name}" for name in STORAGES)}
PICKLE_LIMIT = 1 << 20  # bytes; that of the public CN-CLIP has about 150 KB, and each byte may be an instruction
MOST_DIMENSIONS = 8
MARK = object()
LOCAL_HEADER = struct.Struct("<4s22xHH")  # of a zip entry: signature, length of the name, of the extra field


class NotTensors(ValueError):
    """The pickle holds more than tensors under names."""


@dataclass(frozen=True)
class Global:
    """A name that the pickle would import."""

    name: str


@dataclass(frozen=True)
class Storage:
    """A piece of memory of the archive, of `elements` elements."""

    dtype: torch.dtype
    key: str
    elements: int


@dataclass(frozen=True)
class PickledTensor:
    """A tensor as the pickle describes it. Offset and strides count elements of its storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def is_contiguous(self) -> bool:
        """Whether its elements follow each other without gaps."""
        expected = 1
        for size, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if size != 1 and stride != expected:
                return 0 in self.shape
            expected *= size
        return True

    @property
    def elements(self) -> int:
        """How many it has."""
        return math.prod(self.shape)


class Archive:
    """The zip directory of an open file: where each entry's bytes lie. Raises zipfile.BadZipFile and ValueError."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        with zipfile.ZipFile(cast(BinaryIO, _SmallReads(file))) as archive:
            self._entries = {entry.filename: entry for entry in archive.infolist()}
            self.directory_offset = archive.start_dir
        pickles = [name for name in self._entries if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise NotTensors("it has no data.pkl")
        self._root = pickles[0].removesuffix("data.pkl")

    def pickle(self) -> bytes:
        """The description of the tensors."""
        offset, size = self.place("data.pkl")
        if size > PICKLE_LIMIT:
            raise ValueError(f"its data.pkl has {size:,} bytes, at most {PICKLE_LIMIT:,} are read")
        if "byteorder" in (name.removeprefix(self._root) for name in self._entries):
            order = self._read(*self.place("byteorder"))
            if order != b"little":
                raise ValueError("its numbers are not little-endian")
        return self._read(offset, size)

    def place(self, name: str) -> tuple[int, int]:
        """Offset and length of an entry's bytes in the file."""
        entry = self._entries.get(self._root + name)
        if entry is None:
            raise ValueError(f"it has no {name[:40]!r}")
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise ValueError(f"{name[:40]!r} is compressed")
        signature, *lengths = LOCAL_HEADER.unpack(self._read(entry.header_offset, LOCAL_HEADER.size))
        if signature != b"PK\x03\x04":
            raise ValueError(f"{name[:40]!r} is not where the directory says")
        return entry.header_offset + LOCAL_HEADER.size + sum(lengths), entry.file_size

    def _read(self, offset: int, size: int) -> bytes:
        self._file.seek(offset)
        if len(data := read_up_to(self._file, min(size, SMALL_FILE))) < size:
            raise zipfile.BadZipFile("an entry ends too early")
        return data


def read_pickle(data: bytes) -> dict[str, PickledTensor]:
    """Name -> tensor of a pickled state_dict; plain values beside the tensors are left out.

    Raises NotTensors where it holds anything else; IndexError, TypeError and others of a pickle that is cut or made up.
    """
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    operations: Iterator[tuple[pickletools.OpcodeInfo, Any, int | None]] = pickletools.genops(data)
    for operation, argument, _ in operations:
        match operation.name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return {
                    name: value for name, value in _as_dict(stack.pop()).items() if isinstance(value, PickledTensor)
                }
            case "MARK":
                stack.append(MARK)
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[operation.name])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "BINUNICODE" | "SHORT_BINUNICODE":
                stack.append(argument)
            case "GLOBAL":
                stack.append(_global(argument))
            case "STACK_GLOBAL":
                name = stack.pop()
                stack.append(_global(f"{stack.pop()} {name}"))
            case "BINPERSID":
                stack.append(_storage(stack.pop()))
            case "REDUCE":
                arguments = stack.pop()
                stack.append(_call(stack.pop(), arguments))
            case "BUILD":
                stack.pop()  # attributes of a state_dict: versions of its modules
            case _:
                _collect(operation.name, stack)
    raise ValueError("it has no end")


def header_of_bin(path: Path) -> tuple[bytes, int]:
    """The directory at the end, which holds a checksum per tensor, for a fingerprint; and where data begin: 0."""
    with open_regular(path) as file:
        offset = Archive(file).directory_offset
        file.seek(offset)
        return read_up_to(file, SMALL_FILE + (1 << 16)), 0


def _collect(name: str, stack: list[Any]) -> None:
    """The instructions that make tuples, lists and dicts."""
    match name:
        case "EMPTY_DICT" | "EMPTY_LIST" | "EMPTY_TUPLE":
            stack.append({"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}[name]())
        case "TUPLE1" | "TUPLE2" | "TUPLE3":
            stack[-int(name[-1]) :] = [tuple(stack[-int(name[-1]) :])]
        case "TUPLE":
            items = _since_mark(stack)
            stack.append(tuple(items))
        case "APPEND" | "APPENDS":
            items = [stack.pop()] if name == "APPEND" else _since_mark(stack)
            if not isinstance(stack[-1], list):
                raise NotTensors("it appends to what is no list")
            stack[-1].extend(items)
        case "SETITEM" | "SETITEMS":
            items = [*reversed([stack.pop(), stack.pop()])] if name == "SETITEM" else _since_mark(stack)
            target = _as_dict(stack[-1])
            for key, value in zip(items[::2], items[1::2], strict=True):
                if not isinstance(key, str):
                    raise NotTensors("it has a key that is no name")
                target[key] = value
        case _:
            raise NotTensors(f"it has the instruction {name}")


def _since_mark(stack: list[Any]) -> list[Any]:
    start = len(stack) - 1
    while stack[start] is not MARK:
        start -= 1
        if start < 0:
            raise IndexError("no mark")
    items = stack[start + 1 :]
    del stack[start:]
    return items


def _as_dict(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise NotTensors("it is no table of tensors")
    return value


def _global(name: str) -> Global:
    if name not in KNOWN:
        raise NotTensors(f"it would import {name[:60]}")
    return Global(name)


def _storage(described: Any) -> Storage:
    """From the tuple ("storage", type, key, device, elements)."""
    kind, dtype, key, _, elements = described
    if kind != "storage" or not isinstance(dtype, Global) or not isinstance(key, str) or not _is_count(elements):
        raise NotTensors("it has a storage of no known kind")
    return Storage(STORAGES[dtype.name.removeprefix("torch ")], key, elements)


def _call(function: Any, arguments: Any) -> Any:
    """What the three known functions would make, described."""
    if not isinstance(function, Global):
        raise NotTensors("it calls what is no function")
    if function.name == ORDERED_DICT and arguments == ():
        return {}
    if function.name == PARAMETER:
        return arguments[0]
    if function.name != TENSOR:
        raise NotTensors(f"it calls {function.name}")
    storage, offset, shape, strides = arguments[:4]
    fits = isinstance(shape, tuple) and isinstance(strides, tuple) and len(shape) == len(strides) <= MOST_DIMENSIONS
    if not isinstance(storage, Storage) or not fits or not all(map(_is_count, (offset, *shape, *strides))):
        raise NotTensors("it has a tensor of no known kind")
    return PickledTensor(storage, offset, shape, strides)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62


class _SmallReads:
    """A file for zipfile, which reads a directory as long as the file says it is: no read above SMALL_FILE bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, count: int = -1) -> bytes:
        data = read_up_to(self._file, SMALL_FILE + 1 if count < 0 else min(count, SMALL_FILE + 1))
        if len(data) > SMALL_FILE:
            raise ValueError(f"its directory has more than {SMALL_FILE >> 20} MB")
        return data
