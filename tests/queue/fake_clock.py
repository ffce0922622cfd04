"""A clock whose time passes when something sleeps on it, and then at once."""

import threading
from collections.abc import Callable

from studio.queue.clock import Clock

START = 1_800_000_000.0  # Unix seconds; monotonic() begins at 0


class FakeClock(Clock):
    """`at(seconds, act)`: something happens once that much time has passed, while somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.slept: list[float] = []
        self.on_sleep: Callable[[], object] = lambda: None  # called whenever somebody sleeps, before the time passes
        self._due: list[tuple[float, Callable[[], object]]] = []

    def at(self, seconds: float, act: Callable[[], object]) -> None:
        self._due = sorted([*self._due, (seconds, act)], key=lambda due: due[0])

    def now(self) -> float:
        return START + self.seconds

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.on_sleep()
        self.slept.append(seconds)
        end = self.seconds + seconds
        while self._due and self._due[0][0] <= end:
            moment, act = self._due.pop(0)
            self.seconds = max(self.seconds, moment)
            act()
        self.seconds = max(self.seconds, end)

    def wait(self, event: threading.Event, seconds: float) -> None:
        """Real processes, which know no such clock, get a moment to go on."""
        if not event.wait(0.001):
            self.sleep(seconds)
