"""A device that is as late as it may be: three queues of work that run in any order their events allow."""

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from studio.memory.allocator import Machine


@dataclass
class FakeEvent:
    happened: bool = False


@dataclass
class Work:
    """One entry of a queue: wait for an event, run something, or let an event happen."""

    after: FakeEvent | None = None
    run: Callable[[], object] | None = None
    then: FakeEvent | None = None


@dataclass
class FakeBackend:
    """A DeviceBackend (studio.memory.streaming.backends): at every call some of the pending work happens, by chance.

    A queue that is not among the two eager ones, or one alone, works only while somebody waits for it.

    forgets: planted bugs, the waits to leave out: "ready" (use before ready), "free" (overwrite before free),
    "staging" (the reader does not wait for a copy out of its buffer).
    """

    seed: int
    forgets: frozenset[str] = frozenset()
    fills_slots: bool = False
    compute: list[Work] = field(default_factory=list)
    copies: list[Work] = field(default_factory=list)
    staged_copies: list[Work] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        self._lock = threading.RLock()
        self._queues = (self.compute, self.copies, self.staged_copies)
        self._eager = [self._chance.choice(self._queues) for _ in range(2)]

    def mark(self) -> FakeEvent:
        event = FakeEvent()
        self._push(self.compute, Work(then=event))
        return event

    def copy(self, source: Tensor, target: Tensor, after: FakeEvent, *, staged: bool = False) -> FakeEvent:
        queue = self.staged_copies if staged else self.copies
        if "free" not in self.forgets:
            self._push(queue, Work(after=after))
        done = FakeEvent()
        self._push(queue, Work(run=lambda: target.copy_(source), then=done))
        return done

    def wait(self, event: FakeEvent) -> None:
        if "ready" not in self.forgets:
            self._push(self.compute, Work(after=event))

    def finish(self, event: FakeEvent | None = None) -> None:
        if "staging" in self.forgets and event is not None:
            return
        with self._lock:
            while not event.happened if event else self.copies or self.staged_copies:
                self._advance(self._chance.choice(self._queues))

    def calculate(self, run: Callable[[], object]) -> None:
        """Queue a computation (what a kernel launch is)."""
        self._push(self.compute, Work(run=run))

    def drain(self) -> None:
        with self._lock:
            while any(self._queues):
                self._advance(self._chance.choice(self._queues))

    def _push(self, queue: list[Work], work: Work) -> None:
        with self._lock:
            queue.append(work)
            for _ in range(self._chance.choice((0, 0, 0, 1, 2, 8))):
                self._advance(self._chance.choice(self._eager))

    def _advance(self, queue: list[Work]) -> bool:
        if not queue or (queue[0].after and not queue[0].after.happened):
            return False
        work = queue.pop(0)
        if work.run:
            work.run()
        if work.then:
            work.then.happened = True
        return True


class FakeMachine(Machine):
    """RAM as device memory; registering succeeds unless told otherwise."""

    def __init__(self, registers: bool = True) -> None:
        super().__init__(torch.device("cpu"))
        self.registers = registers

    def register(self, memory: Tensor) -> bool:
        return self.registers

    def unregister(self, memory: Tensor) -> None:
        return None
