"""What the processes that share a video agree on about memory: one plan, and one copy of weights in RAM."""

from dataclasses import dataclass

from studio.memory.plan import Plan, Sharing
from studio.memory.streaming.arena import ArenaFile, Place


@dataclass(frozen=True)
class Lead:
    """What the first of several processes gives the others. arena: the memory with the one copy of the transformer's
    pinned blocks; None: each has its own.
    """

    plan: Plan
    arena: Place | None


class SharedRam:
    """Where that copy lies: made by the first process as often as it opens the transformer, told to the others."""

    def __init__(self, sharing: Sharing | None) -> None:
        """sharing: None for a process that makes its videos alone."""
        self._one_copy = sharing is not None and sharing.one_copy
        self._file: ArenaFile | None = None
        self.place: Place | None = None
        self.follows = False

    def follow(self, lead: Lead) -> bool:
        """Another process is the first; whether its memory is another one than before."""
        before, self.place, self.follows = self.place, lead.arena, True
        return before != lead.arena

    def open(self) -> Place | None:
        """The place for a transformer that is opened now. Raises OSError."""
        self.close()
        if self._one_copy and not self.follows:
            self._file = ArenaFile("transformer")
            self.place = self._file.place
        return self.place

    def close(self) -> None:
        """The transformer is released. The other processes keep the memory as long as they use it."""
        if self._file is not None:
            self._file.close()
            self._file = self.place = None
