"""A device, a disk and threads on a virtual clock: how long a plan takes on the real Streamer, without waiting for it.

Every thread has a clock of its own. Calls in a thread run when another thread asks for them, as if they had run since
they were submitted; an event is the second at which it happens, which is known as soon as it is queued.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from studio.memory.allocator import Allocator, Machine
from studio.memory.plan import ComponentPlan
from studio.memory.streaming.layout import UnitLayout
from studio.memory.streaming.sources import FileSource, PinnedSource
from studio.memory.streaming.streamer import Streamer

MAIN = "main"


class Clocks:
    """Seconds by thread; `now` is those of the thread that runs."""

    def __init__(self) -> None:
        self._seconds = {MAIN: 0.0}
        self._running = MAIN

    @property
    def now(self) -> float:
        return self._seconds[self._running]

    def advance(self, seconds: float) -> None:
        self._seconds[self._running] += seconds

    def reach(self, second: float) -> None:
        """Wait until a second; it may have passed."""
        self._seconds[self._running] = max(self.now, second)

    @contextmanager
    def thread(self, name: str, start: float) -> Iterator[None]:
        """Runs in another thread, from `start` on or from where that thread has come to."""
        before, self._running = self._running, name
        self._seconds[name] = max(self._seconds.get(name, 0.0), start)
        try:
            yield
        finally:
            self._running = before


@dataclass
class _Call:
    future: "VirtualFuture"
    submitted: float
    run: Callable[[], object]


class VirtualFuture(Future):
    """done() and result() as the caller's clock has them."""

    def __init__(self, executor: "VirtualThread") -> None:
        super().__init__()
        self.executor, self.finished = executor, 0.0

    def done(self) -> bool:
        self.executor.run_until(self)
        return super().cancelled() or self.finished <= self.executor.clocks.now

    def result(self, timeout: float | None = None) -> Any:
        self._wait()
        return super().result()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._wait()
        return super().exception()

    def _wait(self) -> None:
        self.executor.run_until(self)
        self.executor.clocks.reach(self.finished)


class VirtualThread(Executor):
    """One thread; its calls run in the order of their submission."""

    def __init__(self, clocks: Clocks, name: str) -> None:
        self.clocks, self._name = clocks, name
        self._calls: deque[_Call] = deque()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> VirtualFuture:
        future = VirtualFuture(self)
        self._calls.append(_Call(future, self.clocks.now, lambda: fn(*args, **kwargs)))
        return future

    def run_until(self, future: VirtualFuture) -> None:
        """Run calls up to this one, unless that has run."""
        while any(call.future is future for call in self._calls):
            call = self._calls.popleft()
            if not call.future.set_running_or_notify_cancel():
                continue
            with self.clocks.thread(self._name, call.submitted):
                result = call.run()
                call.future.finished = self.clocks.now
            call.future.set_result(result)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._calls.clear()


@dataclass
class VirtualEvent:
    """second: when it happens; None: not computed yet."""

    second: float | None = None


@dataclass
class _Work:
    """One entry of a queue: it starts after `after`, once it was queued; `done` is the event at its end."""

    queued: float
    after: VirtualEvent | None
    seconds: float
    done: VirtualEvent


