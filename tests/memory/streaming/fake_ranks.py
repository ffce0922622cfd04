"""Several fake devices with collectives: each copies its part of a unit, then all gather the others' parts.

A model of "each rank loads 1/N and gathers", which no run does yet: what the order of copies, collectives and
computations has to be so that every rank computes with the right weights, however late any device is. Units that have
just been read are copied whole: in the streamer their copies overtake each other by the time that reads take, so that
ranks would begin different collectives.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from tests.memory.streaming.fake import FakeBackend, FakeEvent, Work


@dataclass
class Collective:
    """The gather that every rank reaches at the same place of its sequence; it happens when the last has come.

    hasty: planted bug: it happens for each rank when that one comes, with what the others have by then.
    """

    ranks: int
    hasty: bool
    targets: dict[int, Tensor] = field(default_factory=dict)

    @property
    def happened(self) -> bool:
        return len(self.targets) == self.ranks or (self.hasty and bool(self.targets))

    def arrive(self, rank: int, target: Tensor) -> None:
        self.targets[rank] = target
        if len(self.targets) == self.ranks or self.hasty:
            for source, part in self.targets.items():
                for other in self.targets.values():
                    other[part_of(part, source, self.ranks)] = part[part_of(part, source, self.ranks)]


def part_of(memory: Tensor, rank: int, ranks: int) -> slice:
    """The bytes of a unit that a rank loads itself."""
    bounds = [memory.numel() * index // ranks for index in (rank, rank + 1)]
    return slice(*bounds)


class World:
    """What the ranks have in common. forgets: planted bugs: "late" (a collective does not wait for a late rank),
    "order" (one rank swaps two collectives), "gathered" (computation waits for the copy alone), "first" (the first
    gather of a rank's sequence is left out: its slot keeps what was in it).
    """

    def __init__(self, ranks: int, forgets: frozenset[str] = frozenset()) -> None:
        self.ranks, self.forgets, self.lock = ranks, forgets, threading.RLock()
        self.collectives: list[Collective] = []
        self.stopped = False  # whoever still waits gives up

    def collective(self, number: int) -> Collective:
        while len(self.collectives) <= number:
            self.collectives.append(Collective(self.ranks, "late" in self.forgets))
        return self.collectives[number]


class RankBackend(FakeBackend):
    """One rank's device; `copy` loads this rank's part of a unit and gathers the rest, staged copies apart."""

    def __init__(self, seed: int, rank: int, world: World) -> None:
        self.rank, self.world = rank, world
        super().__init__(seed)
        self._lock = world.lock
        self._begun = 0  # collectives of this rank's sequence
        self._held: Callable[[], None] | None = None

    def copy(self, source: Tensor, target: Tensor, after: FakeEvent, *, staged: bool = False) -> FakeEvent:
        if staged:
            return super().copy(source, target, after, staged=True)
        done, forgets = FakeEvent(), self.world.forgets

        def load() -> None:
            own = part_of(target, self.rank, self.world.ranks)
            self._push(self.copies, Work(after=after))
            copied = done if "gathered" in forgets else None
            self._push(self.copies, Work(run=lambda: target[own].copy_(source[own]), then=copied))
            number, self._begun = self._begun, self._begun + 1
            if "first" in forgets and number == 0:
                self._push(self.copies, Work(then=done))
                return
            with self._lock:
                collective = self.world.collective(number)
            self._push(self.copies, Work(run=lambda: collective.arrive(self.rank, target)))
            self._push(self.copies, Work(after=collective, then=done))

        if "order" in forgets and self.rank == 1 and self._held is None and self._begun % 2 == 0:
            self._held = load
        else:
            load()
            self._flush()
        return done

    def finish(self, event: FakeEvent | None = None) -> None:
        self._flush()
        while (not event.happened if event else self.copies or self.staged_copies) and not self.world.stopped:
            with self._lock:
                self._advance(self._chance.choice(self._queues))
            time.sleep(0)  # the other ranks' threads

    def drain(self) -> None:
        self._flush()
        while any(self._queues) and not self.world.stopped:
            with self._lock:
                self._advance(self._chance.choice(self._queues))
            time.sleep(0)

    def _flush(self) -> None:
        if (held := self._held) is not None:
            self._held = None
            held()


def run_ranks(world: World, works: Sequence[Callable[[], None]], patience: float) -> bool:
    """Run each rank's work in a thread of its own; False where they wait for each other for ever."""
    threads = [threading.Thread(target=work, daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patience)
    world.stopped = ended = any(thread.is_alive() for thread in threads)
    for thread in threads:
        thread.join()
    return not ended
