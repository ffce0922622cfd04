"""The projection of self-attention taken apart into q, k and v; q and k normed per head, then rotated (RoPE3D).

The kernel reads the projection and writes q, k, v once each: 6.2 units of tokens x width instead of 28. The plain
operators round after the norm and after the rotation, the kernel once, at the end.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.kernels import TRITON, served
from models.rope import Rope, rotate

TILE_HEADS = 16  # heads at once: each thread then moves 16 bytes at once in bfloat16
WARPS = 4
HEAD_DIMS = (64, 128, 256)  # what the kernel is written for: parts of a head are powers of two
Heads = tuple[Tensor, ...]

if TRITON:
    import triton
    import triton.language as tl

    @triton.jit
    def heads_kernel(  # type: ignore[no-untyped-def]  # Triton compiles annotations too
        projected_ptr, q_scale_ptr, k_scale_ptr, cos_ptr, sin_ptr, q_ptr, k_ptr, v_ptr, tokens, out_sample, eps,
        HEADS: tl.constexpr, TILE: tl.constexpr, HALF: tl.constexpr,
    ):  # fmt: skip
        """One program: one token of one sample. A head has 2 HALF channels; a channel and its partner of the rotation
        are the same lane of two tiles, so that both are read once."""
        token, sample = tl.program_id(0), tl.program_id(1).to(tl.int64)
        lane = tl.arange(0, HALF)
        # Parts of 2 HALF channels: the frame's half, then two quarters. Where a part's first half begins.
        first = tl.where(lane < HALF // 2, lane, tl.where(lane < HALF * 3 // 4, lane + HALF // 2, lane + HALF * 3 // 4))
        first = tl.max_contiguous(tl.multiple_of(first, HALF // 4), HALF // 4)
        second = first + tl.where(lane < HALF // 2, HALF // 2, HALF // 4)
        second = tl.max_contiguous(tl.multiple_of(second, HALF // 4), HALF // 4)
        row = token * 2 * HALF
        cos1, cos2 = tl.load(cos_ptr + row + first)[None, :], tl.load(cos_ptr + row + second)[None, :]
        sin1, sin2 = tl.load(sin_ptr + row + first)[None, :], tl.load(sin_ptr + row + second)[None, :]
        given = projected_ptr + (sample * tokens + token) * HEADS * 6 * HALF
        place = sample * out_sample + token * HEADS * 2 * HALF
        for start in tl.static_range(0, HEADS, TILE):
            heads = start + tl.arange(0, TILE)[:, None]
            inside = heads < HEADS
            for part in tl.static_range(3):
                source = given + heads * 6 * HALF + part * 2 * HALF
                x1 = tl.load(source + first[None, :], mask=inside, other=0.0)
                x2 = tl.load(source + second[None, :], mask=inside, other=0.0)
                target = (q_ptr if part == 0 else k_ptr if part == 1 else v_ptr) + place + heads * 2 * HALF
                if part < 2:
                    scale_ptr = q_scale_ptr if part == 0 else k_scale_ptr
                    x1, x2 = x1.to(tl.float32), x2.to(tl.float32)
                    squares = tl.sum(x1 * x1, axis=1) + tl.sum(x2 * x2, axis=1)
                    inverse = (1.0 / tl.sqrt(squares / (2 * HALF) + eps))[:, None]
                    normed1 = x1 * inverse * tl.load(scale_ptr + first).to(tl.float32)[None, :]
                    normed2 = x2 * inverse * tl.load(scale_ptr + second).to(tl.float32)[None, :]
                    x1, x2 = normed1 * cos1 + normed2 * sin1, normed2 * cos2 + normed1 * sin2
                tl.store(target + first[None, :], x1.to(q_ptr.dtype.element_ty), mask=inside)
                tl.store(target + second[None, :], x2.to(q_ptr.dtype.element_ty), mask=inside)


def split_heads(projected: Tensor, scales: Heads, eps: float, rope: Rope, out: Heads | None = None) -> Heads:
    """projected (b, n, heads * 3 * d), [q | k | v] head by head -> q, k, v (b, n, heads, d).

    scales: weights (d,) of the norms of q and k; rope: of the n tokens, (n, 1, d) float32. out: where the results are
    written; without it, v may be a view of the projection.
    """
    head_dim, cos = len(scales[0]), rope[0]
    shape = (*projected.shape[:2], projected.shape[2] // (3 * head_dim), head_dim)
    if head_dim in HEAD_DIMS and served(projected, *scales, *rope, *(out or ())) and cos.dtype == torch.float32:
        return launch(projected, scales, eps, rope, out or tuple(projected.new_empty(shape) for _ in range(3)))
    q, k, v = projected.unflatten(-1, (shape[2], 3 * head_dim)).chunk(3, dim=-1)
    q_scale, k_scale = scales
    rooms = out or (None, None)  # q is done before k is normed: one tensor of the projection's size less at once
    turned_q = rotate(F.rms_norm(q, q_scale.shape, q_scale, eps), rope, rooms[0])
    turned_k = rotate(F.rms_norm(k, k_scale.shape, k_scale, eps), rope, rooms[1])
    return turned_q, turned_k, v if out is None else out[2].copy_(v)


def launch(projected: Tensor, scales: Heads, eps: float, rope: Rope, out: Heads) -> Heads:
    """The kernel's: arguments as of `split_heads`; out: alike in strides, rows of a sample lie close."""
    batch, tokens, heads, head_dim = out[0].shape
    heads_kernel[(tokens, batch)](
        projected.contiguous(), *scales, *rope, *out, tokens, out[0].stride(0), eps,
        HEADS=heads, TILE=min(TILE_HEADS, triton.next_power_of_2(heads)), HALF=head_dim // 2, num_warps=WARPS,
    )  # fmt: skip
    return out


def moved_bytes(batch: int, tokens: int, heads: int, head_dim: int, itemsize: int) -> int:
    """What the kernel's loads and stores move: the projection in, q, k, v out, a token's rotation; both weights once
    per tile of heads, from the cache."""
    tiles = -(-heads // TILE_HEADS)
    per_token = 6 * heads * head_dim * itemsize + 2 * head_dim * 4 + 2 * tiles * head_dim * itemsize
    return batch * tokens * per_token
