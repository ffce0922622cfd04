"""int8 weights: one scale per output row; dequantised before each product, which is computed in the input's dtype.

Codes are those of bitsandbytes' row-wise quantiser (LLM.int8(), arXiv 2208.07339): weights through float16, absmax per
row, rounded half to even. They are computed with plain PyTorch in float32, so every device gives the same ones.
bitsandbytes itself serves only the second mode, in which the product is computed in int8.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAX_CODE = 127  # codes are -127..127
SCALE_KEY = "weight_scale"  # beside each int8 "weight"
PRODUCT_ELEMENTS = 2**31  # bitsandbytes' kernels count the elements of a product in 32 bits
UNITS = {  # where a network keeps its units
    "transformer": "transformer_blocks",
    "step_llm": "transformer.layers",
    "step_audio_llm": "model.layers",
}
Unit = TypeVar("Unit", bound=nn.Module)
Network = TypeVar("Network", bound=nn.Module)


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """weight (out, in), any float dtype -> codes (out, in) int8, scales (out,) float32.

    The weight is about codes * scale. A row of zeros gets scale 0. ValueError for numbers that float16 does not hold:
    infinite, not a number, or above 65504.
    """
    half = weight.to(torch.float16).float()
    absmax = half.abs().amax(dim=1)
    if not absmax.isfinite().all():
        raise ValueError("a weight is not finite in float16")
    inverse = torch.where(absmax > 0, MAX_CODE / absmax, 0.0)
    return half.mul_(inverse[:, None]).round_().to(torch.int8), absmax / MAX_CODE


def dequantize_rows(codes: Tensor, scale: Tensor, out: Tensor) -> Tensor:
    """codes * scale, rounded once into `out` (out, in) of any float dtype; on a GPU nothing is allocated."""
    if codes.is_cuda:
        return torch.mul(codes, scale[:, None], out=out)
    # On a CPU a product of mixed dtypes would copy its arguments; int8 itself is exact in every float dtype.
    return out.copy_(codes).mul_(scale[:, None])


class Scratch:
    """Two device buffers that the layers of a network dequantise their weights into, in turns.

    Layers that follow each other use different buffers, so that a pair which alternates over chunks of tokens (the two
    layers of a feed-forward, for example) is dequantised once per block and not once per chunk. This is valid only
    while weights stay as they are: the caller promises it with `with scratch.unit()`. Outside of it, each use
    dequantises again.
    """

    def __init__(self, buffers: tuple[Tensor, Tensor]) -> None:
        """buffers: flat, of the compute dtype, at least `scratch_elements` long each."""
        self._buffers = buffers
        self._held: list[nn.Module | None] = [None, None]  # the layer whose weight each buffer holds
        self._inside_unit = False

    @property
    def nbytes(self) -> int:
        """Bytes of both buffers."""
        return sum(buffer.nbytes for buffer in self._buffers)

    @contextmanager
    def unit(self) -> Iterator[None]:
        """Encloses the use of one block with one set of weights, for any number of conditions."""
        self._held, self._inside_unit = [None, None], True
        try:
            yield
        finally:
            self._held, self._inside_unit = [None, None], False

    def weight(self, layer: "Int8Linear") -> Tensor:
        """The layer's weight (out, in) in the compute dtype; valid until the next layer of the same turn calls this."""
        weight = self._buffers[layer.turn][: layer.weight.numel()].view(layer.weight.shape)
        if self._held[layer.turn] is not layer:
            dequantize_rows(layer.weight, layer.weight_scale, weight)
            self._held[layer.turn] = layer if self._inside_unit else None
        return weight


class Int8Linear(nn.Module):
    """A linear layer without bias on int8 weights (out, in) and scales (out,) float32; for inference.

    scratch: where the weight is dequantised (None: into new memory, each time). turn: which of its buffers.
    compute: "weight" multiplies in the input's dtype; "int8" also quantises each token and multiplies in int8.
    """

    def __init__(self, weight: Tensor, scale: Tensor, scratch: Scratch | None = None, *, turn: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.weight_scale = nn.Parameter(scale, requires_grad=False)
        self.scratch, self.turn, self.compute = scratch, turn, "weight"

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out), in the dtype of x, which is the scratch's."""
        if self.compute == "int8":
            return int8_product(x, self.weight, self.weight_scale)
        return F.linear(x, self.dequantized(x))

    def dequantized(self, x: Tensor) -> Tensor:
        """The weight (out, in) in the dtype of x; valid as `Scratch.weight` says."""
        if self.scratch is None:
            return dequantize_rows(self.weight, self.weight_scale, x.new_empty(self.weight.shape))
        return self.scratch.weight(self)


