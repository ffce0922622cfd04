"""The parts of the video transformer: norms, embeddings, rotary positions, attention and feed-forward.

Without gradients, everything that treats each token alone runs in chunks of tokens, so that a long video needs no
full-size activation beside those that attention must see whole. `collect` and the two `accumulate` are the only places
that know about chunks; with gradients they run the same functions on all tokens at once.

Without gradients, sums, gates and activations are part of a neighbouring operator wherever PyTorch has one that does
both: each saves a pass over memory (models/cost.py counts them).
"""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.attention import attention
from models.kernels.heads import split_heads
from models.quantized import product_weight
from models.rope import Rope

TextKV = tuple[Tensor, Tensor]  # keys and values of a text in one block: each (b, l, heads, d)
SINUSOID_WIDTH = 256


def _parts(length: int, chunk: int) -> Iterator[slice]:
    return (slice(start, min(start + chunk, length)) for start in range(0, length, chunk))


Outputs = tuple[Tensor, ...]


def collect(
    function: Callable[[slice, Outputs | None], Outputs], tokens: Tensor, shapes: Sequence[tuple[int, ...]], chunk: int
) -> Outputs:
    """Runs `function` on slices of tokens (b, n, D); its results (b, n, *shape), one per shape.

    `function(part, out)` writes the results of a slice into `out`, or returns new tensors where `out` is None, which
    means all tokens at once. The whole tensors are allocated first: behind a chunk's own tensors they would leave a gap
    that nothing as large fits into later, 0.4 GB of what a CUDA allocator reserves at 204 frames
    (tests/memory/planning/test_reserved.py).
    """
    batch, length = tokens.shape[:2]
    if torch.is_grad_enabled() or length <= chunk:
        return function(slice(0, length), None)
    wholes = tuple(tokens.new_empty(batch, length, *shape) for shape in shapes)
    for part in _parts(length, chunk):
        function(part, tuple(whole[:, part] for whole in wholes))
    return wholes


def accumulate(tokens: Tensor, gate: Tensor, update: Callable[[slice], Tensor], chunk: int) -> Tensor:
    """tokens (b, n, D) + gate (b, 1, D) times `update` of each slice; without gradients in place.

    `update` may read the slice's tokens.
    """
    if torch.is_grad_enabled():
        return torch.addcmul(tokens, gate, update(slice(0, tokens.shape[1])))
    for part in _parts(tokens.shape[1], chunk):
        tokens[:, part].addcmul_(gate, update(part))
    return tokens


def accumulate_product(tokens: Tensor, update: Callable[[slice], Tensor], layer: nn.Module, chunk: int) -> Tensor:
    """tokens (b, n, D) + `layer` (a linear layer without bias) of `update` of each slice; without gradients in place.

    The sum is part of the matrix product where the layer has a weight in the tokens' dtype.
    """
    if torch.is_grad_enabled():
        return tokens + layer(update(slice(0, tokens.shape[1])))
    for part in _parts(tokens.shape[1], chunk):
        given = update(part)
        weight = product_weight(layer, given)
        if weight is None:
            tokens[:, part].add_(layer(given))
            continue
        for sample, row in zip(tokens[:, part], given, strict=True):
            sample.addmm_(row, weight.t())
    return tokens


def sinusoid(values: Tensor, width: int = SINUSOID_WIDTH) -> Tensor:
    """values (b,) -> (b, width) float32: [cos | sin], cosines first; frequencies from 1 down to almost 1/10000."""
    half = width // 2  # frequencies are computed in float64, so that every machine rounds to the same ones
    exponents = torch.arange(half, dtype=torch.float64, device=values.device) * (-math.log(10000.0) / half)
    angles = values.float()[:, None] * exponents.exp().float()
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


class RMSNorm(nn.Module):
    """x / rms(x) over the last dimension, times the weight: float32 inside, rounded once.

    The official code rounds before it multiplies by the weight; the result here is closer to the exact one.
    """

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> the same shape; x has the weight's dtype."""
        return F.rms_norm(x, self.scale.shape, self.scale, self.eps)

    @property
    def scale(self) -> Tensor:
        """The weight; without gradients detached: one that could have a gradient makes PyTorch's CPU path round twice,
        gradients enabled or not."""
        return self.weight if torch.is_grad_enabled() else self.weight.detach()


class Projection(nn.Module):
    """Linear, activation, linear."""

    def __init__(self, in_width: int, width: int, activation: nn.Module):
        super().__init__()
        self.linear_1 = nn.Linear(in_width, width)
        self.activation = activation
        self.linear_2 = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_width) -> (..., width); x has the weights' dtype."""
        return self.linear_2(self.activation(self.linear_1(x)))


class ConditionEmbedding(nn.Module):
    """The time, and for TI2V the motion score, as one vector."""

    def __init__(self, width: int, *, motion_score: bool):
        super().__init__()
        self.timestep_embedder = Projection(SINUSOID_WIDTH, width, nn.SiLU())
        if motion_score:
            self.motion_score_embedder = Projection(SINUSOID_WIDTH, width, nn.SiLU())

    def forward(self, timestep: Tensor, motion_score: Tensor | None, dtype: torch.dtype) -> Tensor:
        """timestep (b,) in 0..1, motion_score (b,) or None -> (b, D) in `dtype`, which is the weights'.

        The time is multiplied by 1000 before its sinusoid, the motion score is not (official AdaLayerNormSingle).
        """
        embedding = self.timestep_embedder(sinusoid(timestep.float() * 1000).to(dtype))
        if motion_score is not None:
            embedding = embedding + self.motion_score_embedder(sinusoid(motion_score).to(dtype))
        return embedding


