"""The public transformer block in plain operators, one per arithmetic step: what the program's block is timed against.

The formulas are those of models/transformer.py (adaLN-single, interleaved qkv, RMS norms of q and k, RoPE3D, gates),
over all tokens at once and with the same weights and attention kernel; nothing is fused, chunked or in place.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from models.attention import attention
from models.layers import RMSNorm
from models.rope import Rope, rope_split
from models.transformer import Block, Hidden


def eager_block(block: Block, hidden: Hidden) -> Tensor:
    """The tokens (b, n, D) after the block; hidden is not changed, its context is all valid."""
    x, context = hidden.tokens, hidden.context
    if context is None:
        raise ValueError("The eager block projects the context itself.")
    table = (block.scale_shift_table[None] + hidden.modulation).chunk(6, dim=1)
    shift, scale, gate, ff_shift, ff_scale, ff_gate = table
    own, text, heads = block.attn1, block.attn2, block.attn1.heads

    q, k, v = own.wqkv(block.norm1(x) * (1 + scale) + shift).unflatten(-1, (heads, -1)).chunk(3, dim=-1)
    q, k = _rotated(_normed(q, own.q_norm), hidden.rope), _rotated(_normed(k, own.k_norm), hidden.rope)
    x = gate * own.wo(attention(q.contiguous(), k.contiguous(), v.contiguous()).flatten(2)) + x

    q = _normed(text.wq(x).unflatten(-1, (heads, -1)), text.q_norm)
    k, v = text.wkv(context).unflatten(-1, (heads, -1)).chunk(2, dim=-1)
    x = text.wo(attention(q, _normed(k, text.k_norm), v.contiguous()).flatten(2)) + x

    grow, _, shrink = block.ff.net
    inner = F.gelu(grow.proj(block.norm2(x) * (1 + ff_scale) + ff_shift), approximate="tanh")
    return ff_gate * shrink(inner) + x


def _normed(x: Tensor, norm: RMSNorm) -> Tensor:
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + norm.eps)).to(x.dtype) * norm.weight


def _rotated(x: Tensor, rope: Rope) -> Tensor:
    """RoPE3D, axis by axis: each part of the channels on its own, halves paired."""
    cos, sin = rope
    widths, wide = rope_split(x.shape[-1]), x.float()
    parts = []
    for part, c, s in zip(wide.split(widths, -1), cos.split(widths, -1), sin.split(widths, -1), strict=True):
        first, second = part.chunk(2, dim=-1)
        parts.append(part * c + torch.cat((second, first), dim=-1) * s)  # sin carries the sign of the rotation
    return torch.cat(parts, dim=-1).to(x.dtype)
