"""Sources of a unit's bytes: pinned RAM, the page cache, or the disk directly. All three read through a UnitReader."""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Protocol

import torch
from torch import Tensor

from studio.memory.allocator import Allocator, Buffer, BufferKind
from studio.memory.streaming.arena import Arena
from studio.memory.streaming.reader import UnitReader

GetBuffer = Callable[[], Tensor]


class Source(Protocol):
    """Provides units as flat host memory, uint8 (layout.nbytes,)."""

    def registered(self, unit: int) -> Tensor | None:
        """Registered memory that holds the unit and will go on holding it; None: the unit has to be read."""

    def prepare(self, unit: int) -> None:
        """Start what a `read` of the unit needs and can be done before its turn, in another thread."""

    def read(self, unit: int, get_buffer: GetBuffer) -> Tensor:
        """Host memory that holds the unit: the source's own, or what `get_buffer` returned, filled."""

    def release_prepared(self) -> None:
        """Release what was prepared for reads that did not follow."""

    def release_except(self, units: set[int]) -> None:
        """Release the memory that the source holds for other units."""

    def release(self) -> None:
        """Release all memory and threads. The source cannot be used afterwards."""


class FileSource:
    """Reads the unit from disk each time; direct: bypassing the page cache."""

    def __init__(self, reader: UnitReader, *, direct: bool) -> None:
        self._reader, self._direct = reader, direct

    def registered(self, unit: int) -> Tensor | None:
        return None

    def prepare(self, unit: int) -> None:
        return None

    def read(self, unit: int, get_buffer: GetBuffer) -> Tensor:
        into = get_buffer()
        self._reader.read(unit, into, direct=self._direct)
        return into

    def release_prepared(self) -> None:
        return None

    def release_except(self, units: set[int]) -> None:
        return None

    def release(self) -> None:
        return None


class PinnedSource:
    """Reads each unit once and keeps it in registered RAM, its own or an arena's.

    Registering existing pages takes exactly their bytes; PyTorch's pinned allocator rounds each unit up to a power of
    two (1.7 times the bytes for these networks). It takes the kernel longer than a fast disk takes to read the unit, so
    the next unit's memory is registered in a thread of its own. Where the driver refuses, a unit is copied into the
    buffer of `get_buffer`.
    """

    def __init__(
        self, reader: UnitReader, allocator: Allocator, registrar: Executor, arena: Arena | None = None
    ) -> None:
        """registrar: one thread, in which memory is allocated and registered. arena: the one copy of several processes,
        closed with the source; each process registers what it maps, and one of them reads.
        """
        self._reader, self._allocator, self._registrar, self._arena = reader, allocator, registrar, arena
        self._buffers: dict[int, Buffer] = {}
        self._prepared: dict[int, Future[Buffer]] = {}

    @property
    def units(self) -> tuple[int, ...]:
        """The units in RAM."""
        return tuple(self._buffers)

    def registered(self, unit: int) -> Tensor | None:
        buffer = self._buffers.get(unit)
        return buffer.memory if buffer is not None and buffer.registered else None

    def prepare(self, unit: int) -> None:
        if unit not in self._buffers and unit not in self._prepared:
            self._prepared[unit] = self._registrar.submit(self._allocate, unit)

    def read(self, unit: int, get_buffer: GetBuffer) -> Tensor:
        buffer = self._buffers.get(unit) or self._load(unit)
        if buffer.registered:
            return buffer.memory
        into = get_buffer()
        into.copy_(buffer.memory)
        return into

    def release_prepared(self) -> None:
        while self._prepared:
            unit, pending = self._prepared.popitem()
            if not pending.cancel() and pending.exception() is None:
                self._release(unit, pending.result())

    def release_except(self, units: set[int]) -> None:
        for unit in set(self._buffers) - units:
            self._release(unit, self._buffers.pop(unit))

    def release(self) -> None:
        self.release_prepared()
        self.release_except(set())
        self._registrar.shutdown()
        if self._arena is not None:
            self._arena.close()

    def _allocate(self, unit: int) -> Buffer:
        nbytes = self._reader.layout.nbytes
        if self._arena is None:
            return self._allocator.allocate(BufferKind.PINNED, nbytes, register=True)
        return self._allocator.adopt(
            BufferKind.PINNED, torch.frombuffer(self._arena.map(unit), dtype=torch.uint8, count=nbytes), register=True
        )

    def _release(self, unit: int, buffer: Buffer) -> None:
        buffer.release()
        if self._arena is not None:
            self._arena.release(unit)

    def _load(self, unit: int) -> Buffer:
        prepared = self._prepared.pop(unit, None)
        try:
            buffer = self._allocate(unit) if prepared is None else prepared.result()
        finally:
            del prepared  # the traceback of an error holds this frame, which would hold the error
        try:
            if self._arena is None:
                self._reader.read(unit, buffer.memory, direct=True)
            else:
                self._reader.check()  # what another process has read is of the files that were opened here
                self._arena.fill(unit, self._reader.tag, lambda: self._reader.read(unit, buffer.memory, direct=True))
        except BaseException:
            self._release(unit, buffer)
            raise
        self._buffers[unit] = buffer
        return buffer
