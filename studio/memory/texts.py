"""Keys and values of the cross-attention, kept on the device: a text is projected once for all blocks and steps.

They do not depend on the time, so the layers that project the text (attn2.wkv and attn2.k_norm, an eighth of a block)
need not be streamed in every pass, nor stay on the device. They are read once per new text.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from models.checkpoint import TensorEntry
from models.layers import CrossAttention, TextKV
from models.transformer import Transformer
from studio.errors import Cancelled
from studio.memory.allocator import Allocator, Buffer, BufferKind
from studio.memory.plan import ComponentPlan
from studio.memory.streaming.backends import DeviceBackend
from studio.memory.streaming.layout import UnitLayout
from studio.memory.streaming.reader import UnitReader
from studio.memory.streaming.sources import FileSource
from studio.memory.streaming.streamer import Streamer

SLOTS = 2
MOST_TEXTS = 2  # that are kept at once: with guidance a video has two


@dataclass(frozen=True, eq=False)
class Condition:
    """An encoded text: prompt_embeds (1, l_valid, d), clip_embeds (1, 77, d2), on any device."""

    prompt_embeds: Tensor
    clip_embeds: Tensor

    def is_same(self, other: "Condition") -> bool:
        """Whether both have the same numbers."""
        pairs = ((self.prompt_embeds, other.prompt_embeds), (self.clip_embeds, other.clip_embeds))
        return all(a is b or (a.device == b.device and torch.equal(a, b)) for a, b in pairs)


@dataclass(frozen=True, eq=False)
class _Kept:
    """A text, and the buffer that `blocks` are views of: keys and values by block."""

    text: Condition
    buffer: Buffer
    blocks: list[TextKV]


class KeptTexts:
    """Keys and values (1, l, heads, d) of texts in every block, in the compute dtype.

    At most MOST_TEXTS, or as many as one call asks for. Those that were used longest ago leave first; of one call's,
    the first: a prompt changes more often than the negative prompt after it.
    """

    def __init__(
        self,
        projection: CrossAttention,
        entries: Sequence[Sequence[TensorEntry]],
        dtype: torch.dtype,
        allocator: Allocator,
        backend: DeviceBackend,
    ) -> None:
        """projection: on the meta device, of which `kv` works. entries: per block, in the order of its state dict."""
        self._projection, self._entries, self._dtype = projection, entries, dtype
        self._allocator, self._backend = allocator, backend
        self._layout = UnitLayout.of(projection.state_dict())
        self._kept: list[_Kept] = []  # the one used longest ago first

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values on the device."""
        return sum(kept.buffer.memory.nbytes for kept in self._kept)

    def blocks(self, texts: Sequence[Condition]) -> list[list[TextKV]]:
        """Per text that was kept, its keys and values by block."""
        return [self._find(text).blocks for text in texts]

    def keep(
        self,
        texts: Sequence[Condition],
        body: Transformer,
        source: str,
        *,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        """Compute keys and values of the texts that are not kept yet, block by block.

        body: the transformer without blocks, on the device. source: where the layers are read from, "cached" or
        "direct". Raises Cancelled between blocks, MemoryError, torch.OutOfMemoryError or StudioError; nothing new is
        kept then.
        """
        known = [kept for kept in self._kept if any(kept.text.is_same(text) for text in texts)]
        fresh: list[Condition] = []
        for text in texts:
            if not any(text.is_same(other) for other in (*(kept.text for kept in known), *fresh)):
                fresh.append(text)
        others = [kept for kept in self._kept if kept not in known]
        while others and len(others) + len(known) + len(fresh) > MOST_TEXTS:
            others.pop(0).buffer.release()
        self._kept = others + known
        if fresh:
            known += self._compute(fresh, body, source, cancelled)
        turns = {kept: turn for turn, text in enumerate(texts) for kept in known if kept.text.is_same(text)}
        self._kept = others + sorted(known, key=lambda kept: turns[kept])

    def release(self) -> None:
        """Release all keys and values."""
        while self._kept:
            self._kept.pop().buffer.release()

    def _find(self, text: Condition) -> _Kept:
        return next(kept for kept in self._kept if kept.text.is_same(text))

    def _compute(
        self, texts: Sequence[Condition], body: Transformer, source: str, cancelled: Callable[[], bool]
    ) -> list[_Kept]:
        device = body.scale_shift_table.device
        contexts = [body.embed_text(text.prompt_embeds.to(device), text.clip_embeds.to(device)) for text in texts]
        made: list[_Kept] = []
        try:
            for text, context in zip(texts, contexts, strict=True):
                made.append(self._allocate(text, context.shape))
            with self._streamer(source) as streamer:
                for unit, module in streamer.blocks(last=True):
                    if cancelled():
                        raise Cancelled
                    layers = cast(CrossAttention, module)
                    for kept, context in zip(made, contexts, strict=True):
                        for place, computed in zip(kept.blocks[unit], layers.kv(context), strict=True):
                            place.copy_(computed)
        except BaseException:
            while made:
                made.pop().buffer.release()
            raise
        return made

    def _allocate(self, text: Condition, shape: tuple[int, ...]) -> _Kept:
        """Room for a text whose context has this shape (1, l, D)."""
        _, length, width = shape
        size = (len(self._entries), 2, 1, length, self._projection.heads, width // self._projection.heads)
        nbytes = torch.Size(size).numel() * self._dtype.itemsize
        buffer = self._allocator.allocate(BufferKind.TEXTS, nbytes)
        whole = buffer.memory.view(self._dtype).view(size)
        return _Kept(text, buffer, [(block[0], block[1]) for block in whole])

    @contextmanager
    def _streamer(self, source: str) -> Iterator[Streamer]:
        """A streamer over the projections; its memory, files and thread are released at the end."""
        reader = UnitReader(self._layout, self._entries, self._allocator)
        sources = {source: FileSource(reader, direct=source == "direct")}
        thread = ThreadPoolExecutor(1, thread_name_prefix="text-reader")
        streamer = Streamer(
            self._layout, lambda: deepcopy(self._projection), dict(sources), self._backend, self._allocator, thread
        )
        try:
            units = len(self._entries)
            streamer.set_plan(ComponentPlan((), min(SLOTS, units), (source,) * units, self._layout.nbytes, 0))
            yield streamer
        finally:
            streamer.release()
            reader.close()
