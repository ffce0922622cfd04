"""Where a unit's bytes come from: RAM kept for it, the page cache, or the disk past the page cache.

All three end in the public weight files, read by plain reads: a mapped file that shrinks kills the process, a read
that comes up short is an error with a sentence. Every read of a unit ends with a look at its files: one that was cut,
rewritten or replaced since it was opened is never computed with.
"""

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from torch import Tensor

from models.checkpoint import TensorEntry
from studio.errors import StudioError
from studio.memory.allocator import Account, Kind, Lease, Machine
from studio.memory.streaming.layout import Field, Layout

BOUNCE_BYTES = 8 << 20  # of the buffer for reads that change dtype or bypass the page cache
BLOCK = 4096  # alignment that direct reads need at most, on the disks of today
READ_BUFFERS = 512  # buffers of one preadv; the kernel's limit (IOV_MAX) is 1024

Borrow = Callable[[], Tensor]


class Shard:
    """One weight file, as it was when it was opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _open(path, os.O_RDONLY)
        self._direct: int | None = None
        self._bypasses = hasattr(os, "O_DIRECT")
        self._stamp = _stamp(os.fstat(self._file))
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_SEQUENTIAL)  # reads twice as far ahead

    def check(self) -> None:
        """Raise StudioError where the path no longer leads to the bytes that were opened."""
        try:
            now = _stamp(os.stat(self.path))
        except OSError as error:
            raise _failure(f"{self.path} is gone while it is in use ({error.strerror}). Put it back.") from None
        if now != self._stamp:
            was, size = self._stamp[0], now[0]
            change = f"from {was:,} to {size:,} bytes" if was != size else "though its size is the same"
            raise _failure(f"{self.path} changed while it was in use, {change}. Start again with the files at rest.")

    def read(self, machine: Machine, buffers: Sequence[memoryview], offset: int, *, direct: bool = False) -> int:
        """Bytes read into the buffers; 0 at the end. `direct` leaves nothing of them in the page cache."""
        if direct and self._bypasses:
            try:
                if self._direct is None:
                    self._direct = os.open(self.path, os.O_RDONLY | os.O_DIRECT)
                return machine.read(self._direct, buffers, offset)
            except OSError as error:
                if error.errno != errno.EINVAL:  # which says that this file system has no direct reads
                    raise
                self._bypasses = False
        count = machine.read(self._file, buffers, offset)
        if direct and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._file, offset, count, os.POSIX_FADV_DONTNEED)
        return count

    def close(self) -> None:
        """Let go of the file."""
        for file in (self._file, self._direct):
            if file is not None:
                os.close(file)
        self._direct = None


@dataclass
class Run:
    """Tensors that lie in one shard without a gap, with their places in the flat buffer."""

    shard: Shard
    parts: list[tuple[TensorEntry, Field]] = field(default_factory=list)

    @property
    def start(self) -> int:
        return self.parts[0][0].offset

    @property
    def end(self) -> int:
        return self.parts[-1][0].offset + self.parts[-1][0].nbytes

    @property
    def is_straight(self) -> bool:
        """Whether the bytes of the file are the bytes of the buffer."""
        return all(entry.dtype == place.dtype for entry, place in self.parts)


class UnitReader:
    """Fills flat buffers with units from their shards; used by one thread at a time."""

    def __init__(
        self,
        layout: Layout,
        units: Iterable[Sequence[TensorEntry]],
        account: Account,
        *,
        bounce_bytes: int = BOUNCE_BYTES,
    ) -> None:
        """units: entries in the order of the layout's fields. bounce_bytes: a multiple of BLOCK, two or more."""
        self.layout, self._account, self._bounce_size = layout, account, bounce_bytes
        self._shards: dict[Path, Shard] = {}
        self._bounce: Lease | None = None
        try:
            self._units = [self._runs(entries) for entries in units]
        except StudioError:
            self.close()
            raise

    def read(self, unit: int, into: Tensor, *, direct: bool = False) -> None:
        """Fill `into` (uint8, layout.nbytes, in RAM or on a device) with a unit.

        Raises StudioError when a file cannot be read, ended early, or is not what it was.
        """
        views = self.layout.views(into)
        for run in self._units[unit]:
            try:
                if run.is_straight and not direct and into.device.type == "cpu":
                    self._read_straight(run, into)
                else:
                    self._read_bounced(run, views, direct)
            except OSError as error:
                reason = error.strerror or error
                raise _failure(f"{run.shard.path} cannot be read: {reason}. Check the disk and try again.") from error
        for shard in {id(run.shard): run.shard for run in self._units[unit]}.values():
            shard.check()

    def check(self) -> None:
        """Raise StudioError where a file is not what it was when it was opened."""
        for shard in self._shards.values():
            shard.check()

    @property
    def bounce_bytes(self) -> int:
        """What the buffer for indirect reads takes, once there was one."""
        return self._bounce_size if self._bounce is not None else 0

    def close(self) -> None:
        """Let go of files and buffer."""
        for shard in self._shards.values():
            shard.close()
        self._shards.clear()
        if self._bounce is not None:
            self._bounce.release()
            self._bounce = None

    def _runs(self, entries: Sequence[TensorEntry]) -> list[Run]:
        runs: list[Run] = []
        pairs = zip(entries, self.layout.fields, strict=True)
        for entry, place in sorted(pairs, key=lambda pair: (str(pair[0].file), pair[0].offset)):
            shard = self._shards.get(entry.file) or self._shards.setdefault(entry.file, Shard(entry.file))
            if not runs or runs[-1].shard is not shard or runs[-1].end != entry.offset:
                runs.append(Run(shard))
            runs[-1].parts.append((entry, place))
        return runs

    def _read_straight(self, run: Run, into: Tensor) -> None:
        memory = memoryview(into.numpy())
        buffers = [memory[place.offset : place.offset + place.nbytes] for _, place in run.parts]
        buffers = [buffer for buffer in buffers if len(buffer)]
        offset = run.start
        while buffers:
            count = run.shard.read(self._account.machine, buffers[:READ_BUFFERS], offset)
            if count <= 0:
                raise _ended(run.shard, offset)
            offset += count
            while buffers and count >= len(buffers[0]):
                count -= len(buffers.pop(0))
            if count:
                buffers[0] = buffers[0][count:]

    def _read_bounced(self, run: Run, views: dict[str, Tensor], direct: bool) -> None:
        """Aligned windows of the file through the bounce buffer; whole elements of each go to their places, cast."""
        bounce = self._take_bounce()
        offset = run.start
        while offset < run.end:
            start = offset - offset % BLOCK
            size = min(-(-(run.end - start) // BLOCK) * BLOCK, self._bounce_size)
            end = min(start + self._read_window(run.shard, bounce[:size], start, direct), run.end)
            if end < min(start + size, run.end):
                raise _ended(run.shard, end)
            offset = _scatter(run, bounce, start, offset, end, views)

    def _read_window(self, shard: Shard, bounce: Tensor, start: int, direct: bool) -> int:
        """Fill the bounce buffer from `start`, to its end or the file's; bytes read."""
        memory, done = memoryview(bounce.numpy()), 0
        while done < len(memory):
            count = shard.read(self._account.machine, [memory[done:]], start + done, direct=direct)
            done += count
            if count <= 0 or done % BLOCK:  # the end of the file; a direct read could not go on from here anyway
                break
        return done

    def _take_bounce(self) -> Tensor:
        if self._bounce is None:
            self._bounce = self._account.take(Kind.STAGING, self._bounce_size)
        return self._bounce.memory


class Source(Protocol):
    """Gives units as flat host memory."""

    def ready(self, unit: int) -> Tensor | None:
        """Registered memory that holds the unit now and will go on holding it, or None."""

    def fetch(self, unit: int, borrow: Borrow) -> Tensor:
        """Host memory that holds the unit: what `borrow` gave, filled, or memory of the source's own."""

    def keep(self, units: set[int]) -> None:
        """Let go of what is kept for other units."""


class FileSource:
    """Reads a unit anew each time it is asked for; `direct` past the page cache, else through it."""

    def __init__(self, reader: UnitReader, *, direct: bool) -> None:
        self._reader, self._direct = reader, direct

    def ready(self, unit: int) -> Tensor | None:
        return None

    def fetch(self, unit: int, borrow: Borrow) -> Tensor:
        into = borrow()
        self._reader.read(unit, into, direct=self._direct)
        return into

    def keep(self, units: set[int]) -> None:
        return None


class PinnedSource:
    """Keeps each unit in registered RAM of its own after the first read of it.

    Registering existing pages costs their bytes and no more; PyTorch's pinned allocator would round each unit up to a
    power of two (1.7 times the bytes for these networks). Where registering is refused, units go through the borrowed
    buffer.
    """

    def __init__(self, reader: UnitReader, account: Account) -> None:
        self._reader, self._account = reader, account
        self._arenas: dict[int, Lease] = {}

    @property
    def units(self) -> tuple[int, ...]:
        """The units that are kept."""
        return tuple(self._arenas)

    def ready(self, unit: int) -> Tensor | None:
        arena = self._arenas.get(unit)
        return arena.memory if arena is not None and arena.registered else None

    def fetch(self, unit: int, borrow: Borrow) -> Tensor:
        arena = self._arenas.get(unit) or self._fill(unit)
        if arena.registered:
            return arena.memory
        into = borrow()
        into.copy_(arena.memory)
        return into

    def keep(self, units: set[int]) -> None:
        for unit in set(self._arenas) - units:
            self._arenas.pop(unit).release()

    def _fill(self, unit: int) -> Lease:
        arena = self._account.take(Kind.ARENAS, self._reader.layout.nbytes, register=True)
        try:
            self._reader.read(unit, arena.memory, direct=True)
        except BaseException:
            arena.release()
            raise
        self._arenas[unit] = arena
        return arena


def _scatter(run: Run, bounce: Tensor, start: int, offset: int, end: int, views: dict[str, Tensor]) -> int:
    """Copy the file's bytes offset..end, which begin at `start` in the bounce buffer, to their places.

    Returns where to go on: `end`, or the beginning of an element that was cut by it.
    """
    for entry, place in run.parts:
        width = entry.dtype.itemsize
        first = max(offset, entry.offset)
        count = (min(end, entry.offset + entry.nbytes) - first) // width
        if count <= 0:
            continue
        piece = bounce[first - start : first - start + count * width]
        if piece.storage_offset() % width:
            piece = piece.clone()
        begin = (first - entry.offset) // width
        views[place.name].view(-1)[begin : begin + count].copy_(piece.view(entry.dtype))
        offset = first + count * width
    return offset


def _open(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags)
    except OSError as error:
        raise _failure(f"{path} cannot be opened: {error.strerror}.") from None


def _stamp(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev


def _ended(shard: Shard, offset: int) -> StudioError:
    shard.check()
    return _failure(f"{shard.path} ends at byte {offset:,}, in the middle of a tensor. Download it again.")


def _failure(reason: str) -> StudioError:
    return StudioError("checkpoint", reason=reason)
