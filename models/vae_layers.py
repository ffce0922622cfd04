"""The layers of the video VAE. Each computes a whole clip, or with a cache the next frames of one (vae_convs.py).

Frames are (b, t, c, h, w) everywhere, channels last in memory. Memory speed bounds everything here that is no
convolution, so each frame is read and written as few times as PyTorch's operators or a kernel allow:
tests/models/test_vae_memory.py counts it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.attention import attention
from models.kernels.moments import group_moments
from models.kernels.scaled import residual, scaled
from models.vae_convs import ConvCache, add, as_clips, as_images, conv, per_frame


class FrameNorm(nn.GroupNorm):
    """Group norm with statistics of each frame alone; those of all frames make it flicker (paper, section 4.1.3)."""

    def forward(
        self, frames: Tensor, *, silu: bool = False, more: Tensor | None = None, room: Tensor | None = None,
        lacking: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """(b, t, c, h, w) -> that shape and dtype.

        silu: SiLU follows the norm. more: frames that are added before and after SiLU. room: where the result may be
        written, for one frame; it is returned where it was. lacking: a bias (c,) that the frames lack, as
        `CausalConv.lacking` says; on CUDA only.
        """
        images = as_images(frames)
        if images.is_cuda and not torch.is_grad_enabled():
            place = None if room is None or len(images) > 1 else room[0]
            normed = self.channels_last(
                images, lacking, silu=silu, more=None if more is None else as_images(more), room=place
            )
            return room if room is not None and normed is place else as_clips(normed, len(frames))
        normed = as_clips(super().forward(images).contiguous(memory_format=torch.channels_last), len(frames))
        normed = normed if more is None else add(normed, more)
        if silu and room is not None and more is None:
            return torch.ops.aten.silu.out(normed, out=room)
        normed = F.silu(normed, inplace=not torch.is_grad_enabled()) if silu else normed
        return normed if more is None else add(normed, more)

    def channels_last(
        self, images: Tensor, lacking: Tensor | None = None, *, silu: bool = False, more: Tensor | None = None,
        room: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """`forward` of images (n, c, h, w) that lie channels last, without copies to the other layout and back, which
        PyTorch's group norm makes on CUDA. Not differentiable."""
        done: list[Tensor] = []
        for i, image in enumerate(images.split(1)):
            mean, variance = group_moments(image, self.num_groups, lacking)
            width = self.num_channels // self.num_groups
            gain = (variance + self.eps).rsqrt().repeat_interleave(width) * self.weight.detach()
            offset = -mean.repeat_interleave(width) if lacking is None else lacking - mean.repeat_interleave(width)
            offset = offset * gain + self.bias.detach()
            done.append(
                scaled(image, gain, offset, silu=silu, more=None if more is None else more[i : i + 1], room=room)
            )
        return done[0] if len(done) == 1 else torch.cat(done)


