"""Runs through the units of a network in order and loads each onto the device before it is used.

    for index, block in streamer.blocks():
        for hidden in hiddens:
            block(hidden)

Resident units have a slot each and are loaded once. The others share a ring of slots: as soon as a slot has been used,
the next unit is copied into it, past the end of a pass into the next pass. Reads run ahead of slots: a read needs a
staging buffer, not a slot, so the disk works while slots are in use. The calling thread is at most AHEAD units ahead of
the device: a cancelled pass ends within one unit, and the device never waits for the CPU. It waits for the disk where
reading takes longer than computing. The first pass reads units while it computes.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from queue import SimpleQueue

import torch
from torch import Tensor, nn

from studio.memory.allocator import Allocator, Buffer, BufferKind
from studio.memory.plan import ComponentPlan
from studio.memory.streaming.backends import DeviceBackend, Event
from studio.memory.streaming.layout import Slot, UnitLayout
from studio.memory.streaming.sources import Source

STAGING_BUFFERS = 2  # one is copied to the device while the next unit is read into the other; as many reads are pending
AHEAD = 2  # units whose computation may be queued on the device at once


class Staging:
    """Registered RAM between disk and device: STAGING_BUFFERS buffers of one unit, allocated by the first reads.

    The reading thread calls `get_buffer`, the computing thread `put_buffer`.
    """

    def __init__(self, allocator: Allocator, backend: DeviceBackend, nbytes: int) -> None:
        self._allocator, self._backend, self._nbytes = allocator, backend, nbytes
        self._buffers: list[Buffer] = []
        self._free: SimpleQueue[tuple[Tensor, Event | None]] = SimpleQueue()

    @property
    def count(self) -> int:
        """Buffers allocated so far."""
        return len(self._buffers)

    def get_buffer(self) -> Tensor:
        """A buffer whose last content has been copied; blocks until there is one."""
        if len(self._buffers) < STAGING_BUFFERS:
            buffer = self._allocator.allocate(BufferKind.STAGING, self._nbytes, register=True)
            self._buffers.append(buffer)
            return buffer.memory
        memory, copied = self._free.get()
        if copied is not None:
            self._backend.finish(copied)
        return memory

    def put_buffer(self, memory: Tensor, copied: Event | None) -> None:
        """Make a buffer available again, once the event `copied` has happened. A source's own memory is ignored."""
        if any(buffer.memory is memory for buffer in self._buffers):
            self._free.put((memory, copied))

    def release(self) -> None:
        """Release the buffers; none may be in use."""
        while not self._free.empty():
            self._free.get()
        while self._buffers:
            self._buffers.pop().release()


@dataclass
class Load:
    """A unit on its way into its slot: from registered RAM, or by a pending read."""

    slot: Slot
    registered: Tensor | None
    read: Future[Tensor] | None


