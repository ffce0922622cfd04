"""Reads a unit's bytes from the public weight files with plain reads.

A memory-mapped file that shrinks kills the process; a read that returns too little is an error with a message. After
each read of a unit its files are checked: weights of a file that was truncated, rewritten or replaced since it was
opened are never computed with.
"""

import errno
import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from models.checkpoint import TensorEntry
from studio.errors import StudioError
from studio.memory.allocator import Allocator, Buffer, BufferKind, Machine
from studio.memory.streaming.arena import TAG_BYTES
from studio.memory.streaming.layout import Field, UnitLayout

WINDOW_BYTES = 8 << 20  # read at once where reads change the dtype or bypass the page cache
WINDOWS = 2  # one is copied from while the next is read into the other
BOUNCE_BYTES = WINDOWS * WINDOW_BYTES
BLOCK = 4096  # bytes; the largest alignment that direct reads need on current disks
READ_BUFFERS = 512  # buffers of one preadv; the kernel's limit (IOV_MAX) is 1024


class Shard:
    """An open weight file. `check` compares the path with the file that was opened, which `stamp` tells apart."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _open(path, os.O_RDONLY)
        self._direct: int | None = None
        self._bypasses = hasattr(os, "O_DIRECT")
        self.stamp = _stamp(os.fstat(self._file))
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_SEQUENTIAL)  # the kernel reads twice as far ahead

    def check(self) -> None:
        """Raise StudioError where the path no longer names the bytes that were opened."""
        try:
            now = _stamp(os.stat(self.path))
        except OSError as error:
            raise _failure(f"{self.path} was removed while it was in use ({error.strerror}). Put it back.") from None
        if now != self.stamp:
            was, size = self.stamp[0], now[0]
            change = f"from {was:,} to {size:,} bytes" if was != size else "though its size is the same"
            raise _failure(f"{self.path} changed while it was in use, {change}. Start again once it is complete.")

    def read(self, machine: Machine, buffers: Sequence[memoryview], offset: int, *, direct: bool = False) -> int:
        """Read into the buffers; returns the bytes read, 0 at the end. direct: leaves nothing in the page cache."""
        if direct and self._bypasses:
            try:
                if self._direct is None:
                    self._direct = os.open(self.path, os.O_RDONLY | os.O_DIRECT)
                return machine.read(self._direct, buffers, offset)
            except OSError as error:
                if error.errno != errno.EINVAL:  # EINVAL: this file system has no direct reads
                    raise
                self._bypasses = False
        count = machine.read(self._file, buffers, offset)
        if direct and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._file, offset, count, os.POSIX_FADV_DONTNEED)
        return count

    def close(self) -> None:
        """Close the file."""
        for file in (self._file, self._direct):
            if file is not None:
                os.close(file)
        self._direct = None


@dataclass
class Extent:
    """Tensors that are adjacent in one shard, with their places in the flat buffer."""

    shard: Shard
    parts: list[tuple[TensorEntry, Field]] = field(default_factory=list)

    @property
    def start(self) -> int:
        return self.parts[0][0].offset

    @property
    def end(self) -> int:
        return self.parts[-1][0].offset + self.parts[-1][0].nbytes

    def whole_until(self, end: int) -> int:
        """The file's byte `end`, or the start of the element that it cuts."""
        for entry, _ in self.parts:
            if entry.offset < end < entry.offset + entry.nbytes:
                return end - (end - entry.offset) % entry.dtype.itemsize
        return end

    @property
    def is_straight(self) -> bool:
        """Whether the file's bytes go into the buffer unchanged, without a cast."""
        return all(entry.dtype == place.dtype for entry, place in self.parts)


