"""The units of a network, one after the other, each on the device when its turn comes.

    for index, block in streamer.blocks():
        for hidden in hiddens:
            block(hidden)

Resident units have a slot each and are read once. The others take turns in a ring of slots: as soon as a unit has been
used, the next one that is not yet on its way is sent for, past the end of a step into the next one. The calling thread
is at most AHEAD units ahead of the device, so that a cancelled step ends within a unit and the device still never waits
for the next; where units come from disk it waits for the disk. The first step reads as it computes.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from queue import SimpleQueue

import torch
from torch import Tensor, nn

from studio.memory.allocator import Account, Kind, Lease
from studio.memory.plan import ComponentPlan
from studio.memory.streaming.backends import Backend, Event
from studio.memory.streaming.layout import Layout, Slot
from studio.memory.streaming.sources import Source

STAGING_BUFFERS = 2  # one is copied from while the next is read into
AHEAD = 2  # units that are asked for before the first of them must have been computed


class Staging:
    """Registered RAM that units pass through on their way from disk to device, one buffer per unit, in turns.

    Buffers are taken when first needed. `borrow` belongs to the reading thread, `give_back` to the computing one.
    """

    def __init__(self, account: Account, backend: Backend, nbytes: int) -> None:
        self._account, self._backend, self._nbytes = account, backend, nbytes
        self._leases: list[Lease] = []
        self._free: SimpleQueue[tuple[Tensor, Event | None]] = SimpleQueue()

    @property
    def count(self) -> int:
        """Buffers taken so far."""
        return len(self._leases)

    def borrow(self) -> Tensor:
        """A buffer whose last content has been copied away; waits for one."""
        if len(self._leases) < STAGING_BUFFERS and self._free.empty():
            lease = self._account.take(Kind.STAGING, self._nbytes, register=True)
            self._leases.append(lease)
            return lease.memory
        buffer, copied = self._free.get()
        if copied is not None:
            self._backend.finish(copied)
        return buffer

    def give_back(self, buffer: Tensor, copied: Event | None) -> None:
        """Buffers of others (a source's own memory) are ignored. copied: after it the buffer may be written."""
        if any(lease.memory is buffer for lease in self._leases):
            self._free.put((buffer, copied))

    def release(self) -> None:
        """Let go of the buffers; none may be in use."""
        while not self._free.empty():
            self._free.get()
        while self._leases:
            self._leases.pop().release()


class Streamer:
    """Brings units to the device as a ComponentPlan says. `use` a plan first; plans may change between passes."""

    def __init__(
        self,
        layout: Layout,
        build: Callable[[], nn.Module],
        sources: dict[str, Source],
        backend: Backend,
        account: Account,
    ) -> None:
        """build: a fresh module of one unit on the meta device. sources: by the names that plans use."""
        self._layout, self._build, self._sources = layout, build, sources
        self._backend, self._account = backend, account
        self._staging = Staging(account, backend, layout.nbytes)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="unit-reader")
        self._plan: ComponentPlan | None = None
        self._resident: dict[int, Slot] = {}
        self._ring: list[Slot] = []
        self._loads: dict[int, Future[Tensor]] = {}
        # Places in the endless sequence of units, pass after pass: the one whose turn it is, the first that was not
        # sent for yet, and the one before which sending for units stops.
        self._place = self._frontier = self._limit = 0
        self._interrupted = False

    @property
    def resident_units(self) -> tuple[int, ...]:
        """The units that have a slot of their own."""
        return tuple(sorted(self._resident))

    @property
    def slots(self) -> int:
        """Slots that the other units take turns in."""
        return len(self._ring)

    @property
    def staging_buffers(self) -> int:
        """Buffers of a unit's size between disk and device, so far."""
        return self._staging.count

    def use(self, plan: ComponentPlan) -> None:
        """Take what the plan needs and give back what it does not; what is resident in both stays.

        Raises MemoryError or torch.OutOfMemoryError; then this plan is not in force and another may be tried.
        """
        self._rewind()
        self._backend.finish()
        self._plan = None
        for unit in set(self._resident) - set(plan.resident):
            self._resident.pop(unit).release()
        while len(self._ring) > plan.slots:
            self._ring.pop().release()
        for name, source in self._sources.items():
            source.keep({unit for unit, kind in enumerate(plan.source) if kind == name})
        for unit in plan.resident:
            if unit not in self._resident:
                self._resident[unit] = self._new_slot(Kind.RESIDENT)
        while len(self._ring) < plan.slots:
            self._ring.append(self._new_slot(Kind.SLOTS))
        self._plan, self._turn = plan, {unit: turn for turn, unit in enumerate(plan.streamed)}
        self._place = self._frontier = self._limit = 0

    def blocks(self, *, last: bool = False) -> Iterator[tuple[int, nn.Module]]:
        """Each unit's index and module, in order; a module may be used until the next is asked for.

        last: no other pass will follow, so nothing is fetched ahead for one. Whatever fetching raised comes out here;
        after an error, or when the caller leaves early, the next pass begins with the first unit again.
        """
        plan = self._current_plan()
        if self._interrupted:
            self._rewind()
        self._interrupted = True
        self._limit = self._place + (plan.units if last else 2 * plan.units)
        computing: deque[Event] = deque()
        for unit in range(plan.units):
            slot = self._take()
            if len(computing) == AHEAD:
                self._backend.finish(computing.popleft())
            yield unit, slot.module
            slot.free, slot.busy = self._backend.mark(), False
            computing.append(slot.free)
            self._place += 1
            self._send()
        self._interrupted = False

    def settle(self) -> None:
        """Call off what is on its way, so that nothing changes until the next pass."""
        self._rewind()

    def let_go(self) -> None:
        """Give back everything on the device and on the way there; what sources keep in RAM stays."""
        self._rewind()
        self._backend.finish()
        self._plan = None
        for slot in (*self._resident.values(), *self._ring):
            slot.release()
        self._resident.clear()
        self._ring.clear()
        self._staging.release()

    def close(self) -> None:
        """Give back everything; the streamer is of no use afterwards."""
        self.let_go()
        self._reader.shutdown()
        for source in self._sources.values():
            source.keep(set())

    def _current_plan(self) -> ComponentPlan:
        if self._plan is None:
            raise RuntimeError("The streamer has no plan in force: use() one first.")
        return self._plan

    def _new_slot(self, kind: Kind) -> Slot:
        lease = self._account.take(kind, self._layout.nbytes)
        # The buffer may be memory that pending computations still use; a copy into it comes after them.
        return Slot(lease, self._layout, self._build(), free=self._backend.mark())

    def _slot_at(self, place: int) -> Slot:
        plan = self._current_plan()
        step, unit = divmod(place, plan.units)
        if unit in self._resident:
            return self._resident[unit]
        return self._ring[(step * len(self._turn) + self._turn[unit]) % len(self._ring)]

    def _send(self) -> None:
        """Send for units, in order, as far as slots are free."""
        units = self._current_plan().units
        while self._frontier < min(self._limit, self._place + units):
            slot = self._slot_at(self._frontier)
            if slot.busy:
                return
            slot.busy = True
            if slot.unit != self._frontier % units:
                self._load(slot, self._frontier)
            self._frontier += 1

    def _load(self, slot: Slot, place: int) -> None:
        plan = self._current_plan()
        unit = place % plan.units
        kind = plan.source[unit]
        source = self._sources["direct" if kind == "resident" else kind]  # read once, so not worth the page cache
        ready = None if self._backend.fills_slots else source.ready(unit)
        slot.unit = None  # whatever goes wrong from here on, the old content is not to be counted on
        if ready is not None:
            slot.ready = self._backend.copy(ready, slot.lease.memory, slot.free)
        else:
            self._loads[place] = self._reader.submit(self._fetch, source, unit, slot.lease.memory)
        slot.unit = unit

    def _fetch(self, source: Source, unit: int, memory: Tensor) -> Tensor:
        """In the reading thread: host memory that holds the unit."""
        # Inference mode belongs to a thread; without it, buffers made in that mode could not be written here.
        with torch.inference_mode():
            return self._fetch_now(source, unit, memory)

    def _fetch_now(self, source: Source, unit: int, memory: Tensor) -> Tensor:
        borrowed: list[Tensor] = []

        def borrow() -> Tensor:
            borrowed.append(memory if self._backend.fills_slots else self._staging.borrow())
            return borrowed[0]

        try:
            return source.fetch(unit, borrow)
        except BaseException:
            for buffer in borrowed:
                self._staging.give_back(buffer, None)
            raise

    def _take(self) -> Slot:
        """The slot with the unit whose turn it is, as far as what is computed next can tell."""
        self._send()
        slot = self._slot_at(self._place)
        if self._place in self._loads:
            # Not under a name of its own: a failed future's traceback would hold this frame, which held the future.
            fetched = self._loads[self._place].result()
            if fetched is not slot.lease.memory:
                slot.ready = self._backend.copy(fetched, slot.lease.memory, slot.free)
                self._staging.give_back(fetched, slot.ready)
            del self._loads[self._place]
        self._backend.wait(slot.ready)
        return slot

    def _rewind(self) -> None:
        """Call off what is on its way and begin with the first unit again; what slots hold already stays."""
        if self._plan is None:
            return
        loads = sorted(self._loads.items())
        for _, load in loads:
            load.cancel()
        for place, load in loads:
            wait([load])
            if not load.cancelled() and load.exception() is None:
                self._staging.give_back(load.result(), None)
            self._slot_at(place).unit = None
        self._loads.clear()
        now = self._backend.mark()
        for slot in (*self._resident.values(), *self._ring):
            slot.busy, slot.free = False, now
        self._place = self._frontier = self._limit = 0
        self._interrupted = False
