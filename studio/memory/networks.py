"""Networks on the device: one that is resident as a whole, and one whose units are streamed.

The tensors of both are views of flat buffers from the allocator, filled directly from the public weight files.
"""

import copy
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any, cast

import torch
from torch import nn

from models.checkpoint import ComponentFiles, TensorEntry
from models.layers import CrossAttention
from models.quantized import UNITS, Scratch, int8_block, scratch_elements
from models.transformer import Block
from studio.errors import StudioError
from studio.memory.allocator import Allocator, Buffer, BufferKind, IntegrityError
from studio.memory.plan import ComponentPlan
from studio.memory.streaming.arena import Arena, Place
from studio.memory.streaming.backends import DeviceBackend
from studio.memory.streaming.layout import Slot, UnitLayout
from studio.memory.streaming.reader import UnitReader
from studio.memory.streaming.sources import FileSource, PinnedSource, Source
from studio.memory.streaming.streamer import Streamer
from studio.memory.texts import KeptTexts


class ResidentNetwork:
    """A network with all its tensors on the device; `module` computes."""

    def __init__(self, module: nn.Module, files: ComponentFiles, allocator: Allocator) -> None:
        """module: on the meta device, in its compute dtype.

        Raises StudioError, MemoryError or torch.OutOfMemoryError; nothing stays allocated then.
        """
        layout = UnitLayout.of(module.state_dict())
        reader = UnitReader(layout, [[files.entries[field.name] for field in layout.fields]], allocator)
        try:
            buffer = allocator.allocate(BufferKind.RESIDENT, layout.nbytes)
            try:
                reader.read(0, buffer.memory)
            except BaseException:
                buffer.release()
                raise
        finally:
            reader.close()
        self._slot = Slot(buffer, layout, module, free=None)
        self.module = module
        self.nbytes = layout.nbytes

    def release(self) -> None:
        """Release the memory. The network cannot be used afterwards."""
        self._slot.release()