class UnitReader:
    """Reads units from their shards into flat buffers. Not thread-safe.

    What cannot be read straight into place goes through a bounce buffer of two windows: a second thread copies one to
    its places while the next is read.
    """

    def __init__(
        self,
        layout: UnitLayout,
        units: Iterable[Sequence[TensorEntry]],
        allocator: Allocator,
        *,
        window_bytes: int = WINDOW_BYTES,
    ) -> None:
        """units: entries in the order of the layout's fields. window_bytes: a multiple of BLOCK, two or more."""
        self.layout, self._allocator, self._window_bytes = layout, allocator, window_bytes
        self._shards: dict[Path, Shard] = {}
        self._bounce: Buffer | None = None
        self._copier: Executor | None = None
        try:
            self._units = [self._extents(entries) for entries in units]
        except StudioError:
            self.close()
            raise

    def read(self, unit: int, into: Tensor, *, direct: bool = False) -> None:
        """Read a unit into `into`: uint8 (layout.nbytes,), in RAM or on a device.

        Raises StudioError for a file that cannot be read, ends early, or changed since it was opened.
        """
        views = self.layout.views(into)
        for extent in self._units[unit]:
            try:
                if extent.is_straight and not direct and into.device.type == "cpu":
                    self._read_straight(extent, into)
                else:
                    self._read_bounced(extent, views, direct)
            except OSError as error:
                reason = error.strerror or error
                raise _failure(
                    f"{extent.shard.path} cannot be read: {reason}. Check the disk and try again."
                ) from error
        for shard in {id(extent.shard): extent.shard for extent in self._units[unit]}.values():
            shard.check()

    def check(self) -> None:
        """Raise StudioError where a file changed since it was opened."""
        for shard in self._shards.values():
            shard.check()

    @property
    def tag(self) -> bytes:
        """TAG_BYTES bytes for the files that were opened and the layout: equal where another reader's units are."""
        known = [self.layout, *((str(path), shard.stamp) for path, shard in sorted(self._shards.items()))]
        return hashlib.blake2b(repr(known).encode(), digest_size=TAG_BYTES).digest()

    @property
    def bounce_bytes(self) -> int:
        """Bytes of the bounce buffer; 0 before its first use."""
        return WINDOWS * self._window_bytes if self._bounce is not None else 0

    def close(self) -> None:
        """Close the files and release the bounce buffer."""
        for shard in self._shards.values():
            shard.close()
        self._shards.clear()
        if self._bounce is not None:
            self._bounce.release()
            self._bounce = None
        if self._copier is not None:
            self._copier.shutdown()
            self._copier = None

    def _extents(self, entries: Sequence[TensorEntry]) -> list[Extent]:
        extents: list[Extent] = []
        pairs = zip(entries, self.layout.fields, strict=True)
        for entry, place in sorted(pairs, key=lambda pair: (str(pair[0].file), pair[0].offset)):
            shard = self._shards.get(entry.file) or self._shards.setdefault(entry.file, Shard(entry.file))
            if not extents or extents[-1].shard is not shard or extents[-1].end != entry.offset:
                extents.append(Extent(shard))
            extents[-1].parts.append((entry, place))
        return extents

    def _read_straight(self, extent: Extent, into: Tensor) -> None:
        memory = into.numpy().data
        buffers = [memory[place.offset : place.offset + place.nbytes] for _, place in extent.parts]
        buffers = [buffer for buffer in buffers if len(buffer)]
        offset = extent.start
        while buffers:
            count = extent.shard.read(self._allocator.machine, buffers[:READ_BUFFERS], offset)
            if count <= 0:
                raise _ended(extent.shard, offset)
            offset += count
            while buffers and count >= len(buffers[0]):
                count -= len(buffers.pop(0))
            if count:
                buffers[0] = buffers[0][count:]

    def _read_bounced(self, extent: Extent, views: dict[str, Tensor], direct: bool) -> None:
        """Read aligned windows of the file and copy their whole elements, cast, to the views."""
        windows = self._windows()
        copies: list[Future[None] | None] = [None] * WINDOWS
        offset, turn = extent.start, 0
        try:
            while offset < extent.end:
                if (pending := copies[turn]) is not None:
                    pending.result()
                start = offset - offset % BLOCK
                size = min(-(-(extent.end - start) // BLOCK) * BLOCK, self._window_bytes)
                end = min(start + self._read_window(extent.shard, windows[turn][:size], start, direct), extent.end)
                if end < min(start + size, extent.end):
                    raise _ended(extent.shard, end)
                if extent.start == offset and end == extent.end:
                    return _scatter(extent, windows[turn], start, offset, end, views)
                copies[turn] = self._copy_thread().submit(_scatter, extent, windows[turn], start, offset, end, views)
                offset, turn = extent.whole_until(end), (turn + 1) % WINDOWS
        finally:
            for pending in copies:
                if pending is not None:
                    pending.result()

    def _read_window(self, shard: Shard, bounce: Tensor, start: int, direct: bool) -> int:
        """Read from `start` to the end of the bounce buffer or of the file; returns the bytes read."""
        memory, done = bounce.numpy().data, 0
        while done < len(memory):
            count = shard.read(self._allocator.machine, [memory[done:]], start + done, direct=direct)
            done += count
            if count <= 0 or done % BLOCK:  # the end of the file; a direct read cannot start at an unaligned offset
                break
        return done

    def _windows(self) -> tuple[Tensor, ...]:
        if self._bounce is None:
            self._bounce = self._allocator.allocate(BufferKind.STAGING, WINDOWS * self._window_bytes)
        return self._bounce.memory.split(self._window_bytes)

    def _copy_thread(self) -> Executor:
        if self._copier is None:
            self._copier = ThreadPoolExecutor(1, thread_name_prefix="unit-copier")
        return self._copier


@torch.inference_mode()  # per thread; tensors made in that mode can only be written in it
def _scatter(extent: Extent, window: Tensor, start: int, offset: int, end: int, views: dict[str, Tensor]) -> None:
    """Copy the file's bytes offset..end, whole elements alone, to the views; the window's first byte is `start`."""
    for entry, place in extent.parts:
        width = entry.dtype.itemsize
        first = max(offset, entry.offset)
        count = (min(end, entry.offset + entry.nbytes) - first) // width
        if count <= 0:
            continue
        piece = window[first - start : first - start + count * width]
        if piece.storage_offset() % width:
            piece = piece.clone()
        begin = (first - entry.offset) // width
        views[place.name].view(-1)[begin : begin + count].copy_(piece.view(entry.dtype))


def _open(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)  # what took a file's place meanwhile must not block
    except OSError as error:
        raise _failure(f"{path} cannot be opened: {error.strerror}.") from None


def _stamp(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev


def _ended(shard: Shard, offset: int) -> StudioError:
    shard.check()
    return _failure(f"{shard.path} ends at byte {offset:,}, in the middle of a tensor. Download it again.")


def _failure(reason: str) -> StudioError:
    return StudioError("checkpoint", reason=reason)
