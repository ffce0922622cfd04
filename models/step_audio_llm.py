"""The language model of Step-Audio-TTS-3B (Step-1): text and voice in, ids of speech codes out, one after the other.

Attribute names are the keys of the public checkpoint. It is the family of models.step_llm (grouped heads, SwiGLU,
positions as a bias of -slope * sqrt(distance)), with a final norm, a head of its own and a cache of keys and values.
The official attention is a closed binary; the formula here is that of StepFun's own fallback and of their vLLM model.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.attention import attention
from models.config_values import divides, epsilon, fixed, layer_count, whole
from models.layers import RMSNorm
from models.step_llm import WordEmbedding, alibi_slopes

QUERY_CHUNK = 256  # queries whose bias (heads, queries, keys) exists at once: 48 MiB float32 at 1,000 keys, 48 heads


@dataclass(frozen=True)
class StepAudioLLMParams:
    """The architecture."""

    width: int = 3072
    layers: int = 32
    heads: int = 48
    groups: int = 4  # of heads that share keys and values
    ffn_width: int = 8192
    vocabulary: int = 74752
    max_length: int = 32768  # positions, prompt included
    norm_eps: float = 1e-5

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "StepAudioLLMParams":
        """From a public config.json. ValueError if a size is missing, does not divide, or if it is another model's."""
        fixed(config, {"model_type": "step1"})
        params = cls(
            width=whole(config, "hidden_size"),
            layers=layer_count(config, "num_hidden_layers"),
            heads=whole(config, "num_attention_heads"),
            groups=whole(config, "num_attention_groups"),
            ffn_width=whole(config, "intermediate_size"),
            vocabulary=whole(config, "vocab_size"),
            max_length=whole(config, "max_seq_len"),
            norm_eps=epsilon(config, "rms_norm_eps"),
        )
        divides(params.heads, params.width, f"width {params.width} by {params.heads} heads")
        divides(params.groups, params.heads, f"{params.heads} heads by {params.groups} groups")
        return params

    @property
    def head_dim(self) -> int:
        """Channels of one head."""
        return self.width // self.heads

    def cache_bytes(self, length: int, dtype: torch.dtype) -> int:
        """Bytes of keys and values of one sequence of `length` positions: 32 KiB per position in bfloat16."""
        return 2 * self.layers * length * self.groups * self.head_dim * dtype.itemsize


