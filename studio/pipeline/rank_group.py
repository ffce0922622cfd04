"""What the processes of one video say to each other: torch.distributed, the only file that knows it.

Rank 0 has the sampler. Before each step it gives all ranks the word to go, or to stop, then the latents; the velocities
are gathered at its place. These go over gloo on this machine's loopback: they lie in RAM and are small. What a block
exchanges stays on the devices: NCCL between GPUs, gloo where the devices are the CPU.
"""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from threading import Thread
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
    """A node of the plan: its time (0..1) and its passes, 1 or 2. last: no node follows it."""

    time: float
    passes: int
    last: bool


class RankGroup:
    """This process's place among the ranks. Every call but `close` is made by all of them, in the same order."""

    def __init__(self, rank: int, ranks: int, meeting: Path, check: Check | None = None, *, cuda: bool = False) -> None:
        """Join; returns when all have. meeting: a file in a folder of this job alone. cuda: the devices are GPUs.

        check: nobody must wait for what another has ended. Raises RuntimeError where a rank is lost, here and in every
        other call.
        """
        self.rank, self._ranks, self._check, self._cuda = rank, ranks, check, cuda
        if sys.platform == "linux":
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # else gloo listens on the network
        store = dist.FileStore(str(meeting), ranks)
        backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
        self._half: dist.ProcessGroup | None = None
        try:
            dist.init_process_group(backend, store=store, rank=rank, world_size=ranks, timeout=PATIENCE)
            if ranks % 2 == 0:
                low, high = list(range(ranks // 2)), list(range(ranks // 2, ranks))
                groups = [dist.new_group(half, timeout=PATIENCE) for half in (low, high)]
                self._half = groups[rank // (ranks // 2)]
        except BaseException:
            leave()
            raise

    def give(self, order: Order | None, latents: Tensor) -> None:
        """Rank 0: the word for the next step. None: there is none. latents (1, f, c, h, w) float32 in RAM."""
        word = [STOP, 0.0, 0.0, 0.0] if order is None else [GO, order.time, float(order.passes), float(order.last)]
        self._wait(dist.broadcast(torch.tensor(word, dtype=torch.float64), 0, async_op=True))
        if order is not None:
            self._wait(dist.broadcast(latents.contiguous(), 0, async_op=True))

    def take(self, latents: Tensor) -> Order | None:
        """The others: the word for the next step; then `latents` (1, f, c, h, w) float32 are written."""
        word = torch.empty(4, dtype=torch.float64)
        self._wait(dist.broadcast(word, 0, async_op=True))
        go, time, passes, last = word.tolist()
        if go == STOP:
            return None
        self._wait(dist.broadcast(latents, 0, async_op=True))
        return Order(time, int(passes), bool(last))

    def gather(self, numbers: Tensor, counts: Sequence[int]) -> list[Tensor]:
        """Every rank's numbers (counts[rank],) in RAM, at rank 0; elsewhere nothing."""
        here = self.rank == 0
        received = list(counts) if here else [0] * self._ranks
        found = numbers.new_empty(sum(received))
        sent = [numbers.numel(), *[0] * (self._ranks - 1)]
        self._wait(dist.all_to_all_single(found, numbers, received, sent, async_op=True))
        return list(found.split(received)) if here else []

    def exchange(self, sent: Tensor, given: Sequence[int], taken: Sequence[int], *, halves: bool) -> Tensor:
        """Of the ranks of this half, or of all: `given[i]` numbers of `sent` go to the i-th, `taken[i]` come from it.

        All flat, in the order of the ranks, on the ranks' devices.
        """
        found, group = sent.new_empty(sum(taken)), self._half if halves else None
        self._wait(dist.all_to_all_single(found, sent, list(taken), list(given), group=group, async_op=True))
        return found

    def send(self, frames: Tensor) -> Callable[[], object]:
        """To rank 0: frames (1, t, 3, H, W) in RAM, which must be kept until the function that is returned returns."""
        work = dist.isend(_bytes(frames), 0)
        return lambda: work is not None and work.wait()

    def receive(self, frames: Tensor, rank: int) -> None:
        """At rank 0: write the next frames (1, t, 3, H, W), in RAM, that a rank has sent."""
        failed: list[RuntimeError] = []

        def wait() -> None:  # of what comes from one rank, gloo does not say that it is there without being waited for
            try:
                dist.recv(_bytes(frames), rank)
            except RuntimeError as error:
                failed.append(error)

        thread = Thread(target=wait, daemon=True)
        thread.start()
        while thread.is_alive():
            self._look()
        if failed:
            raise failed[0]

    def settle(self) -> None:
        """Wait for what this GPU computes as for other ranks: what it waits for itself may never come."""
        if self._cuda:
            event = torch.cuda.current_stream().record_event()
            while not event.query():
                self._look()

    def close(self) -> None:
        """Leave, whatever is under way; whoever still waits for this rank gets a RuntimeError."""
        for group in (self._half, dist.group.WORLD):
            if group is not None and self._cuda:  # an orderly end would wait for kernels that wait for a lost rank
                group.abort()
        dist.destroy_process_group()

    def _look(self) -> None:
        if self._check is not None:
            self._check()
        sleep(POLL_SECONDS)

    def _wait(self, work: dist.Work | None) -> None:
        if work is None:
            raise RuntimeError("torch.distributed gave no work: this process is not of the group.")
        while self._check is not None and not work.is_completed():
            self._look()
        work.wait()


def leave() -> None:
    """Leave a group that was not joined to the end: this process can be in one at a time."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.view(torch.uint8).view(-1)
