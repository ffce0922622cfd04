"""Rotary positions in three dimensions (RoPE3D): frame, row and column of a token."""

import torch
from torch import Tensor

Rope = tuple[Tensor, Tensor]  # cos and sin of rope_tables
ROPE_BASE = 10000.0


def rope_tables(grid: tuple[int, int, int], head_dim: int, device: torch.device | None = None) -> Rope:
    """cos and sin, each (f*h*w, 1, head_dim) float32, for tokens in the order frame, row, column.

    Half of a head's channels rotate with the frame, a quarter with the row, a quarter with the column (64 | 32 | 32 of
    128). Inside each part channel i is paired with channel i + half of the part (NeoX order); the minus sign of the
    rotation is folded into sin. Angles, cos and sin are float32: the official code rounds angles to bfloat16, which
    changes cos by up to 0.1.
    """
    places = torch.cartesian_prod(*(torch.arange(size, dtype=torch.float32, device=device) for size in grid))
    angles, signs = [], []
    for place, width in zip(places.unbind(-1), rope_split(head_dim), strict=True):
        frequencies = ROPE_BASE ** (-torch.arange(0, width, 2, dtype=torch.float32, device=device) / width)
        angle = place[:, None] * frequencies
        angles += [angle, angle]
        signs += [-torch.ones_like(frequencies), torch.ones_like(frequencies)]
    whole = torch.cat(angles, dim=-1)[:, None]
    return whole.cos(), whole.sin() * torch.cat(signs)


def rope_split(head_dim: int) -> tuple[int, int, int]:
    """Channels of a head that rotate with frame, row and column. ValueError unless 8 divides head_dim."""
    if head_dim % 8:
        raise ValueError(f"RoPE3D needs a head width divisible by 8, not {head_dim}.")
    return head_dim // 2, head_dim // 4, head_dim // 4


def rotate(x: Tensor, rope: Rope, out: Tensor | None = None) -> Tensor:
    """RoPE3D: x (b, n, heads, d), the `rope_tables` of its n tokens -> the same shape and dtype; float32 inside.

    out: where the result is written, not differentiable; its dtype is that of x.
    """
    cos, sin = rope
    halves = [width // 2 for width in rope_split(x.shape[-1]) for _ in range(2)]
    frame, frame2, row, row2, column, column2 = x.split(halves, dim=-1)
    swapped = torch.cat((frame2, frame, row2, row, column2, column), dim=-1)
    if out is None and not torch.is_grad_enabled():
        out = torch.empty_like(swapped)
    if out is not None:  # one rounding on the way out, instead of a float32 tensor that is read again
        return torch.addcmul(x * cos, swapped, sin, out=out)
    return torch.addcmul(x * cos, swapped, sin).to(x.dtype)