class VirtualBackend:
    """One queue of computation and two of copies, which share the link: what is ready first has it first."""

    fills_slots = False

    def __init__(self, clocks: Clocks, copy_seconds: float) -> None:
        self._clocks, self._copy_seconds = clocks, copy_seconds
        self._compute: deque[_Work] = deque()
        self._copies: tuple[deque[_Work], deque[_Work]] = (deque(), deque())
        self._computed, self._link = 0.0, 0.0  # what has begun by now is done
        self._copied = [0.0, 0.0]

    def mark(self) -> VirtualEvent:
        return self._queue(self._compute, None, 0.0)

    def copy(self, source: Tensor, target: Tensor, after: VirtualEvent, *, staged: bool = False) -> VirtualEvent:
        return self._queue(self._copies[staged], after, self._copy_seconds)

    def wait(self, event: VirtualEvent) -> None:
        self._queue(self._compute, event, 0.0)

    def finish(self, event: VirtualEvent | None = None) -> None:
        events = [work.done for queue in self._copies for work in queue] if event is None else [event]
        for each in events:
            self._clocks.reach(each.second or 0.0)

    def compute(self, seconds: float) -> VirtualEvent:
        """Queue a computation; the event at its end."""
        return self._queue(self._compute, None, seconds)

    def _queue(self, queue: deque[_Work], after: VirtualEvent | None, seconds: float) -> VirtualEvent:
        work = _Work(self._clocks.now, after, seconds, VirtualEvent())
        queue.append(work)
        self._schedule()
        return work.done

    def _schedule(self) -> None:
        """Compute when everything that is queued happens; drop what has begun, since nothing changes it any more."""
        now = self._clocks.now
        pending = [*self._compute, *self._copies[0], *self._copies[1]]
        for work in pending:
            work.done.second = None
        compute, copies = deque(self._compute), [deque(queue) for queue in self._copies]
        computed, copied, link = self._computed, list(self._copied), self._link
        while True:
            while compute and (ready := _ready(compute[0], computed)) is not None:
                work = compute.popleft()
                computed = work.done.second = ready + work.seconds
                if ready <= now:
                    self._computed = computed
                    self._compute.popleft()
            found = [(_ready(copies[at][0], copied[at]), at) for at in (0, 1) if copies[at]]
            heads = [(ready, at) for ready, at in found if ready is not None]
            if not heads:
                return
            ready, at = min(heads)
            work, start = copies[at].popleft(), max(ready, link)
            link = copied[at] = work.done.second = start + work.seconds
            if start <= now:
                self._link, self._copied[at] = link, link
                self._copies[at].popleft()


def _ready(work: _Work, before: float) -> float | None:
    """When a queue's next entry can start; None where that depends on what is not computed yet."""
    if work.after is None:
        return max(before, work.queued)
    return None if work.after.second is None else max(before, work.queued, work.after.second)


class VirtualMachine(Machine):
    """Registering takes its time."""

    def __init__(self, clocks: Clocks, register_seconds: float) -> None:
        super().__init__(torch.device("cpu"))
        self._clocks, self._register_seconds = clocks, register_seconds

    def register(self, memory: Tensor) -> bool:
        self._clocks.advance(self._register_seconds)
        return True

    def unregister(self, memory: Tensor) -> None:
        return None


@dataclass(frozen=True)
class UnitSeconds:
    """What one unit takes: computation, copy, read from disk, registration."""

    compute: float
    copy: float
    read: float
    register: float = 0.0


class OneNumber(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.number = nn.Parameter(torch.empty(1, device="meta"))


def pass_seconds(plan: ComponentPlan, seconds: UnitSeconds, passes: int = 4) -> list[float]:
    """Seconds of each pass of the real Streamer, from the end of the last one's computation to the end of its own."""
    clocks = Clocks()
    backend = VirtualBackend(clocks, seconds.copy)
    allocator = Allocator(VirtualMachine(clocks, seconds.register))
    layout = UnitLayout.of(OneNumber().state_dict())
    disk: Any = SimpleNamespace(layout=layout, read=lambda *_, **__: clocks.advance(seconds.read))
    sources = {
        "pinned": PinnedSource(disk, allocator, VirtualThread(clocks, "registrar")),
        "cached": FileSource(disk, direct=False),
        "direct": FileSource(disk, direct=True),
    }
    streamer = Streamer(layout, OneNumber, sources, backend, allocator, VirtualThread(clocks, "reader"))
    streamer.set_plan(plan)
    ends = [0.0]
    for _ in range(passes):
        for _ in streamer.blocks():
            end = backend.compute(seconds.compute)
        ends.append(end.second or 0.0)
    streamer.release()
    allocator.check()
    return [end - begin for begin, end in zip(ends, ends[1:], strict=False)]
