"""A unit's tensors in one flat buffer: the table of where each lies, and a module that computes from the buffer.

A unit is a transformer block or an LLM layer. All units of a network share one layout, so one copy moves a unit, and a
module whose parameters are views of a buffer computes whichever unit the buffer holds. Its addresses never change.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.quantized import int8_layers
from studio.memory.allocator import Lease

ALIGNMENT = 512  # bytes; what CUDA's own allocator aligns to, enough for every kernel


@dataclass(frozen=True)
class Field:
    """One tensor's place in the flat buffer."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int
    nbytes: int


@dataclass(frozen=True)
class Layout:
    """The table of a flat buffer of `nbytes` bytes."""

    fields: tuple[Field, ...]
    nbytes: int

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "Layout":
        """One field per tensor (on the meta device: only dtype and shape are read), in their order."""
        fields, end = [], 0
        for name, tensor in tensors.items():
            nbytes = math.prod(tensor.shape) * tensor.dtype.itemsize
            fields.append(Field(name, tensor.dtype, tuple(tensor.shape), end, nbytes))
            end = -(-(end + nbytes) // ALIGNMENT) * ALIGNMENT
        return cls(tuple(fields), end)

    def views(self, memory: Tensor) -> dict[str, Tensor]:
        """The tensors of a flat uint8 buffer, by name, without a copy."""
        return {
            field.name: memory[field.offset : field.offset + field.nbytes].view(field.dtype).view(field.shape)
            for field in self.fields
        }


class Slot:
    """A device buffer and the module that computes from it.

    `unit` is what the buffer holds once `ready` has happened, None when nothing is promised. `busy` from the moment a
    load is planned until the unit has been used; `free` is the event after its last use.
    """

    def __init__(self, lease: Lease, layout: Layout, module: nn.Module, free: Any) -> None:
        self.lease = lease
        module.load_state_dict(layout.views(lease.memory), strict=True, assign=True)
        self.module = module.eval().requires_grad_(False)
        self.unit: int | None = None
        self.busy = False
        self.ready: Any = None
        self.free = free

    def release(self) -> None:
        """Give the buffer back. Whoever still refers to the module finds it without parameters."""
        for layer in int8_layers(self.module):
            layer.scratch = None
        for part in self.module.modules():
            for name, _ in list(part.named_parameters(recurse=False)):
                part.register_parameter(name, None)
        self.lease.release()
