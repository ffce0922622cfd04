"""The layers of the video VAE, each at home with a whole clip and with a slice of one.

Frames are (b, t, c, h, w) everywhere, laid out channels-last, so that one buffer is a batch of pictures to 2D kernels
and a clip to 3D ones. Every convolution is causal: it sees a frame and the two before it, and zeros before the first.

A layer that is given a `cache` sees only the next few frames of a clip, and keeps in it what later frames still need:
for each convolution the sums that the last two frames already owe to the two frames that follow. Slices therefore add
up to exactly the whole clip, at no extra work. Memory belongs to one clip and to one pass through it.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.attention import attention

ConvCache = dict[nn.Module, list[Tensor]]


def pictures(frames: Tensor) -> Tensor:
    """(b, t, c, h, w) -> (b*t, c, h, w), channels last: a view wherever frames already lie that way."""
    batch = frames[0] if len(frames) == 1 else frames.flatten(0, 1)  # flatten would spoil a lone frame's strides, and
    return batch.contiguous(memory_format=torch.channels_last)  # kernels would no longer see channels last, but copy


def clips(batch: Tensor, count: int) -> Tensor:
    """The way back: (count*t, c, h, w) -> (count, t, c, h, w)."""
    return batch[None] if count == 1 else batch.unflatten(0, (count, -1))


def each_picture(frames: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """`change`, which knows pictures only, applied to every frame."""
    return clips(change(pictures(frames)), len(frames))


def add(frames: Tensor, more: Tensor) -> Tensor:
    """frames + more; reuses `frames`, which the caller must own, where no gradient needs it."""
    return frames + more if torch.is_grad_enabled() else frames.add_(more)


class CausalConv(nn.Conv3d):
    """Convolution over (t, h, w) that never looks ahead. Kernel 3 or 1; spatial size is kept but for the stride."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(channels_in, channels_out, kernel, stride, padding=(0, kernel // 2, kernel // 2))

    def forward(self, frames: Tensor, cache: ConvCache | None = None) -> Tensor:
        """(b, t, c, h, w) -> (b, t', c', h', w'), t' = ceil(t / stride). With a cache the stride must be 1."""
        if self.kernel_size[0] == 1:
            return self._tap(frames)
        if cache is not None:
            return self._next(frames, cache)
        if frames.shape[1] == 1:
            return self._tap(frames)  # the past is zeros: a third of the work
        clip = F.pad(frames.transpose(1, 2), (0, 0, 0, 0, 2, 0)).contiguous(memory_format=torch.channels_last_3d)
        return super().forward(clip).transpose(1, 2)

    def _tap(self, frames: Tensor, ahead: int = 0) -> Tensor:
        """What each frame gives to the frame `ahead` of it: one 2D slice of the kernel. The bias goes with 0."""
        weight = self.weight[:, :, self.kernel_size[0] - 1 - ahead]
        bias = None if ahead else self.bias
        return each_picture(frames, lambda x: F.conv2d(x, weight, bias, self.stride[1:], self.padding[1:]))

    def _next(self, frames: Tensor, cache: ConvCache) -> Tensor:
        """One conv2d per tap: faster on a CPU than conv3d over so few frames, and nothing is copied together."""
        count = frames.shape[1]
        owed = cache.pop(self, [])  # each sum is let go as soon as it is paid
        out = self._tap(frames)
        for i in range(min(count, len(owed))):
            out[:, i].add_(owed.pop(0))
        given = self._tap(frames, 1)
        out[:, 1:].add_(given[:, :-1])
        due = _alone(given[:, -1])
        if owed:
            due.add_(owed.pop(0))
        del given  # before the next takes as much
        given = self._tap(frames, 2)
        out[:, 2:].add_(given[:, :-2])
        if count > 1:
            due.add_(given[:, -2])
        cache[self] = [due, _alone(given[:, -1])]
        return out


def _alone(frame: Tensor) -> Tensor:
    """The frame without the rest of its slice, which a view would keep alive."""
    return frame if frame.untyped_storage().nbytes() == frame.nbytes else frame.clone()