class AdaLayerNormSingle(nn.Module):
    """The condition vector, and the modulation that all blocks share (adaLN-single of PixArt-alpha)."""

    def __init__(self, width: int, *, motion_score: bool):
        super().__init__()
        self.emb = ConditionEmbedding(width, motion_score=motion_score)
        self.linear = nn.Linear(width, 6 * width)

    def forward(self, timestep: Tensor, motion_score: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """As ConditionEmbedding -> the condition vector (b, D) and the modulation (b, 6, D), both in `dtype`."""
        embedding = self.emb(timestep, motion_score, dtype)
        return embedding, self.linear(F.silu(embedding)).unflatten(-1, (6, -1))


class GELULinear(nn.Module):
    """Linear, then tanh-approximated GELU."""

    def __init__(self, in_width: int, width: int):
        super().__init__()
        self.proj = nn.Linear(in_width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_width) -> (..., width); x has the weights' dtype.

        On CUDA the activation is part of the matrix product (cuBLASLt's, in tanh form), so that the widest tensor of a
        block is written once. PyTorch's operator of that name computes the erf form on a CPU.
        """
        weight = product_weight(self.proj, x) if x.is_cuda and not torch.is_grad_enabled() else None
        if weight is None:
            return F.gelu(self.proj(x), approximate="tanh")
        rows = x.flatten(0, -2)
        grown = torch._addmm_activation(x.new_zeros(len(weight)), rows, weight.t(), use_gelu=True)
        return grown.unflatten(0, x.shape[:-1])


class FeedForward(nn.Module):
    """Linear to 4 D, GELU, linear back. The Identity stands for a dropout, which the public keys count."""

    def __init__(self, width: int):
        super().__init__()
        self.net = nn.Sequential(GELULinear(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D); x has the weights' dtype."""
        return self.net(x)


class _NormedAttention(nn.Module):
    """What self- and cross-attention share: the output projection, and RMS norms of queries and keys per head."""

    def __init__(self, heads: int, head_dim: int, eps: float):
        super().__init__()
        self.heads = heads
        self.wo = nn.Linear(heads * head_dim, heads * head_dim, bias=False)
        self.q_norm = RMSNorm(head_dim, eps)
        self.k_norm = RMSNorm(head_dim, eps)


class SelfAttention(_NormedAttention):
    """Attention of all tokens to all tokens. The rows of `wqkv` are interleaved: [q | k | v] head by head."""

    def __init__(self, heads: int, head_dim: int, eps: float):
        super().__init__(heads, head_dim, eps)
        self.wqkv = nn.Linear(heads * head_dim, 3 * heads * head_dim, bias=False)

    def qkv(self, x: Tensor, rope: Rope, out: Outputs | None = None) -> Outputs:
        """x (b, n, D) and the rope of its tokens -> q, k, v (b, n, heads, d); q and k are normed, then rotated.

        out: where they are written; without it, v is a view of the projection.
        """
        return split_heads(self.wqkv(x), (self.q_norm.scale, self.k_norm.scale), self.q_norm.eps, rope, out)


class CrossAttention(_NormedAttention):
    """Attention of tokens to the text. The rows of `wkv` are interleaved: [k | v] head by head."""

    def __init__(self, heads: int, head_dim: int, eps: float):
        super().__init__(heads, head_dim, eps)
        self.wq = nn.Linear(heads * head_dim, heads * head_dim, bias=False)
        self.wkv = nn.Linear(heads * head_dim, 2 * heads * head_dim, bias=False)

    def kv(self, context: Tensor) -> TextKV:
        """context (b, l, D) -> k, v (b, l, heads, d), both contiguous; k is normed. No RoPE here."""
        k, v = self.wkv(context).unflatten(-1, (self.heads, -1)).chunk(2, dim=-1)
        return self.k_norm(k).contiguous(), v.contiguous()

    def split_text(self) -> "CrossAttention":
        """Move what projects the text, `wkv` and `k_norm`, into a CrossAttention of which `kv` alone works.

        This one then computes from given keys and values alone.
        """
        heads, norm = self.heads, self.k_norm
        with torch.device("meta"):
            text = CrossAttention(heads, norm.weight.numel(), norm.eps)
        del text.wo, text.wq, text.q_norm
        text.wkv, text.k_norm = self.wkv, norm
        del self.wkv, self.k_norm
        return text

    def mix(self, x: Tensor, k: Tensor, v: Tensor, lengths: tuple[int, ...] | None = None) -> Tensor:
        """x (b, n, D) and k, v (b, l, heads, d) of `kv` -> (b, n, D), all in the weights' dtype; `wo` comes after it.

        Sample i attends to its first lengths[i] positions only; None: to all.
        """
        q = self.q_norm(self.wq(x).unflatten(-1, (self.heads, -1)))
        if lengths is None:
            return attention(q, k, v).flatten(2)
        # equals a mask over the text, without building the mask
        rows = (slice(i, i + 1) for i in range(len(q)))
        seen = torch.cat([attention(q[i], k[i, :m], v[i, :m]) for i, m in zip(rows, lengths, strict=True)])
        return seen.flatten(2)
