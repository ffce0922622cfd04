"""LayerNorm, then the modulation of adaLN, in one pass: 2.5 units of tokens x width instead of 4.

The plain operators round after the norm and after the modulation, the kernel once, at the end.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.kernels import TRITON, served

ROWS = 8  # tokens of one program, which reads the four vectors once for all of them
WARPS = 8

if TRITON:
    import triton
    import triton.language as tl

    @triton.jit
    def modulated_norm_kernel(  # type: ignore[no-untyped-def]  # Triton compiles annotations too
        x_ptr, weight_ptr, bias_ptr, shift_ptr, scale_ptr, out_ptr, tokens, x_sample, condition_sample, eps,
        WIDTH: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
    ):  # fmt: skip
        """One program: ROWS tokens of one sample. BLOCK: the power of two from WIDTH on."""
        sample = tl.program_id(1).to(tl.int64)
        columns = tl.arange(0, BLOCK)
        inside = columns < WIDTH
        weight = tl.load(weight_ptr + columns, mask=inside, other=0.0).to(tl.float32)
        bias = tl.load(bias_ptr + columns, mask=inside, other=0.0).to(tl.float32)
        condition = sample * condition_sample + columns
        scale = 1.0 + tl.load(scale_ptr + condition, mask=inside, other=0.0).to(tl.float32)
        shift = tl.load(shift_ptr + condition, mask=inside, other=0.0).to(tl.float32)
        gain, offset = weight * scale, bias * scale + shift
        first = tl.program_id(0) * ROWS
        for token in range(first, min(first + ROWS, tokens)):
            x = tl.load(x_ptr + sample * x_sample + token * WIDTH + columns, mask=inside, other=0.0).to(tl.float32)
            centred = tl.where(inside, x - tl.sum(x, axis=0) / WIDTH, 0.0)
            inverse = 1.0 / tl.sqrt(tl.sum(centred * centred, axis=0) / WIDTH + eps)
            result = (centred * (inverse * gain) + offset).to(out_ptr.dtype.element_ty)
            tl.store(out_ptr + (sample * tokens + token) * WIDTH + columns, result, mask=inside)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x (1 + scale) + shift: x (b, n, D), shift and scale (b, 1, D)."""
    return torch.addcmul(shift, x, 1 + scale)


def modulated_norm(norm: nn.LayerNorm, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """modulate(norm(x), shift, scale): x (b, n, D), shift and scale (b, 1, D), all in the weights' dtype."""
    if served(x, norm.weight, norm.bias, shift, scale) and x.stride(1) == x.shape[2]:
        return launch(norm.weight, norm.bias, norm.eps, x, shift, scale)
    return modulate(F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps), shift, scale)


def launch(weight: Tensor, bias: Tensor, eps: float, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """The kernel's: weight and bias (D,), the rest as in `modulated_norm`; rows of x lie close."""
    batch, tokens, width = x.shape
    out = x.new_empty(x.shape)
    if shift.stride(0) != scale.stride(0):
        shift, scale = shift.contiguous(), scale.contiguous()
    modulated_norm_kernel[(triton.cdiv(tokens, ROWS), batch)](
        x, weight, bias, shift, scale, out, tokens, x.stride(0), shift.stride(0), eps,
        WIDTH=width, BLOCK=triton.next_power_of_2(width), ROWS=ROWS, num_warps=WARPS,
    )  # fmt: skip
    return out


def moved_bytes(batch: int, tokens: int, width: int, itemsize: int) -> int:
    """What the kernel's loads and stores move: every token once in and out, four vectors per program."""
    return batch * (2 * tokens + 4 * -(-tokens // ROWS)) * width * itemsize