class Streamer:
    """Loads units onto the device as a ComponentPlan says. Call `set_plan` first; plans may change between passes."""

    def __init__(
        self,
        layout: UnitLayout,
        build: Callable[[], nn.Module],
        sources: dict[str, Source],
        backend: DeviceBackend,
        allocator: Allocator,
        reader: Executor,
    ) -> None:
        """build: returns a new module of one unit on the meta device. sources: by the names in plan.SOURCES.

        reader: the one thread in which they read.
        """
        self._layout, self._build, self._sources = layout, build, sources
        self._backend, self._allocator = backend, allocator
        self._staging = Staging(allocator, backend, layout.nbytes)
        self._reader = reader
        self._plan: ComponentPlan | None = None
        self._resident: dict[int, Slot] = {}
        self._ring: list[Slot] = []
        self._ring_index: dict[int, int] = {}  # streamed unit -> its position among the streamed units
        # Positions in the sequence of units over all passes (pass * units + unit): those that are loading and not being
        # copied yet; the unit in use, the first unit that is not loading, and the position where prefetching stops.
        self._loads: dict[int, Load] = {}
        self._position = self._next_prefetch = self._prefetch_end = 0
        self._interrupted = False

    @property
    def resident_units(self) -> tuple[int, ...]:
        """The units with a slot of their own."""
        return tuple(sorted(self._resident))

    @property
    def slots(self) -> int:
        """Number of slots in the ring of the streamed units."""
        return len(self._ring)

    @property
    def staging_buffers(self) -> int:
        """Staging buffers, of one unit each, allocated so far."""
        return self._staging.count

    def set_plan(self, plan: ComponentPlan) -> None:
        """Release the buffers that the plan does not need and allocate those it needs; what is resident in both stays.

        Raises MemoryError or torch.OutOfMemoryError; no plan is set then, and a smaller one may be tried.
        """
        self.release_staging()
        self._plan = None
        for unit in set(self._resident) - set(plan.resident):
            self._resident.pop(unit).release()
        while len(self._ring) > plan.slots:
            self._ring.pop().release()
        for name, source in self._sources.items():
            source.release_except({unit for unit, kind in enumerate(plan.source) if kind == name})
        for unit in plan.resident:
            if unit not in self._resident:
                self._resident[unit] = self._new_slot(BufferKind.RESIDENT)
        while len(self._ring) < plan.slots:
            self._ring.append(self._new_slot(BufferKind.SLOTS))
        self._plan, self._ring_index = plan, {unit: index for index, unit in enumerate(plan.streamed)}
        self._position = self._next_prefetch = self._prefetch_end = 0

    def blocks(self, *, last: bool = False) -> Iterator[tuple[int, nn.Module]]:
        """One pass: each unit's index and module, in order. A module is valid until the next one is requested.

        last: no pass follows, so nothing is prefetched for one. Raises what reading a unit raised. After an error, or
        where the caller left the loop early, the next pass starts at unit 0.
        """
        plan = self._current_plan()
        if self._interrupted:
            self.cancel_prefetch()
        self._interrupted = True
        self._prefetch_end = self._position + (plan.units if last else 2 * plan.units)
        computing: deque[Event] = deque()
        for unit in range(plan.units):
            slot = self._loaded_slot()
            if len(computing) == AHEAD:
                self._backend.finish(computing.popleft())
            yield unit, slot.module
            slot.free = self._backend.mark()
            computing.append(slot.free)
            self._position += 1
            self._prefetch()
        self._interrupted = False

    def cancel_prefetch(self) -> None:
        """Cancel pending prefetches. Filled slots keep their weights; the next pass starts at unit 0."""
        if self._plan is None:
            return
        waiting = [load.read for load in self._loads.values() if load.read is not None and not load.read.cancel()]
        for read in waiting:
            if read.exception() is None:
                self._staging.put_buffer(read.result(), None)
        for load in self._loads.values():
            load.slot.unit = None
        self._loads.clear()
        for source in self._sources.values():
            source.release_prepared()
        slots = (*self._resident.values(), *self._ring)
        for slot in slots:  # the next copy into a slot may be in the other queue than the last one
            if slot.ready is not None:
                self._backend.wait(slot.ready)
        now = self._backend.mark()
        for slot in slots:
            slot.free = now
        self._position = self._next_prefetch = self._prefetch_end = 0
        self._interrupted = False

    def release_staging(self) -> None:
        """Cancel pending prefetches and release the staging buffers; the next reads allocate them again.

        Other phases, and other plans, have their RAM for something else.
        """
        self.cancel_prefetch()
        self._backend.finish()
        self._staging.release()

    def offload(self) -> None:
        """Release all slots and staging buffers; units that sources keep in RAM stay there."""
        self.release_staging()
        self._plan = None
        for slot in (*self._resident.values(), *self._ring):
            slot.release()
        self._resident.clear()
        self._ring.clear()

    def release(self) -> None:
        """Release everything, the reading thread too. The streamer cannot be used afterwards."""
        self.offload()
        self._reader.shutdown()
        for source in self._sources.values():
            source.release()

    def _current_plan(self) -> ComponentPlan:
        if self._plan is None:
            raise RuntimeError("The streamer has no plan: call set_plan first.")
        return self._plan

    def _new_slot(self, kind: BufferKind) -> Slot:
        buffer = self._allocator.allocate(kind, self._layout.nbytes)
        # Computations that are still pending may use this memory; the first copy into it waits for them.
        return Slot(buffer, self._layout, self._build(), free=self._backend.mark())

    def _slot_at(self, position: int) -> Slot:
        passes, unit = divmod(position, self._current_plan().units)
        if unit in self._resident:
            return self._resident[unit]
        return self._ring[(passes * len(self._ring_index) + self._ring_index[unit]) % len(self._ring)]

    def _is_free(self, position: int) -> bool:
        """Whether the unit that had this unit's slot before it has been used."""
        units, streamed = self._current_plan().units, len(self._ring_index)
        passes, unit = divmod(position, units)
        if unit in self._resident:
            return True
        passes, index = divmod(passes * streamed + self._ring_index[unit] - len(self._ring), streamed)
        return passes * units + self._current_plan().streamed[index] < self._position

    def _prefetch(self) -> None:
        """Copy units into slots that are free, and start to load the next units, in order."""
        for position in list(self._loads):
            self._copy(position)
        end = min(self._prefetch_end, self._position + self._current_plan().units)
        while self._next_prefetch < end and self._start(self._next_prefetch):
            self._copy(self._next_prefetch)
            self._next_prefetch += 1

    def _start(self, position: int) -> bool:
        """Start to load a unit that its slot does not hold: a read where it is not in registered RAM.

        False where the read has to wait for others, or for its slot where it fills that itself.
        """
        plan, slot = self._current_plan(), self._slot_at(position)
        unit = position % plan.units
        if slot.unit == unit:
            return True
        kind = plan.source[unit]
        # A resident unit is read once: it bypasses the page cache, which serves units that are read again.
        source = self._sources["direct" if kind == "resident" else kind]
        registered, read = None if self._backend.fills_slots else source.registered(unit), None
        if registered is None:
            pending = sum(load.read is not None for load in self._loads.values())
            if pending == STAGING_BUFFERS or (self._backend.fills_slots and not self._is_free(position)):
                return False
            source.prepare(unit)
            read = self._reader.submit(self._read, source, unit, slot.buffer.memory)
        self._loads[position] = Load(slot, registered, read)
        slot.unit = unit
        return True

    def _copy(self, position: int) -> None:
        """Copy a unit that is in registered RAM or has been read into its slot, where that is free."""
        load = self._loads.get(position)
        if load is None or not self._is_free(position):
            return
        if load.registered is not None:
            load.slot.ready = self._backend.copy(load.registered, load.slot.buffer.memory, load.slot.free)
        elif load.read is not None:
            if not load.read.done() or load.read.exception() is not None:
                return
            unit = load.read.result()
            if unit is not load.slot.buffer.memory:
                load.slot.ready = self._backend.copy(unit, load.slot.buffer.memory, load.slot.free, staged=True)
                self._staging.put_buffer(unit, load.slot.ready)
        del self._loads[position]

    def _read(self, source: Source, unit: int, memory: Tensor) -> Tensor:
        """Host memory that holds the unit; runs in the reading thread."""
        # Inference mode is set per thread. Tensors made in that mode can only be written in it.
        with torch.inference_mode():
            return self._read_unit(source, unit, memory)

    def _read_unit(self, source: Source, unit: int, memory: Tensor) -> Tensor:
        used: list[Tensor] = []

        def get_buffer() -> Tensor:
            used.append(memory if self._backend.fills_slots else self._staging.get_buffer())
            return used[0]

        try:
            return source.read(unit, get_buffer)
        except BaseException:
            for buffer in used:
                self._staging.put_buffer(buffer, None)
            raise

    def _loaded_slot(self) -> Slot:
        """The slot of the unit at `_position`. Computation queued from here on waits until the slot is filled."""
        self._prefetch()
        if self._position in self._loads:
            self._wait_for_read(self._position)
            self._prefetch()
        slot = self._slot_at(self._position)
        self._backend.wait(slot.ready)
        return slot

    def _wait_for_read(self, position: int) -> None:
        """Block until a unit has been read; raises what reading it raised."""
        read = self._loads[position].read
        try:
            if read is not None:
                read.result()
        finally:
            del read  # the traceback of a failed read holds this frame, which would hold the read
