"""Ulysses: devices that share a video's tokens exchange them for heads around self-attention, and back after it."""

from collections.abc import Callable, Sequence

from torch import Tensor

from models.attention import attention
from models.token_split import TokenSplit

# (what goes to each, one after the other, flat; elements to each; elements from each) -> what came from each, flat.
Exchange = Callable[[Tensor, Sequence[int], Sequence[int]], Tensor]


class SharedTokens:
    """The part of one device among those that share a pass; a `studio.memory.sessions.TokenShare`."""

    def __init__(
        self, split: TokenSplit, device: int, chunk: int, exchange: Exchange, settle: Callable[[], None]
    ) -> None:
        """device: this one's place in the split. exchange: called by all of them, in the same order.

        settle: waits until the device has computed what it was given.
        """
        self._split, self._device, self._exchange = split, device, exchange
        self.chunk, self.part, self.settle = chunk, split.part(device), settle

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q, k, v (1, n of this device, heads, d) -> attention among the tokens of all, (1, n, heads, d).

        A head is attended to by one device, with the computation of a single one: its bits do not depend on the others.
        """
        mixed = attention(*(self._all_tokens(x) for x in (q, k, v)))
        return self._all_heads(mixed)

    def _all_tokens(self, x: Tensor) -> Tensor:
        """(1, n of this device, heads, d) -> (1, n of all, this device's heads, d)."""
        counts, (_, own, heads, width) = self._split.counts, x.shape
        each = heads // len(counts) * width
        sent = x.reshape(own, len(counts), each).transpose(0, 1).reshape(-1)
        came = self._exchange(sent, [own * each] * len(counts), [count * each for count in counts])
        return came.view(1, sum(counts), heads // len(counts), width)

    def _all_heads(self, x: Tensor) -> Tensor:
        """The inverse of `_all_tokens`."""
        counts, own, (_, _, heads, width) = self._split.counts, self._split.counts[self._device], x.shape
        each = heads * width
        came = self._exchange(x.reshape(-1), [count * each for count in counts], [own * each] * len(counts))
        return came.view(len(counts), own, each).transpose(0, 1).reshape(1, own, heads * len(counts), width)