class Inner(nn.Module):
    """Holds a layer as `conv`: the public files name most convolutions' tensors one level deeper than their use."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, frames: Tensor, cache: ConvCache | None = None) -> Tensor:
        """Whatever the layer does."""
        return self.conv(frames) if cache is None else self.conv(frames, cache)


def conv(channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1) -> Inner:
    """A causal convolution under its public name."""
    return Inner(CausalConv(channels_in, channels_out, kernel, stride))


class FrameNorm(nn.GroupNorm):
    """Group norm of each frame by itself: statistics over all frames would flicker (paper, section 4.1.3)."""

    def forward(self, frames: Tensor, *, silu: bool = False) -> Tensor:
        """(b, t, c, h, w) -> the same shape, a new tensor, SiLU applied in place where no gradient needs it."""
        normed = super().forward(pictures(frames))
        if silu:
            normed = F.silu(normed, inplace=not torch.is_grad_enabled())
        return clips(normed.contiguous(memory_format=torch.channels_last), len(frames))


class ResBlock(nn.Module):
    """norm-SiLU-conv twice, plus the input."""

    def __init__(self, channels_in: int, channels_out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = FrameNorm(groups, channels_in)
        self.conv1 = conv(channels_in, channels_out)
        self.norm2 = FrameNorm(groups, channels_out)
        self.conv2 = conv(channels_out, channels_out)
        self.nin_shortcut = conv(channels_in, channels_out, kernel=1) if channels_in != channels_out else None

    def forward(self, frames: Tensor, cache: ConvCache | None = None) -> Tensor:
        """(b, t, c_in, h, w) -> (b, t, c_out, h, w). One name per value, so that each is freed by the next."""
        h = self.norm1(frames, silu=True)
        h = self.conv1(h, cache)
        h = self.norm2(h, silu=True)
        h = self.conv2(h, cache)
        return add(h, self.nin_shortcut(frames) if self.nin_shortcut else frames)


class CausalAttention(nn.Module):
    """Single-head attention over all tokens of a clip in raster order; a token sees those before it and itself."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = FrameNorm(groups, channels)
        self.q = conv(channels, channels, kernel=1)
        self.k = conv(channels, channels, kernel=1)
        self.v = conv(channels, channels, kernel=1)
        self.proj_out = conv(channels, channels, kernel=1)

    def forward(self, frames: Tensor) -> Tensor:
        """(b, t, c, h, w) -> the same shape, t*h*w tokens."""
        b, t, c, h, w = frames.shape
        normed = self.norm(frames)
        q, k, v = (
            project(normed).permute(0, 1, 3, 4, 2).reshape(b, t * h * w, 1, c) for project in (self.q, self.k, self.v)
        )
        mixed = attention(q, k, v, causal=True).reshape(b, t, h, w, c).permute(0, 1, 4, 2, 3)
        return add(self.proj_out(mixed), frames)


class Mid(nn.Module):
    """The block between the ways down and up: residual, attention, residual."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.block_1 = ResBlock(channels, channels, groups)
        self.attn_1 = CausalAttention(channels, groups)
        self.block_2 = ResBlock(channels, channels, groups)

    def forward(self, frames: Tensor) -> Tensor:
        """(b, t, c, h, w) -> the same shape."""
        return self.block_2(self.attn_1(self.block_1(frames)))


class PictureDownsample(nn.Module):
    """Halves h and w of each frame, time untouched; pads right and bottom only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, frames: Tensor) -> Tensor:
        """(b, t, c, h, w) -> (b, t, c, h/2, w/2)."""
        return each_picture(frames, lambda x: self.conv(F.pad(x, (0, 1, 0, 1))))


class PictureUpsample(nn.Module):
    """Doubles h and w of each frame, time untouched."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, frames: Tensor, cache: ConvCache | None = None) -> Tensor:
        """(b, t, c, h, w) -> (b, t, c, 2h, 2w). Needs no cache: no frame looks at another."""
        return each_picture(frames, lambda x: self.conv(F.interpolate(x, scale_factor=2.0)))


class _Refine(nn.Module):
    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.conv1 = conv(channels, channels)
        self.norm1 = FrameNorm(groups, channels)
        self.conv2 = conv(channels, channels)
        self.norm2 = FrameNorm(groups, channels)


class ClipUpsample(nn.Module):
    """Doubles h and w of frames whose time the caller has doubled, then refines them causally."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.conv3d = _Refine(channels, groups)

    def forward(self, frames: Tensor, cache: ConvCache | None = None) -> Tensor:
        """(b, t, c, h, w) -> (b, t, c, 2h, 2w). The upsampled frames are added twice, as in the public network."""
        refine = self.conv3d
        big = each_picture(frames, lambda x: F.interpolate(x, scale_factor=2.0))
        h = refine.conv1(big, cache)
        h = refine.norm1(h, silu=True)
        h = refine.conv2(h, cache)
        h = refine.norm2(h)
        h = F.silu(add(h, big), inplace=not torch.is_grad_enabled())
        return add(h, big)


def fold(frames: Tensor) -> Tensor:
    """Pixel unshuffle by 2 in t, h and w: (b, t, c, h, w) -> (b, (t+1)/2, 8c, h/2, w/2), t odd, a zero frame put first.

    The new channels count (c, t, h, w), the slowest first.
    """
    b, t, c, h, w = frames.shape
    even = F.pad(frames, (0, 0, 0, 0, 0, 0, 1, 0))
    parts = even.reshape(b, (t + 1) // 2, 2, c, h // 2, 2, w // 2, 2)
    return parts.permute(0, 1, 3, 2, 5, 7, 4, 6).flatten(2, 5)


def unfold(frames: Tensor) -> Tensor:
    """The way back from `fold`: (b, t, 8c, h, w) -> (b, 2t-1, c, 2h, 2w), the first frame dropped."""
    b, t, c, h, w = frames.shape
    parts = frames.reshape(b, t, c // 8, 2, 2, 2, h, w)
    return parts.permute(0, 1, 3, 2, 6, 4, 7, 5).reshape(b, 2 * t, c // 8, 2 * h, 2 * w)[:, 1:]


def average(frames: Tensor, channels: int) -> Tensor:
    """Means of neighbouring channels: (b, t, c, h, w) -> (b, t, channels, h, w)."""
    return frames.unflatten(2, (channels, -1)).mean(3)


def repeat(frames: Tensor, channels: int) -> Tensor:
    """Each channel repeated beside itself: (b, t, c, h, w) -> (b, t, channels, h, w)."""
    return frames.repeat_interleave(channels // frames.shape[2], dim=2)
