"""What the processes of one video say to each other: torch.distributed over gloo, on this machine's loopback.

Rank 0 has the sampler. Before each guided step it gives all ranks the word to go, or to stop, then the latents; the
velocities are gathered at its place. gloo serves CUDA too: the sampler's latents lie in RAM.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from time import sleep

import torch
import torch.distributed as dist
from torch import Tensor

GO, STOP = 1.0, 0.0
PATIENCE = timedelta(days=1)  # of those that wait for the next word; a lost connection is noticed at once
POLL_SECONDS = 0.002

# Called again and again while rank 0 waits; raises to end the waiting.
Check = Callable[[], None]


@dataclass(frozen=True)
class Order:
    """One pass that every rank computes at `time` (0..1). last: no pass follows it."""

    time: float
    last: bool


class RankGroup:
    """This process's place among the ranks. Every call but `close` is made by all of them, in the same order."""

    def __init__(self, rank: int, ranks: int, meeting: Path, check: Check | None = None) -> None:
        """Join; returns when all have. meeting: a file in a folder of this job alone.

        check: of rank 0, which must not wait for what another has ended. Raises RuntimeError where a rank is lost, here
        and in every other call.
        """
        self._ranks, self._check = ranks, check
        if sys.platform == "linux":
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # else gloo listens on the network
        store = dist.FileStore(str(meeting), ranks)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=ranks, timeout=PATIENCE)

    def give(self, order: Order | None, latents: Tensor) -> None:
        """Rank 0: the word for the next step. None: there is none. latents (1, f, c, h, w) float32 in RAM."""
        word = [STOP, 0.0, 0.0] if order is None else [GO, order.time, float(order.last)]
        self._wait(dist.broadcast(torch.tensor(word, dtype=torch.float64), 0, async_op=True))
        if order is not None:
            self._wait(dist.broadcast(latents.contiguous(), 0, async_op=True))

    def take(self, latents: Tensor) -> Order | None:
        """The others: the word for the next step; then `latents` (1, f, c, h, w) float32 are written."""
        word = torch.empty(3, dtype=torch.float64)
        self._wait(dist.broadcast(word, 0, async_op=True))
        go, time, last = word.tolist()
        if go == STOP:
            return None
        self._wait(dist.broadcast(latents, 0, async_op=True))
        return Order(time, bool(last))

    def gather(self, velocity: Tensor) -> list[Tensor]:
        """Velocities (1, f, c, h, w) float32 of all ranks at rank 0, in memory as its own is; elsewhere nothing."""
        places = [torch.empty_like(velocity, memory_format=torch.contiguous_format) for _ in range(self._ranks)]
        found = places if dist.get_rank() == 0 else None
        self._wait(dist.gather(velocity.contiguous(), found, 0, async_op=True))
        return [velocity, *(torch.empty_like(velocity).copy_(place) for place in places[1:])] if found else []

    def close(self) -> None:
        """Leave; whoever still waits for this rank gets a RuntimeError."""
        dist.destroy_process_group()

    def _wait(self, work: dist.Work) -> None:
        while self._check is not None and not work.is_completed():
            self._check()
            sleep(POLL_SECONDS)
        work.wait()
