"""How several devices divide a video's tokens among them for Ulysses: each has some tokens of every head outside of
self-attention, and all tokens of some heads inside (DeepSpeed-Ulysses, arXiv 2309.14509).

Needs no torch.
"""

from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True)
class TokenSplit:
    """Tokens of each device, in order, each at least 1.

    aligned: every border lies on a multiple of the token chunk, so that every matrix product has the shape that it has
    on one device, and every result its bits.
    """

    counts: tuple[int, ...]
    aligned: bool

    @classmethod
    def of(cls, tokens: int, devices: int, chunk: int) -> "TokenSplit":
        """Aligned where there is a chunk for each device, else as even as can be. ValueError: fewer tokens than
        devices.
        """
        chunks = -(-tokens // chunk)
        aligned = chunks >= devices
        units, size = (chunks, chunk) if aligned else (tokens, 1)
        if units < devices:
            raise ValueError(f"{tokens} tokens cannot be divided among {devices} devices.")
        shares = [units // devices + (device < units % devices) for device in range(devices)]
        ends = [min(size * end, tokens) for end in accumulate(shares)]
        return cls(tuple(end - begin for begin, end in zip([0, *ends], ends, strict=False)), aligned)

    def part(self, device: int) -> slice:
        """The tokens of a device."""
        begin = sum(self.counts[:device])
        return slice(begin, begin + self.counts[device])


def group_size(devices: int, *, guided: bool) -> int:
    """How many of the devices share the tokens of one pass: half of an even number where guidance gives each half a
    pass of its own, else all.
    """
    return devices // 2 if guided and devices % 2 == 0 else devices


def usable_counts(heads: int, limit: int) -> list[int]:
    """The numbers of devices up to `limit`, 1 first, that can share a guided video of a network with so many heads."""
    return [count for count in range(1, limit + 1) if heads % group_size(count, guided=True) == 0]
