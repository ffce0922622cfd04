"""The layout of one unit (a transformer block or an LLM layer) in a flat buffer, and a slot that computes from one.

All units of a network share one layout, so one copy moves a unit. A module whose parameters are views of the buffer
computes whichever unit the buffer holds; its addresses never change.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.quantized import int8_layers
from studio.memory.allocator import Buffer

ALIGNMENT = 512  # bytes, as CUDA's own allocator aligns; enough for every kernel


@dataclass(frozen=True)
class Field:
    """One tensor's place in the flat buffer."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int
    nbytes: int


@dataclass(frozen=True)
class UnitLayout:
    """The places of a unit's tensors in a flat buffer of `nbytes` bytes."""

    fields: tuple[Field, ...]
    nbytes: int

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "UnitLayout":
        """One field per tensor, in their order. Only dtype and shape are read: meta tensors will do."""
        fields, end = [], 0
        for name, tensor in tensors.items():
            nbytes = math.prod(tensor.shape) * tensor.dtype.itemsize
            fields.append(Field(name, tensor.dtype, tuple(tensor.shape), end, nbytes))
            end = -(-(end + nbytes) // ALIGNMENT) * ALIGNMENT
        return cls(tuple(fields), end)

    def views(self, memory: Tensor) -> dict[str, Tensor]:
        """The tensors in a flat buffer, uint8 (nbytes,), by name and without a copy."""
        return {
            field.name: memory[field.offset : field.offset + field.nbytes].view(field.dtype).view(field.shape)
            for field in self.fields
        }


class Slot:
    """A device buffer and the module that computes from it.

    unit: what the buffer holds once the loads that were started are done; None: contents undefined. ready: the event
    after the last copy into it. free: the event after its last use.
    """

    def __init__(self, buffer: Buffer, layout: UnitLayout, module: nn.Module, free: Any) -> None:
        self.buffer = buffer
        module.load_state_dict(layout.views(buffer.memory), strict=True, assign=True)
        self.module = module.eval().requires_grad_(False)
        self.unit: int | None = None
        self.ready: Any = None
        self.free = free

    def release(self) -> None:
        """Free the buffer. A module that is still referenced elsewhere has no parameters afterwards."""
        for layer in int8_layers(self.module):
            layer.scratch = None
        for part in self.module.modules():
            for name, _ in list(part.named_parameters(recurse=False)):
                part.register_parameter(name, None)
        self.buffer.release()