class StreamedNetwork:
    """A network in two parts: `body`, the tensors outside of units, is resident; a streamer loads the units.

    Units may be int8 (models.quantized): they dequantise into one scratch that all of them share, or multiply in int8
    and need none.
    """

    def __init__(
        self,
        module: nn.Module,
        files: ComponentFiles,
        dtype: torch.dtype,
        allocator: Allocator,
        backend: DeviceBackend,
        *,
        int8_compute: bool = False,
        keeps_texts: bool = False,
        arena: Place | None = None,
    ) -> None:
        """module: on the meta device, as `models.checkpoint.build` returns it. int8_compute: int8 units multiply in
        int8. keeps_texts: of the transformer, whose blocks then lack what projects texts. arena: where several
        processes keep one copy of the units that are pinned. Opens the files; allocates nothing yet.
        """
        self.name, self.dtype = files.component, dtype
        self._files, self._allocator = files, allocator
        module.to(dtype)
        units = cast(nn.ModuleList, module.get_submodule(UNITS[self.name]))
        self.params: Any = module.params  # StepLLMParams or TransformerParams
        self.units, self._unit = len(units), units[0]
        text_layers = cast(Block, self._unit).attn2.split_text() if keeps_texts else None
        if files.is_int8:
            for part in (self._unit, text_layers):
                if part is not None:
                    int8_block(part, compute="int8" if int8_compute else "weight")
        self.texts = None if text_layers is None else self._kept_texts(text_layers, backend)
        self.layout = UnitLayout.of(self._unit.state_dict())
        module.set_submodule(UNITS[self.name], nn.ModuleList())
        self._without_units = module
        self.rest_bytes = UnitLayout.of(module.state_dict()).nbytes
        self.scratch_bytes = 0 if int8_compute else sum(scratch_elements(self._unit)) * dtype.itemsize
        self._rest: ResidentNetwork | None = None
        self._scratch_buffers: list[Buffer] = []
        self._scratch: Scratch | None = None
        entries = [self._entries(unit, self.layout) for unit in range(self.units)]
        self._reader = UnitReader(self.layout, entries, allocator)
        one_copy = None if arena is None else Arena(arena, self.units, self.layout.nbytes)
        registrar = ThreadPoolExecutor(1, thread_name_prefix="unit-registrar")
        self._pinned = PinnedSource(self._reader, allocator, registrar, one_copy)
        sources: dict[str, Source] = {
            "pinned": self._pinned,
            "cached": FileSource(self._reader, direct=False),
            "direct": FileSource(self._reader, direct=True),
        }
        thread = ThreadPoolExecutor(1, thread_name_prefix="unit-reader")
        self._streamer = Streamer(self.layout, self._build_unit, sources, backend, allocator, thread)
        self.plan: ComponentPlan | None = None

    @property
    def body(self) -> nn.Module:
        """The network without its units, on the device."""
        if self._rest is None:
            raise RuntimeError(f"The {self.name} is not on the device: call set_plan first.")
        return self._rest.module

    def load_body(self) -> nn.Module:
        """Load what lies outside of units. Raises as ResidentNetwork."""
        if self._rest is None:
            self._rest = ResidentNetwork(copy.deepcopy(self._without_units), self._files, self._allocator)
        return self.body

    def set_plan(self, plan: ComponentPlan) -> None:
        """Load the body and allocate the plan's buffers. Raises as ResidentNetwork; then another plan may be set."""
        if plan == self.plan:
            return
        self.plan = None
        self.load_body()
        if self.scratch_bytes and self._scratch is None:
            self._allocate_scratch()
        self._streamer.set_plan(plan)
        self.plan = plan

    def blocks(self, *, last: bool = False) -> Iterator[tuple[int, nn.Module]]:
        """As Streamer.blocks."""
        for index, block in self._streamer.blocks(last=last):
            with self._scratch.unit() if self._scratch else nullcontext():
                yield index, block

    def release_staging(self) -> None:
        """Cancel pending prefetches and release the RAM between disk and device; what is on the device stays."""
        self._streamer.release_staging()

    def files_are_current(self) -> bool:
        """Whether the weight files are still those that were opened."""
        try:
            self._reader.check()
        except StudioError:
            return False
        return True

    def offload(self) -> None:
        """Release all device memory; units pinned in RAM stay there for the next use."""
        self.plan = None
        self._streamer.offload()
        if self._rest is not None:
            self._rest.release()
            self._rest = None
        self._scratch = None
        while self._scratch_buffers:
            self._scratch_buffers.pop().release()
        if self.texts is not None:
            self.texts.release()

    def release(self) -> None:
        """Release all memory and close the files. The network cannot be used afterwards."""
        self.offload()
        self._streamer.release()
        self._reader.close()

    def buffer_bytes(self) -> dict[BufferKind, int]:
        """Bytes that this network's parts say they hold, for comparison with the allocator's counts.

        Raises IntegrityError where they differ from the plan.
        """
        streamer, plan = self._streamer, self.plan
        if plan is not None:
            planned = len(plan.resident), plan.slots, plan.unit_bytes, plan.rest_bytes, plan.scratch_bytes
            found = (
                self.units - len(plan.streamed), streamer.slots, self.layout.nbytes, self.rest_bytes, self.scratch_bytes
            )  # fmt: skip
            texts_differ = (plan.texts is None) != (self.texts is None)
            if planned != found or streamer.resident_units != plan.resident or texts_differ:
                raise IntegrityError(f"The {self.name} has (residents, slots, bytes) {found}, its plan says {planned}")
        unit = self.layout.nbytes
        return {
            BufferKind.RESIDENT: len(streamer.resident_units) * unit + (self.rest_bytes if self._rest else 0),
            BufferKind.SLOTS: streamer.slots * unit,
            BufferKind.SCRATCH: self.scratch_bytes if self._scratch else 0,
            BufferKind.TEXTS: self.texts.nbytes if self.texts else 0,
            BufferKind.PINNED: len(self._pinned.units) * unit,
            BufferKind.STAGING: streamer.staging_buffers * unit + self._reader.bounce_bytes,
        }

    def _entries(self, unit: int, layout: UnitLayout, part: str = "") -> list[TensorEntry]:
        """The tensors of a unit, or of a part of it ("attn2."), in the order of the layout."""
        return [self._files.entries[f"{UNITS[self.name]}.{unit}.{part}{field.name}"] for field in layout.fields]

    def _kept_texts(self, layers: CrossAttention, backend: DeviceBackend) -> KeptTexts:
        layout = UnitLayout.of(layers.state_dict())
        entries = [self._entries(unit, layout, "attn2.") for unit in range(self.units)]
        return KeptTexts(layers, entries, self.dtype, self._allocator, backend)

    def _build_unit(self) -> nn.Module:
        unit = copy.deepcopy(self._unit)
        return int8_block(unit, self._scratch) if self._scratch else unit

    def _allocate_scratch(self) -> None:
        while self._scratch_buffers:  # left by an attempt that ran out of memory
            self._scratch_buffers.pop().release()
        for elements in scratch_elements(self._unit):
            self._scratch_buffers.append(self._allocator.allocate(BufferKind.SCRATCH, elements * self.dtype.itemsize))
        first, second = (buffer.memory.view(self.dtype) for buffer in self._scratch_buffers)
        self._scratch = Scratch((first, second))