class KVCache:
    """Keys and values of the positions computed so far, and the attention bias of the next ones.

    All memory is taken at once, `capacity` positions long, so that addresses stay the same while a text is spoken.
    `length`: positions that are complete. A pass appends to every layer and then calls `advance`; a pass that was
    broken off before leaves the cache as it was.
    """

    def __init__(
        self,
        params: StepAudioLLMParams,
        capacity: int,
        batch: int = 1,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        """ValueError for more positions than the model has."""
        if capacity > params.max_length:
            raise ValueError(f"{capacity} positions are more than the speech LLM has ({params.max_length}).")
        shape = (params.layers, 2, batch, capacity, params.groups, params.head_dim)
        self._memory = torch.empty(shape, dtype=dtype, device=device)
        self._capacity, self.length = capacity, 0
        # bias[h, k]: of a key k - (capacity - 1) places after its query; keys after the query are out of sight.
        distance = torch.arange(capacity - 1, -1, -1, device=device).float().sqrt()
        past = -torch.tensor(alibi_slopes(params.heads), device=device)[:, None] * distance
        future = past.new_full((params.heads, QUERY_CHUNK - 1), -torch.inf)
        self._bias = torch.cat((past, future), dim=1)

    @property
    def nbytes(self) -> int:
        """Bytes of keys, values and bias."""
        return self._memory.nbytes + self._bias.nbytes

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Put k, v (b, n, groups, d) of the next n positions behind; returns all of the layer, (b, length + n, ...)."""
        end = self.length + k.shape[1]
        if end > self._capacity:
            raise ValueError(f"The cache has {self._capacity} positions, {end} are asked for.")
        keys, values = self._memory[layer]
        keys[:, self.length : end] = k
        values[:, self.length : end] = v
        return keys[:, :end], values[:, :end]

    def bias(self, start: int, count: int) -> Tensor:
        """(heads, count, start + count) float32: of the queries at start.. against all keys up to the last of them."""
        first = self._capacity - start - count
        rows = self._bias[:, first : self._capacity + count - 1].unfold(1, start + count, 1)
        return rows.flip(1) if count > 1 else rows

    def advance(self, count: int) -> None:
        """`count` positions were appended to every layer."""
        self.length += count


class CachedAttention(nn.Module):
    """Causal attention of grouped heads: head h reads group h // (heads / groups)."""

    def __init__(self, params: StepAudioLLMParams):
        super().__init__()
        self.params = params
        shared = params.groups * params.head_dim
        self.q_proj = nn.Linear(params.width, params.width, bias=False)
        self.k_proj = nn.Linear(params.width, shared, bias=False)
        self.v_proj = nn.Linear(params.width, shared, bias=False)
        self.o_proj = nn.Linear(params.width, params.width, bias=False)

    def forward(self, x: Tensor, cache: KVCache, layer: int) -> Tensor:
        """x (b, n, D) at the positions after cache.length -> (b, n, D)."""
        groups, head_dim = self.params.groups, self.params.head_dim
        k, v = (project(x).unflatten(-1, (groups, head_dim)) for project in (self.k_proj, self.v_proj))
        keys, values = cache.append(layer, k, v)
        queries = self.q_proj(x).unflatten(-1, (groups, -1, head_dim)).permute(0, 3, 1, 2, 4)  # (b, r, n, groups, d)
        parts = []
        for first in range(0, x.shape[1], QUERY_CHUNK):
            part = queries[:, :, first : first + QUERY_CHUNK]
            start, count = cache.length + first, part.shape[2]
            # The heads of a group become further queries of it, so that keys and values are not repeated for them.
            bias = cache.bias(start, count).unflatten(0, (groups, -1)).flatten(1, 2)
            end = start + count
            seen = attention(part.flatten(1, 2), keys[:, :end], values[:, :end], bias=bias)
            parts.append(seen.unflatten(1, (-1, count)).permute(0, 2, 3, 1, 4).flatten(2))
        return self.o_proj(torch.cat(parts, dim=1))


class GatedFeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, params: StepAudioLLMParams):
        super().__init__()
        self.gate_proj = nn.Linear(params.width, params.ffn_width, bias=False)
        self.up_proj = nn.Linear(params.width, params.ffn_width, bias=False)
        self.down_proj = nn.Linear(params.ffn_width, params.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(b, n, D) -> (b, n, D) in the weights' dtype."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class SpeechLayer(nn.Module):
    """One layer, (b, n, D) -> (b, n, D); it can be built alone."""

    def __init__(self, params: StepAudioLLMParams):
        super().__init__()
        self.self_attn = CachedAttention(params)
        self.mlp = GatedFeedForward(params)
        self.input_layernorm = RMSNorm(params.width, params.norm_eps)
        self.post_attention_layernorm = RMSNorm(params.width, params.norm_eps)

    def forward(self, x: Tensor, cache: KVCache, layer: int) -> Tensor:
        """x (b, n, D) at the positions after the cache's -> (b, n, D). layer: this one's number in the cache."""
        x = x + self.self_attn(self.input_layernorm(x), cache, layer)
        return x + self.mlp(self.post_attention_layernorm(x))


class Body(nn.Module):
    """All but the head; a class of its own because the public keys have this level."""

    def __init__(self, params: StepAudioLLMParams):
        super().__init__()
        self.embed_tokens = WordEmbedding(params.vocabulary, params.width)
        self.layers = nn.ModuleList(SpeechLayer(params) for _ in range(params.layers))
        self.norm = RMSNorm(params.width, params.norm_eps)


class StepAudioLLM(nn.Module):
    """Ids (b, n) at the positions after the cache's -> logits (b, n, vocabulary) of the ids that follow them.

    `embed`, the layers and `head` stand alone, so that a caller can bring one layer at a time onto the device;
    `forward` is the same three steps in a row.
    """

    def __init__(self, params: StepAudioLLMParams):
        super().__init__()
        self.params = params
        self.model = Body(params)
        self.lm_head = nn.Linear(params.width, params.vocabulary, bias=False)

    def embed(self, input_ids: Tensor) -> Tensor:
        """What enters the first layer: (b, n) int64 -> (b, n, D)."""
        return self.model.embed_tokens(input_ids)

    def head(self, x: Tensor) -> Tensor:
        """The last layer's output (b, n, D) -> logits (b, n, vocabulary) in the weights' dtype."""
        return self.lm_head(self.model.norm(x))

    def forward(self, input_ids: Tensor, cache: KVCache, *, last: bool = False) -> Tensor:
        """last: logits of the last position alone, (b, 1, vocabulary); a prompt needs no others."""
        x = self.embed(input_ids)
        for index, layer in enumerate(self.model.layers):
            x = layer(x, cache, index)
        cache.advance(input_ids.shape[1])
        return self.head(x[:, -1:] if last else x)