def product_weight(layer: nn.Module, x: Tensor) -> Tensor | None:
    """The weight (out, in) that a linear layer multiplies x by, for a product that does more than the layer would.

    None where the layer multiplies in int8: call the layer itself.
    """
    if not isinstance(layer, Int8Linear):
        return cast(nn.Linear, layer).weight
    return None if layer.compute == "int8" else layer.dequantized(x)


def int8_block(block: Unit, scratch: Scratch | None = None, *, compute: str = "weight") -> Unit:
    """Replaces every nn.Linear of a transformer block or LLM layer by an Int8Linear; returns the same block.

    Norms and tables stay. A block on the meta device stays there. Real weights are quantised; layers that are int8
    already keep their weights and get the scratch.
    """
    if compute == "int8":
        # Imported now: the import may log an error with a traceback, and a log handler that keeps it would keep the
        # tensors of the product that is running.
        _bitsandbytes()
    for parent in list(block.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.Linear):
                setattr(parent, name, _quantized(layer))
    for index, layer in enumerate(int8_layers(block)):
        layer.scratch, layer.turn, layer.compute = scratch, index % 2, compute
    return block


def int8_network(network: Network, component: str) -> Network:
    """`int8_block` on every unit of a transformer or Step-LLM; what lies outside of units stays as it is."""
    for unit in network.get_submodule(UNITS[component]).children():
        int8_block(unit)
    return network


def int8_layers(unit: nn.Module) -> list[Int8Linear]:
    """The int8 layers of a unit in the order of its keys."""
    return [layer for layer in unit.modules() if isinstance(layer, Int8Linear)]


def scratch_elements(unit: nn.Module) -> tuple[int, int]:
    """Elements that each of the two scratch buffers needs for a unit after `int8_block`."""
    sizes = [(layer.turn, layer.weight.numel()) for layer in int8_layers(unit)]
    first, second = (max((size for turn, size in sizes if turn == which), default=0) for which in (0, 1))
    return first, second


def int8_compute_available() -> bool:
    """Whether bitsandbytes is installed, which the mode compute="int8" needs."""
    return find_spec("bitsandbytes") is not None


def int8_product(x: Tensor, codes: Tensor, scale: Tensor, *, limit: int = PRODUCT_ELEMENTS) -> Tensor:
    """x (..., in) times codes (out, in) in int8, each row of x quantised on the fly -> (..., out) in x's dtype.

    Rows are multiplied in pieces that keep every matrix of the product below `limit` elements. Inputs (on CUDA outputs
    too) pass through float16, so values above 65504 become infinite; this and the rounding of x are why the mode is
    never a default.
    """
    operations = _bitsandbytes()
    absmax = scale * MAX_CODE

    def product(rows: Tensor) -> Tensor:
        row_codes, row_absmax, _ = operations.int8_vectorwise_quant(rows.to(torch.float16))
        return operations.int8_scaled_mm(row_codes, codes, row_absmax, absmax, dtype=x.dtype)

    rows = x.reshape(-1, x.shape[-1])
    piece = max((limit - 1) // max(codes.shape), 1)
    if len(rows) <= piece:
        return product(rows).unflatten(0, x.shape[:-1])
    out = rows.new_empty(len(rows), len(codes))
    for start in range(0, len(rows), piece):
        out[start : start + piece] = product(rows[start : start + piece])
    return out.unflatten(0, x.shape[:-1])


@cache
def _bitsandbytes() -> Any:
    import_module("bitsandbytes")  # registers its operations with torch
    return torch.ops.bitsandbytes


def _quantized(layer: nn.Linear) -> Int8Linear:
    if layer.bias is not None:
        raise ValueError("int8 layers have no bias")
    if layer.weight.is_meta:
        codes = torch.empty(layer.weight.shape, dtype=torch.int8, device="meta")
        return Int8Linear(codes, torch.empty(len(codes), dtype=torch.float32, device="meta"))
    return Int8Linear(*quantize_rows(layer.weight.detach()))