class ResBlock(nn.Module):
    """norm, SiLU, convolution, twice; plus the input."""

    def __init__(self, channels_in: int, channels_out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = FrameNorm(groups, channels_in)
        self.conv1 = conv(channels_in, channels_out, leaves_bias=True)
        self.norm2 = FrameNorm(groups, channels_out)
        self.conv2 = conv(channels_out, channels_out, leaves_bias=True)
        self.nin_shortcut = None
        if channels_in != channels_out:
            self.nin_shortcut = conv(channels_in, channels_out, kernel=1, leaves_bias=True)

    def forward(self, frames: Tensor, cache: ConvCache | None = None) -> Tensor:
        """(b, t, c_in, h, w) -> (b, t, c_out, h, w). One variable for all steps, so that each result frees the last."""
        h = self.norm1(frames, silu=True, room=self.conv1.room(cache))
        h = self.conv1(h, cache)
        h = self.norm2(h, silu=True, room=self.conv2.room(cache), lacking=self.conv1.lacking(h, cache))
        h = self.conv2(h, cache)
        bias, more = self.conv2.lacking(h, cache), frames
        if self.nin_shortcut is not None:
            more, another = self.nin_shortcut(frames, cache), self.nin_shortcut.lacking(frames, cache)
            bias = bias if bias is None or another is None else bias.float() + another
        if torch.is_grad_enabled():
            return h + more
        return as_clips(residual(as_images(h), bias, as_images(more)), len(h))


class CausalAttention(nn.Module):
    """Single-head attention over the t*h*w tokens of a clip. A token sees itself and those before it, row by row."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = FrameNorm(groups, channels)
        self.q = conv(channels, channels, kernel=1)
        self.k = conv(channels, channels, kernel=1)
        self.v = conv(channels, channels, kernel=1)
        self.proj_out = conv(channels, channels, kernel=1)

    def forward(self, frames: Tensor) -> Tensor:
        """(b, t, c, h, w) -> the same shape."""
        b, t, c, h, w = frames.shape
        normed = self.norm(frames)
        q, k, v = (
            project(normed).permute(0, 1, 3, 4, 2).reshape(b, t * h * w, 1, c) for project in (self.q, self.k, self.v)
        )
        mixed = attention(q, k, v, causal=True).reshape(b, t, h, w, c).permute(0, 1, 4, 2, 3)
        return add(self.proj_out(mixed), frames)


class Mid(nn.Module):
    """The block at the smallest size: residual block, attention, residual block."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.block_1 = ResBlock(channels, channels, groups)
        self.attn_1 = CausalAttention(channels, groups)
        self.block_2 = ResBlock(channels, channels, groups)

    def forward(self, frames: Tensor) -> Tensor:
        """(b, t, c, h, w) -> the same shape."""
        return self.block_2(self.attn_1(self.block_1(frames)))


class FrameDownsample(nn.Module):
    """Halves height and width of each frame; pads right and bottom only. Time stays."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, frames: Tensor) -> Tensor:
        """(b, t, c, h, w) -> (b, t, c, h/2, w/2)."""
        return per_frame(frames, lambda x: self.conv(F.pad(x, (0, 1, 0, 1))))


class FrameUpsample(nn.Module):
    """Doubles height and width of each frame. Time stays."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, frames: Tensor, cache: ConvCache | None = None) -> Tensor:
        """(b, t, c, h, w) -> (b, t, c, 2h, 2w). The cache stays unused: each frame is computed from itself."""
        return per_frame(frames, lambda x: self.conv(F.interpolate(x, scale_factor=2.0)))


class _Refine(nn.Module):
    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.conv1 = conv(channels, channels, leaves_bias=True)
        self.norm1 = FrameNorm(groups, channels)
        self.conv2 = conv(channels, channels, leaves_bias=True)
        self.norm2 = FrameNorm(groups, channels)


class CausalUpsample(nn.Module):
    """Doubles height and width of frames whose number the caller has doubled, then two causal convolutions."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.conv3d = _Refine(channels, groups)

    def forward(self, frames: Tensor, cache: ConvCache | None = None) -> Tensor:
        """(b, t, c, h, w) -> (b, t, c, 2h, 2w). The upsampled frames are added twice, as officially."""
        refine = self.conv3d
        big = per_frame(frames, lambda x: F.interpolate(x, scale_factor=2.0))
        h = refine.conv1(big, cache)
        h = refine.norm1(h, silu=True, room=refine.conv2.room(cache), lacking=refine.conv1.lacking(h, cache))
        h = refine.conv2(h, cache)
        return refine.norm2(h, silu=True, more=big, lacking=refine.conv2.lacking(h, cache))


def fold(frames: Tensor) -> Tensor:
    """Pixel unshuffle by 2 in time, height and width: (b, t, c, h, w) -> (b, (t+1)/2, 8c, h/2, w/2).

    t is odd; a frame of zeros is put first. The new channels are ordered (c, t, h, w), w fastest.
    """
    b, t, c, h, w = frames.shape
    even = F.pad(frames, (0, 0, 0, 0, 0, 0, 1, 0))
    parts = even.reshape(b, (t + 1) // 2, 2, c, h // 2, 2, w // 2, 2)
    return parts.permute(0, 1, 3, 2, 5, 7, 4, 6).flatten(2, 5)


def unfold(frames: Tensor) -> Tensor:
    """The inverse of `fold`, pixel shuffle: (b, t, 8c, h, w) -> (b, 2t-1, c, 2h, 2w); the first frame is dropped."""
    b, t, c, h, w = frames.shape
    parts = frames.reshape(b, t, c // 8, 2, 2, 2, h, w)
    return parts.permute(0, 1, 3, 2, 6, 4, 7, 5).reshape(b, 2 * t, c // 8, 2 * h, 2 * w)[:, 1:]


def average(frames: Tensor, channels: int) -> Tensor:
    """Means over groups of neighbouring channels: (b, t, c, h, w) -> (b, t, channels, h, w)."""
    return frames.unflatten(2, (channels, -1)).mean(3)


def repeat(frames: Tensor, channels: int) -> Tensor:
    """Each channel, channels / c times in a row: (b, t, c, h, w) -> (b, t, channels, h, w)."""
    return frames.repeat_interleave(channels // frames.shape[2], dim=2)
