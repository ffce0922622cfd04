"""Allocates the buffers of the memory runtime, counts their bytes by kind, and holds the few calls to OS and driver.

Every buffer that outlives one block's computation is allocated and released here. `Allocator.check` compares the counts
with the storages that still exist: a buffer that was released but is still referenced is a leak.
"""

import gc
import mmap
import os
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef


class BufferKind(StrEnum):
    """What a buffer is for. The first four are device memory, the others RAM."""

    RESIDENT = "resident"  # weights that stay on the device
    SLOTS = "slots"  # streamed units, one after the other
    SCRATCH = "scratch"  # dequantised weights
    TEXTS = "texts"  # keys and values of the cross-attention
    PINNED = "pinned"  # weights kept in RAM, registered where the driver allows it
    STAGING = "staging"  # units between disk and device


ON_DEVICE = (BufferKind.RESIDENT, BufferKind.SLOTS, BufferKind.SCRATCH, BufferKind.TEXTS)


class IntegrityError(RuntimeError):
    """Counted and existing bytes differ: a defect of this program. The message has both numbers."""


class Machine:
    """Calls to the operating system and the driver. Tests pass a subclass that refuses or fails.

    Allocating raises MemoryError or torch.OutOfMemoryError; reading raises OSError; registering may be refused.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def host_memory(self, nbytes: int) -> Tensor:
        """Page-aligned RAM as uint8 (nbytes,), all zero; the system gets it back when the last reference is gone."""
        try:
            memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError as error:
            raise MemoryError(f"{nbytes:,} bytes of RAM were refused: {error.strerror}") from None
        # No huge pages: where the page cache fills the RAM, searching for them delayed the first write by up to 4 s/GB.
        return torch.frombuffer(memory, dtype=torch.uint8)

    def device_memory(self, nbytes: int) -> Tensor:
        """Device memory as uint8 (nbytes,), contents undefined."""
        if self.device.type == "cpu":
            return self.host_memory(nbytes)
        return torch.empty(nbytes, dtype=torch.uint8, device=self.device)

    def register(self, memory: Tensor) -> bool:
        """Page-lock host memory for asynchronous copies; False where the driver refuses or there is no GPU."""
        if self.device.type != "cuda":
            return False
        with torch.cuda.device(self.device):
            if int(torch.cuda.cudart().cudaHostRegister(memory.data_ptr(), memory.nbytes, 0)) == 0:
                return True
            # CUDA keeps the refusal as this thread's last error, and the next kernel launch would raise it as its own.
            with suppress(RuntimeError):
                torch.ones(1, device=self.device)
        return False

    def unregister(self, memory: Tensor) -> None:
        """Undo `register`."""
        with torch.cuda.device(self.device):
            torch.cuda.cudart().cudaHostUnregister(memory.data_ptr())

    def read(self, file: int, buffers: Sequence[memoryview], offset: int) -> int:
        """Read from an open file into the buffers in order; returns the bytes read, fewer than asked near its end."""
        return os.preadv(file, buffers, offset)


class Buffer:
    """Memory of one kind: `memory` is uint8 (nbytes,). Registered memory can be copied from asynchronously."""

    def __init__(self, allocator: "Allocator", kind: BufferKind, memory: Tensor, registered: bool) -> None:
        self._allocator = allocator
        self.kind, self.memory, self.registered = kind, memory, registered
        # Memory that is unmapped while it is registered leaves its addresses to the driver: whatever is mapped there
        # next cannot be registered, and copies of it would come from the old pages. So a buffer that is dropped without
        # `release` is unregistered too, before its memory goes.
        self._unregister = weakref.finalize(self, allocator.machine.unregister, memory) if registered else None
        if self._unregister is not None:
            self._unregister.atexit = False  # the driver ends with the process

    def release(self) -> None:
        """Free the memory. A view of it that still exists is a leak, which `Allocator.check` reports."""
        self._allocator._free(self)


class Allocator:
    """Allocates buffers and counts them. Thread-safe: the reading thread allocates too."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._lock = threading.Lock()
        self._buffers: dict[Buffer, int] = {}
        self._storages: list[tuple[BufferKind, int, StorageWeakRef]] = []

    def allocate(self, kind: BufferKind, nbytes: int, *, register: bool = False) -> Buffer:
        """A new buffer of nbytes > 0. Raises MemoryError or torch.OutOfMemoryError."""
        allocate = self.machine.device_memory if kind in ON_DEVICE else self.machine.host_memory
        return self.adopt(kind, allocate(nbytes), register=register)

    def adopt(self, kind: BufferKind, memory: Tensor, *, register: bool = False) -> Buffer:
        """A buffer of memory that is there: all of a storage as uint8 (nbytes,)."""
        buffer = Buffer(self, kind, memory, register and self.machine.register(memory))
        with self._lock:
            self._buffers[buffer] = memory.nbytes
            self._storages = [entry for entry in self._storages if not entry[2].expired()]
            self._storages.append((kind, memory.nbytes, StorageWeakRef(memory.untyped_storage())))
        return buffer

    def allocated(self, *kinds: BufferKind) -> int:
        """Bytes allocated and not released, of these kinds (none named: of all)."""
        with self._lock:
            return sum(nbytes for buffer, nbytes in self._buffers.items() if buffer.kind in (kinds or BufferKind))

    def alive(self, *kinds: BufferKind) -> int:
        """Bytes of these kinds whose storage still exists, released or not."""
        with self._lock:
            return sum(
                size
                for kind, size, storage in self._storages
                if kind in (kinds or BufferKind) and not storage.expired()
            )

    def check(self) -> None:
        """Raise IntegrityError where the allocated and the existing bytes of a kind differ."""
        if self._leaks():
            gc.collect()  # a finished traceback may hold views in a reference cycle
        if leaks := self._leaks():
            raise IntegrityError("Buffers outlived their use: " + "; ".join(leaks))

    def _leaks(self) -> list[str]:
        kinds = [(kind, self.allocated(kind), self.alive(kind)) for kind in BufferKind]
        return [
            f"{kind}: {counted:,} bytes counted, {alive:,} alive" for kind, counted, alive in kinds if counted != alive
        ]

    def _free(self, buffer: Buffer) -> None:
        with self._lock:
            del self._buffers[buffer]
        if buffer._unregister is not None:
            buffer._unregister()
        del buffer.memory
