"""Step-LLM, the larger of the two text encoders: a causal language model without a head; its last layer is the output.

Attribute names are the keys of the public checkpoint. Positions enter through attention alone, as a bias of
-slope * sqrt(distance), "ALiBi with a square root". The official pipeline computes attention in a closed binary
(torch.ops.Optimus.fwd). StepFun's own model code for the same family (modeling_step1.py of Step-Audio-TTS-3B) calls the
same operator and falls back to this bias where it is missing.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.attention import attention
from models.config_values import divides, epsilon, layer_count, whole
from models.layers import RMSNorm


@dataclass(frozen=True)
class StepLLMParams:
    """The architecture."""

    width: int = 6144
    layers: int = 48
    heads: int = 48
    groups: int = 8  # of heads that share keys and values
    ffn_width: int = 16896
    vocabulary: int = 65536
    norm_eps: float = 1e-5

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "StepLLMParams":
        """From a public step_llm/config.json. ValueError if a size is missing, is none, or does not divide."""
        params = cls(
            width=whole(config, "hidden_size"),
            layers=layer_count(config, "num_layers"),
            heads=whole(config, "num_attention_heads"),
            groups=whole(config, "num_attention_groups"),
            ffn_width=whole(config, "ffn_hidden_size"),
            vocabulary=whole(config, "padded_vocab_size"),
            norm_eps=epsilon(config, "layernorm_epsilon"),
        )
        divides(params.heads, params.width, f"width {params.width} by {params.heads} heads")
        divides(params.groups, params.heads, f"{params.heads} heads by {params.groups} groups")
        return params

    @property
    def head_dim(self) -> int:
        """Channels of one head."""
        return self.width // self.heads


def alibi_slopes(heads: int) -> list[float]:
    """One slope per query head: a geometric series for the first 2^k heads, the others lie between its terms."""
    power = 2 ** math.floor(math.log2(heads))
    return [2 ** (-8 / power * (head + 1)) for head in range(power)] + [
        2 ** (-4 / power * (2 * head + 1)) for head in range(heads - power)
    ]


def slopes_on(heads: int, device: torch.device | None) -> Tensor:
    """`alibi_slopes` as float32 (heads,), computed on the device: a copy from RAM would make the caller wait for it."""
    power = 2 ** math.floor(math.log2(heads))
    first = torch.arange(1, power + 1, dtype=torch.float64, device=device) * (-8 / power)
    between = (2 * torch.arange(heads - power, dtype=torch.float64, device=device) + 1) * (-4 / power)
    return torch.cat((first, between)).exp2().float()


def sqrt_alibi(heads: int, length: int, device: torch.device | None = None) -> Tensor:
    """The attention bias (heads, length, length) float32: -slope * sqrt(i - j) where key j is not after query i."""
    places = torch.arange(length, device=device)
    distance = (places[:, None] - places).clamp(min=0).float().sqrt()
    return -slopes_on(heads, device)[:, None, None] * distance


class GroupedAttention(nn.Module):
    """Causal attention with grouped keys and values. Rows of `wqkv`: all queries, then [k | v] group by group."""

    def __init__(self, params: StepLLMParams):
        super().__init__()
        self.params = params
        self.wqkv = nn.Linear(params.width, params.width + 2 * params.groups * params.head_dim, bias=False)
        self.wo = nn.Linear(params.width, params.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(b, l, d) -> (b, l, d) in the weights' dtype."""
        heads, groups, head_dim = self.params.heads, self.params.groups, self.params.head_dim
        q, kv = self.wqkv(x).split((heads * head_dim, 2 * groups * head_dim), dim=-1)
        q = q.unflatten(-1, (heads, head_dim))
        k, v = kv.unflatten(-1, (groups, 2 * head_dim)).repeat_interleave(heads // groups, dim=2).chunk(2, dim=-1)
        bias = sqrt_alibi(heads, x.shape[1], x.device)
        return self.wo(attention(q, k, v, causal=True, bias=bias).flatten(2))


class SwiGLU(nn.Module):
    """The feed-forward part of a layer: silu(gate) * value; the first half of the rows of `w1` is the gate."""

    def __init__(self, params: StepLLMParams):
        super().__init__()
        self.w1 = nn.Linear(params.width, 2 * params.ffn_width, bias=False)
        self.w2 = nn.Linear(params.ffn_width, params.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(b, l, d) -> (b, l, d) in the weights' dtype."""
        gate, value = self.w1(x).chunk(2, dim=-1)
        return self.w2(F.silu(gate) * value)


class Layer(nn.Module):
    """One layer with pre-norms and residuals; it can be built alone."""

    def __init__(self, params: StepLLMParams):
        super().__init__()
        self.attention = GroupedAttention(params)
        self.feed_forward = SwiGLU(params)
        self.attention_norm = RMSNorm(params.width, params.norm_eps)
        self.ffn_norm = RMSNorm(params.width, params.norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """(b, l, d) -> (b, l, d) in the weights' dtype."""
        x = x + self.attention(self.attention_norm(x))
        return x + self.feed_forward(self.ffn_norm(x))


class WordEmbedding(nn.Embedding):
    """nn.Embedding whose initialisation does not import torch._dynamo on the meta device, which takes seconds."""

    def reset_parameters(self) -> None:
        """Called by nn.Embedding's constructor."""
        nn.init.trunc_normal_(self.weight)


class StepLLM(nn.Module):
    """Token ids -> hidden states of the last layer. There is no final norm.

    Attention is causal and padding stands on the right: the valid tokens alone give the same states at less cost.
    """

    def __init__(self, params: StepLLMParams):
        super().__init__()
        self.params = params
        self.tok_embeddings = nn.ModuleDict({"word_embeddings": WordEmbedding(params.vocabulary, params.width)})
        self.transformer = nn.ModuleDict({"layers": nn.ModuleList(Layer(params) for _ in range(params.layers))})

    def embed(self, input_ids: Tensor) -> Tensor:
        """What enters the first layer: (b, l) int64 -> (b, l, d)."""
        return self.tok_embeddings["word_embeddings"](input_ids)

    @property
    def layers(self) -> nn.ModuleList:
        """The layers, each a `Layer`."""
        return cast(nn.ModuleList, self.transformer["layers"])

    def forward(self, input_ids: Tensor) -> Tensor:
        """(b, l) int64 -> (b, l, d) in the weights' dtype."""
        x = self.embed(input_ids)
        for layer in self.layers:
            x = layer(x)
        return x
