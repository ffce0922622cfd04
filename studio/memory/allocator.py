"""Every buffer of the memory room, counted by kind, and the few things the room asks of the machine.

Whatever outlives a block's computation is taken here and given back here, so that the counts can be held against
what is really alive: a buffer that was given back but is still referenced somewhere is a leak, and `check` says so.
"""

import gc
import mmap
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef


class Kind(StrEnum):
    """What a buffer is for. The first three lie on the device, the others in RAM."""

    RESIDENT = "resident"  # weights that stay
    SLOTS = "slots"  # weights that take turns
    SCRATCH = "scratch"  # what a computation needs beside them
    ARENAS = "arenas"  # weights kept in RAM to be copied from
    STAGING = "staging"  # on the way from disk


ON_DEVICE = (Kind.RESIDENT, Kind.SLOTS, Kind.SCRATCH)
IN_RAM = (Kind.ARENAS, Kind.STAGING)


class IntegrityError(RuntimeError):
    """The counts and what is alive differ: a defect of this program, with both numbers."""


class Machine:
    """What the room asks of operating system and driver. Tests hand in one that refuses.

    Allocation raises MemoryError or torch.OutOfMemoryError; reading raises OSError; registering may be refused.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def host_memory(self, nbytes: int) -> Tensor:
        """Page-aligned RAM as uint8 (nbytes,), all zero; it returns to the system with its last reference."""
        try:
            memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError as error:
            raise MemoryError(f"{nbytes:,} bytes of RAM were refused: {error.strerror}") from None
        # No huge pages: where RAM is full of file pages, finding them stalled the first touch by up to 4 s per GB.
        return torch.frombuffer(memory, dtype=torch.uint8)

    def device_memory(self, nbytes: int) -> Tensor:
        """Memory of the device as uint8 (nbytes,), contents undefined."""
        if self.device.type == "cpu":
            return self.host_memory(nbytes)
        return torch.empty(nbytes, dtype=torch.uint8, device=self.device)

    def register(self, memory: Tensor) -> bool:
        """Page-lock host memory for asynchronous copies; False where that is refused or means nothing."""
        if self.device.type != "cuda":
            return False
        with torch.cuda.device(self.device):
            if int(torch.cuda.cudart().cudaHostRegister(memory.data_ptr(), memory.nbytes, 0)) == 0:
                return True
            # CUDA keeps the refusal as this thread's last error, and the next kernel launch would report it as its own.
            with suppress(RuntimeError):
                torch.ones(1, device=self.device)
        return False

    def unregister(self, memory: Tensor) -> None:
        """Undo `register`."""
        with torch.cuda.device(self.device):
            torch.cuda.cudart().cudaHostUnregister(memory.data_ptr())

    def read(self, file: int, buffers: Sequence[memoryview], offset: int) -> int:
        """Bytes read from an open file into the buffers, one after the other; fewer than asked for near its end."""
        return os.preadv(file, buffers, offset)


class Lease:
    """One buffer: `memory` is uint8 (nbytes,). Registered memory can be copied from asynchronously."""

    def __init__(self, account: "Account", kind: Kind, memory: Tensor, registered: bool) -> None:
        self._account = account
        self.kind, self.memory, self.registered = kind, memory, registered

    def release(self) -> None:
        """Give the buffer back. Whoever still holds a view of it leaks; `Account.check` finds that."""
        self._account._give_back(self)


class Account:
    """Takes buffers and counts them; safe to use from the reading thread."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._lock = threading.Lock()
        self._leases: dict[Lease, int] = {}
        self._alive: list[tuple[Kind, int, StorageWeakRef]] = []

    def take(self, kind: Kind, nbytes: int, *, register: bool = False) -> Lease:
        """A new buffer of a positive size. Raises MemoryError or torch.OutOfMemoryError."""
        make = self.machine.device_memory if kind in ON_DEVICE else self.machine.host_memory
        memory = make(nbytes)
        lease = Lease(self, kind, memory, register and self.machine.register(memory))
        with self._lock:
            self._leases[lease] = nbytes
            self._alive = [entry for entry in self._alive if not entry[2].expired()]
            self._alive.append((kind, nbytes, StorageWeakRef(memory.untyped_storage())))
        return lease

    def held(self, *kinds: Kind) -> int:
        """Bytes taken and not given back, of these kinds (none named: of all)."""
        with self._lock:
            return sum(nbytes for lease, nbytes in self._leases.items() if lease.kind in (kinds or Kind))

    def alive(self, *kinds: Kind) -> int:
        """Bytes of these kinds whose storage still exists, whoever refers to it."""
        with self._lock:
            return sum(size for kind, size, storage in self._alive if kind in (kinds or Kind) and not storage.expired())

    def check(self) -> None:
        """Raise IntegrityError where a kind's count is not what is alive of it."""
        if self._leaks():
            gc.collect()  # a traceback that is no longer needed may hold views in a cycle
        if leaks := self._leaks():
            raise IntegrityError("Buffers outlived their use: " + "; ".join(leaks))

    def _leaks(self) -> list[str]:
        kinds = [(kind, self.held(kind), self.alive(kind)) for kind in Kind]
        return [f"{kind}: {held:,} bytes counted, {alive:,} alive" for kind, held, alive in kinds if held != alive]

    def _give_back(self, lease: Lease) -> None:
        with self._lock:
            del self._leases[lease]
        if lease.registered:
            self.machine.unregister(lease.memory)
        del lease.memory
