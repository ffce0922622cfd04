"""Which passes and which tokens each of several ranks computes of one video. Pure functions of a few numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.token_split import TokenSplit, group_size, usable_counts
from models.transformer import video_of_tokens
from studio.errors import InputError

MOST_RANKS = 64  # of a machine
GUIDANCE_RANKS = 2  # one for each of a guided step's passes


def check_count(count: int, heads: int, *, guided: bool = True) -> None:
    """Raise InputError where so many devices cannot share a video of a network with so many heads. guided: whether it
    has steps with two passes.
    """
    if count not in (usable := usable_counts(heads, MOST_RANKS)):
        raise InputError("gpus_count", count=count, heads=heads, usable=", ".join(map(str, usable)))
    if not guided and count == GUIDANCE_RANKS and heads % count:
        raise InputError("gpus_unguided", heads=heads)


@dataclass(frozen=True)
class Roles:
    """halves: guidance in parallel, the first half of the ranks has the conditional pass, the second the other one.

    Else all ranks have every pass. Ranks that have the same passes share their tokens by `split`. grid: f, h, w of the
    latents.
    """

    ranks: int
    halves: bool
    split: TokenSplit
    grid: tuple[int, int, int]

    @classmethod
    def of(cls, ranks: int, heads: int, grid: tuple[int, int, int], chunk: int, *, guided: bool) -> "Roles":
        """The fastest roles that `heads` allow; an unguided video leaves a half without work where all cannot share.

        ValueError for a number of ranks that cannot share a guided video either.
        """
        size = group_size(ranks, guided=guided or heads % ranks != 0)
        if heads % size:
            raise ValueError(f"{heads} heads cannot be divided among {size} devices.")
        frames, height, width = grid
        return cls(ranks, size < ranks, TokenSplit.of(frames * height * width, size, chunk), grid)

    @property
    def size(self) -> int:
        """How many ranks share a pass."""
        return len(self.split.counts)

    def place(self, rank: int) -> int:
        """A rank's place among those that share its passes."""
        return rank % self.size

    def texts(self, rank: int) -> slice:
        """Of the conditional and the unconditional text, those of a rank."""
        half = rank // self.size
        return slice(half, half + 1) if self.halves else slice(0, 2)

    def conditions(self, rank: int, passes: int) -> range:
        """The passes that a rank computes of a node with so many."""
        return range(passes)[self.texts(rank)]

    def elements(self, rank: int, passes: int, channels: int) -> int:
        """Numbers of the velocities that a rank computes of a node."""
        return len(self.conditions(rank, passes)) * self.split.counts[self.place(rank)] * channels

    def velocities(self, found: Sequence[Tensor], passes: int, channels: int) -> list[Tensor]:
        """What the ranks computed of a node, flat, in order -> its velocities (1, f, c, h, w), in memory as one
        device's.
        """
        parts: list[list[Tensor]] = [[] for _ in range(passes)]
        for rank, numbers in enumerate(found):
            conditions = self.conditions(rank, passes)
            rows = numbers.view(len(conditions), self.split.counts[self.place(rank)], channels)
            for condition, own in zip(conditions, rows, strict=True):
                parts[condition].append(own)
        return [video_of_tokens(torch.cat(rows)[None], self.grid) for rows in parts]

    def record(self) -> dict[str, Any]:
        """For the file of the video: how it was shared. same_bits: as one such device would make it."""
        return {"gpus": self.ranks, "gpu_tokens": list(self.split.counts), "gpu_same_bits": self.split.aligned}
