"""The first half of the flow: an encoder of speech codes with relative positions, and the stretch to mel frames.

The public classes are called Conformer; at the settings of Step-Audio-TTS-3B they are a transformer with relative
positions: no convolution module, no second feed-forward. Attribute names are the keys of the public file.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.attention import attention

POSITION_BASE = 10000.0
QUERY_CHUNK = 512  # codes whose logits of positions (heads, codes, 2 n) exist at once: 40 MiB for 30 s of speech


@dataclass(frozen=True)
class EncoderParams:
    """The encoder's architecture."""

    width: int = 512
    heads: int = 8
    ffn_width: int = 2048
    layers: int = 6


def relative_positions(length: int, width: int, device: torch.device | None = None) -> Tensor:
    """(2 length - 1, width) float32: sine and cosine, channel by channel in turns, of the distances from query to key,
    length - 1 (the key stands before) down to 1 - length.
    """
    distance = torch.arange(length - 1, -length, -1, dtype=torch.float32, device=device)
    channels = torch.arange(0, width, 2, dtype=torch.float32, device=device)
    angles = distance[:, None] * (channels * (-math.log(POSITION_BASE) / width)).exp()
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)


class RelativeAttention(nn.Module):
    """Attention of all codes to all codes, with logits (q + u) k + (q + v) p, p of the distance (Transformer-XL)."""

    def __init__(self, params: EncoderParams):
        super().__init__()
        width, self.heads = params.width, params.heads
        self.pos_bias_u = nn.Parameter(torch.zeros(self.heads, width // self.heads))
        self.pos_bias_v = nn.Parameter(torch.zeros(self.heads, width // self.heads))
        self.linear_q, self.linear_k, self.linear_v, self.linear_out = (nn.Linear(width, width) for _ in range(4))
        self.linear_pos = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """x (1, n, D), positions (2 n - 1, D) -> (1, n, D)"""
        n = x.shape[1]
        q, k, v = (
            project(x).unflatten(-1, (self.heads, -1)) for project in (self.linear_q, self.linear_k, self.linear_v)
        )
        p = self.linear_pos(positions).unflatten(-1, (self.heads, -1)).permute(1, 2, 0)  # (heads, d, 2 n - 1)
        parts = []
        for first in range(0, n, QUERY_CHUNK):
            part = q[:, first : first + QUERY_CHUNK]
            logits = torch.matmul((part[0] + self.pos_bias_v).transpose(0, 1), p).contiguous()
            # Row i of (heads, codes, 2 n - 1) begins, for key 0, at distance first + i: column n - 1 - first - i.
            strides = (logits.stride(0), logits.stride(1) - 1, 1)
            bias = logits.as_strided((self.heads, part.shape[1], n), strides, n - 1 - first) / math.sqrt(q.shape[-1])
            parts.append(attention(part + self.pos_bias_u, k, v, bias=bias))
        return self.linear_out(torch.cat(parts, dim=1).flatten(2))


class EncoderFeedForward(nn.Module):
    """Linear, SiLU, linear."""

    def __init__(self, params: EncoderParams):
        super().__init__()
        self.w_1 = nn.Linear(params.width, params.ffn_width)
        self.w_2 = nn.Linear(params.ffn_width, params.width)

    def forward(self, x: Tensor) -> Tensor:
        """(1, n, D) -> (1, n, D) in the weights' dtype."""
        return self.w_2(F.silu(self.w_1(x)))


class EncoderLayer(nn.Module):
    """Pre-norm attention and feed-forward."""

    def __init__(self, params: EncoderParams):
        super().__init__()
        self.self_attn = RelativeAttention(params)
        self.feed_forward = EncoderFeedForward(params)
        self.norm_ff = nn.LayerNorm(params.width)
        self.norm_mha = nn.LayerNorm(params.width)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """x (1, n, D), positions (2 n - 1, D) -> (1, n, D) in the weights' dtype."""
        x = x + self.self_attn(self.norm_mha(x), positions)
        return x + self.feed_forward(self.norm_ff(x))


class InputProjection(nn.Module):
    """Linear and LayerNorm before the first layer."""

    def __init__(self, in_width: int, width: int):
        super().__init__()
        self.out = nn.Sequential(nn.Linear(in_width, width), nn.LayerNorm(width))

    def forward(self, x: Tensor) -> Tensor:
        """(1, n, in_width) -> (1, n, width) in the weights' dtype."""
        return self.out(x)


class ConformerEncoder(nn.Module):
    """Embedded codes (1, n, in_width) -> (1, n, width). Every code sees all others."""

    def __init__(self, params: EncoderParams, in_width: int):
        super().__init__()
        self.width = params.width
        self.embed = InputProjection(in_width, params.width)
        self.after_norm = nn.LayerNorm(params.width)
        self.encoders = nn.ModuleList(EncoderLayer(params) for _ in range(params.layers))

    def forward(self, x: Tensor) -> Tensor:
        """(1, n, in_width) -> (1, n, width) in the weights' dtype."""
        positions = relative_positions(x.shape[1], self.width, x.device).to(x.dtype)
        x = self.embed(x) * math.sqrt(self.width)
        for layer in self.encoders:
            x = layer(x, positions)
        return self.after_norm(x)


class LengthRegulator(nn.Module):
    """Encoded codes -> one vector per mel frame: linear interpolation, then convolutions over the whole time.

    The group norms average over all frames, so a result depends on its whole length: parts cannot be joined.
    """

    def __init__(self, channels: int, layers: int = 4):
        super().__init__()
        parts: list[nn.Module] = []
        for _ in range(layers):
            parts += [nn.Conv1d(channels, channels, 3, padding=1), nn.GroupNorm(1, channels), nn.Mish()]
        self.model = nn.Sequential(*parts, nn.Conv1d(channels, channels, 1))

    def forward(self, prompt: Tensor, speech: Tensor, prompt_frames: int, frames: int) -> Tensor:
        """prompt (1, n1, c), speech (1, n2, c) -> (1, c, prompt_frames + frames); each part is stretched by itself."""
        parts = [
            F.interpolate(part.transpose(1, 2), size=size, mode="linear")
            for part, size in ((prompt, prompt_frames), (speech, frames))
            if size
        ]
        return self.model(torch.cat(parts, dim=2))
