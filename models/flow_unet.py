"""The velocity of the flow: a 1-D U-Net over mel frames with transformer blocks (Matcha-TTS).

Attribute names are the keys of the public file. The middle runs at half the length; an odd length is restored by
cutting what comes up to the length of the skip connection.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.attention import attention
from models.layers import Projection

TIME_SCALE = 1000.0
TIME_PERIOD = 10000.0
GROUPS = 8  # of the group norms


@dataclass(frozen=True)
class UNetParams:
    """The architecture. in_channels: noisy mel, encoded codes, speaker and prompt mel, as many channels each."""

    in_channels: int = 320
    out_channels: int = 80
    channels: tuple[int, ...] = (256, 256)
    heads: int = 8
    head_dim: int = 64
    blocks: int = 4  # transformer blocks behind every resnet
    mid_blocks: int = 12


def time_features(time: Tensor, width: int) -> Tensor:
    """time (b,) in 0..1 -> (b, width) float32 as [sin | cos], frequencies 1 down to exactly 1/10000."""
    half = width // 2
    steps = torch.arange(half, dtype=torch.float32, device=time.device)
    frequencies = (steps * (-torch.tensor(TIME_PERIOD, dtype=torch.float64).log().item() / (half - 1))).exp()
    angles = TIME_SCALE * time.float()[:, None] * frequencies
    return torch.cat((angles.sin(), angles.cos()), dim=-1)


class ConvBlock(nn.Module):
    """Convolution, group norm over all frames, Mish: (b, c, n) -> (b, c2, n)."""

    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv1d(in_channels, channels, 3, padding=1), nn.GroupNorm(GROUPS, channels), nn.Mish()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, n) -> (b, c2, n) in the weights' dtype."""
        return self.block(x)


class ResnetBlock(nn.Module):
    """Two ConvBlocks with the time added in between, and a 1x1 convolution around them."""

    def __init__(self, in_channels: int, channels: int, time_width: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Mish(), nn.Linear(time_width, channels))
        self.block1 = ConvBlock(in_channels, channels)
        self.block2 = ConvBlock(channels, channels)
        self.res_conv = nn.Conv1d(in_channels, channels, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x (b, c, n), time (b, time_width) -> (b, c2, n) in the weights' dtype."""
        return self.block2(self.block1(x) + self.mlp(time)[:, :, None]) + self.res_conv(x)


class FrameAttention(nn.Module):
    """Attention of all frames to all frames."""

    def __init__(self, width: int, heads: int, head_dim: int):
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, heads * head_dim, bias=False) for _ in range(3))
        self.to_out = nn.Sequential(nn.Linear(heads * head_dim, width))

    def forward(self, x: Tensor) -> Tensor:
        """(b, n, D) -> (b, n, D) in the weights' dtype."""
        q, k, v = (project(x).unflatten(-1, (self.heads, -1)) for project in (self.to_q, self.to_k, self.to_v))
        return self.to_out(attention(q, k, v).flatten(2))


class ExactGELULinear(nn.Module):
    """Linear, then exact GELU."""

    def __init__(self, in_width: int, width: int):
        super().__init__()
        self.proj = nn.Linear(in_width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_width) -> (..., width) in the weights' dtype."""
        return F.gelu(self.proj(x))


class FrameFeedForward(nn.Module):
    """(..., D) -> (..., D) through 4 D. The public keys count a dropout between the two layers."""

    def __init__(self, width: int):
        super().__init__()
        self.net = nn.Sequential(ExactGELULinear(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D) in the weights' dtype."""
        return self.net(x)


class TransformerBlock(nn.Module):
    """Pre-norm attention and feed-forward. (There is no norm2: the public class has it for cross-attention.)"""

    def __init__(self, width: int, params: UNetParams):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn1 = FrameAttention(width, params.heads, params.head_dim)
        self.norm3 = nn.LayerNorm(width)
        self.ff = FrameFeedForward(width)

    def forward(self, x: Tensor) -> Tensor:
        """(b, n, D) -> (b, n, D) in the weights' dtype."""
        x = x + self.attn1(self.norm1(x))
        return x + self.ff(self.norm3(x))


class Resampler(nn.Module):
    """A convolution that halves or doubles the length; its key has a level more than the one that keeps it."""

    def __init__(self, conv: nn.Module):
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, n) -> (b, c, n / 2) or (b, c, 2 n), as the convolution it holds."""
        return self.conv(x)


class Stage(nn.ModuleList):
    """A resnet, transformer blocks and, outside the middle, a convolution that may change the length."""

    def __init__(self, params: UNetParams, in_channels: int, width: int, *resample: nn.Module):
        blocks = nn.ModuleList(TransformerBlock(width, params) for _ in range(params.blocks))
        super().__init__([ResnetBlock(in_channels, width, 4 * params.channels[0]), blocks, *resample])

    def forward(self, x: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """(b, in_channels, n) -> (b, width, n), and the same after the last convolution."""
        x = self[0](x, time).transpose(1, 2)
        for block in self[1].children():
            x = block(x)
        x = x.transpose(1, 2)
        return x, self[2](x) if len(self) > 2 else x


class UNet(nn.Module):
    """The network of the flow; `forward` gives the velocity."""

    def __init__(self, params: UNetParams):
        super().__init__()
        self.params = params
        channels, time_width = params.channels, 4 * params.channels[0]
        self.time_mlp = Projection(params.in_channels, time_width, nn.SiLU())
        self.down_blocks, self.mid_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        inputs = (params.in_channels, *channels)
        for level, width in enumerate(channels):
            last = level == len(channels) - 1
            keep, halve = nn.Conv1d(width, width, 3, padding=1), nn.Conv1d(width, width, 3, stride=2, padding=1)
            self.down_blocks.append(Stage(params, inputs[level], width, keep if last else Resampler(halve)))
        for _ in range(params.mid_blocks):
            self.mid_blocks.append(Stage(params, channels[-1], channels[-1]))
        outputs = (*reversed(channels), channels[0])
        for level, width in enumerate(outputs[1:]):
            last = level == len(channels) - 1
            keep, double = nn.Conv1d(width, width, 3, padding=1), nn.ConvTranspose1d(width, width, 4, 2, 1)
            self.up_blocks.append(Stage(params, 2 * outputs[level], width, keep if last else Resampler(double)))
        self.final_block = ConvBlock(channels[0], channels[0])
        self.final_proj = nn.Conv1d(channels[0], params.out_channels, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x (b, in_channels, n) of one dtype with the weights, time (b,) in 0..1 -> velocity (b, out_channels, n)."""
        time = self.time_mlp(time_features(time, self.params.in_channels).to(x.dtype))
        skips = []
        for stage in self.down_blocks:
            skip, x = stage(x, time)
            skips.append(skip)
        for stage in self.mid_blocks:
            _, x = stage(x, time)
        for stage in self.up_blocks:
            skip = skips.pop()
            _, x = stage(torch.cat((x[:, :, : skip.shape[2]], skip), dim=1), time)
        return self.final_proj(self.final_block(x))
