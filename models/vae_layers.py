"""The layers of the video VAE. Each computes a whole clip, or the next few frames of one.

Frames are (b, t, c, h, w) everywhere, channels last in memory, so that a buffer is a batch of images to 2D kernels and
a clip to 3D ones. Every convolution is causal: it sees a frame and the two before it, and zeros before the first.

A layer that is given a `cache` gets the next few frames of a clip and keeps in the cache what later frames need. The
results are those of the whole clip, at the same number of operations. A cache belongs to one pass over one clip.

Memory speed bounds everything here that is no convolution, so each frame is read and written as few times as PyTorch's
operators allow: tests/models/test_vae_memory.py counts it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.attention import attention
from models.kernels.moments import group_moments
from models.kernels.scaled import residual, scaled


def as_images(frames: Tensor) -> Tensor:
    """(b, t, c, h, w) -> (b*t, c, h, w), channels last; a view wherever frames already lie that way in memory."""
    # A lone clip is not flattened: that would change its strides, kernels would no longer see channels last, and copy.
    batch = frames[0] if len(frames) == 1 else frames.flatten(0, 1)
    return batch.contiguous(memory_format=torch.channels_last)


def as_clips(images: Tensor, count: int) -> Tensor:
    """The inverse of `as_images`: (count*t, c, h, w) -> (count, t, c, h, w)."""
    return images[None] if count == 1 else images.unflatten(0, (count, -1))


def per_frame(frames: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """(b, t, c, h, w) -> (b, t, c', h', w'): `function` of images (b*t, c, h, w), applied to every frame."""
    return as_clips(function(as_images(frames)), len(frames))


def add(frames: Tensor, more: Tensor) -> Tensor:
    """frames + more. Without gradients the result is written into `frames`, which must be the caller's own."""
    return frames + more if torch.is_grad_enabled() else frames.add_(more)


TAPS = 3  # frames that a causal convolution sees: this one and the two before it


class Window:
    """Streaming cache of a causal convolution: the last three frames that it reads, as one image of 3c channels.

    A new frame overwrites the oldest third, so nothing is moved; the convolution orders its taps to match. Thus it is
    one 2D convolution per frame whose sums never leave the kernel. Before the first frame everything is zero.

    Where the image is shared with other convolutions, which takes less memory, the two frames before the newest are
    kept beside it and copied in and out. The convolution reads the same: the bits are the same.
    """

    def __init__(self, like: Tensor, channels: int, height: int, width: int, shared: Tensor | None = None) -> None:
        """For frames (b, 1, channels, height, width); b, dtype and device as of `like`. shared: flat, large enough."""
        size = (len(like), height, width, TAPS * channels)
        image = like.new_zeros(size) if shared is None else shared[: math.prod(size)].view(size)
        self.image = image.permute(0, 3, 1, 2)  # (b, 3c, h, w), channels last
        self.newest = TAPS - 1  # the third with the newest frame
        self._before: list[Tensor] = []  # newest first; empty where the image is its own
        if shared is not None:
            frames = like.new_zeros(TAPS - 1, len(like), height, width, channels)
            self._before = list(frames.permute(0, 1, 4, 2, 3))
        self._offered: Tensor | None = None

    def offer(self) -> Tensor:
        """Room for the next frame, (b, 1, c, h, w), in the place of the oldest one."""
        self.newest = (self.newest + 1) % TAPS
        thirds = self.image.chunk(TAPS, dim=1)
        for back, frame in enumerate(self._before, start=1):
            thirds[(self.newest - back) % TAPS].copy_(frame)
        self._offered = as_clips(thirds[self.newest], len(self.image))
        return self._offered

    def add(self, frame: Tensor) -> None:
        """The next frame (b, 1, c, h, w): copied, unless it is what `offer` gave and others have written into."""
        if frame is not self._offered:
            self.offer().copy_(frame)
        self._offered = None

    def leave(self) -> None:
        """The convolution has read the image, which others may use now."""
        if self._before:
            oldest = self._before.pop()
            self._before.insert(0, oldest.copy_(self.image.chunk(TAPS, dim=1)[self.newest]))

    def tap(self, third: int) -> int:
        """Which of the convolution's taps in time belongs to a third."""
        return TAPS - 1 - (self.newest - third) % TAPS


@dataclass
class Owed:
    """The same for a convolution that narrows its frames, so that they would take more: what the frames so far add to
    the next two results, each (b, c', h, w)."""

    next: Tensor
    after: Tensor


ConvCache = dict[nn.Module, Window | Owed]


class CausalConv(nn.Conv3d):
    """Convolution over (t, h, w) that never looks ahead. Kernel 3 or 1; height and width change by the stride alone."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1, *, leaves_bias: bool = False
    ) -> None:
        """leaves_bias: what follows adds the bias, where `lacking` says so."""
        super().__init__(channels_in, channels_out, kernel, stride, padding=(0, kernel // 2, kernel // 2))
        self.leaves_bias = leaves_bias

    def forward(self, frames: Tensor, cache: ConvCache | None = None) -> Tensor:
        """(b, t, c, h, w) -> (b, t', c', h', w') in the weights' dtype, t' = ceil(t / stride); a cache: stride 1."""
        if self.kernel_size[0] == 1:
            return self._lone(frames, cache)
        if cache is not None and frames.shape[1] == 1:
            return self._next(frames, cache)
        if cache is not None:
            return torch.cat([self._next(frame, cache) for frame in frames.split(1, dim=1)], dim=1)
        if frames.shape[1] == 1:
            return self._lone(frames, cache)  # the frames before are zeros: a third of the work
        clip = F.pad(frames.transpose(1, 2), (0, 0, 0, 0, 2, 0)).contiguous(memory_format=torch.channels_last_3d)
        return super().forward(clip).transpose(1, 2)

    def room(self, frames: Tensor, cache: ConvCache | None) -> Tensor | None:
        """Where the next frame of this size may be written, so that `forward` need not copy it; None: it has to."""
        if cache is None or frames.shape[1] > 1 or self.narrows:
            return None
        return self._window(frames, cache).offer()

    @property
    def narrows(self) -> bool:
        """Whether the cache is an `Owed`, not a `Window`."""
        return self.out_channels < self.in_channels

    def lacking(self, frames: Tensor, cache: ConvCache | None) -> Tensor | None:
        """The bias (c',) where `forward` of such frames leaves it to the norm that follows, None where it adds it.

        On CUDA the bias is a pass of its own over the output; in a norm it shifts the means.
        """
        return self.bias if self.leaves_bias and cache is not None and frames.is_cuda else None

    def _window(self, frame: Tensor, cache: ConvCache) -> Window:
        known = cache.get(self)
        if not isinstance(known, Window):
            known = cache[self] = Window(frame, *frame.shape[2:])
        return known

    def _lone(self, frames: Tensor, cache: ConvCache | None) -> Tensor:
        """What each frame alone contributes to its own output."""
        bias = self.bias if self.lacking(frames, cache) is None else None
        return per_frame(frames, lambda x: self._tap(x, 0, bias))

    def _tap(self, images: Tensor, delay: int, bias: Tensor | None = None) -> Tensor:
        """What images (n, c, h, w) add to the output `delay` frames later: one 2D slice of the kernel."""
        return F.conv2d(images, self.weight[:, :, -1 - delay], bias, self.stride[1:], self.padding[1:])

    def _next(self, frame: Tensor, cache: ConvCache) -> Tensor:
        """`forward` of the next frame (b, 1, c, h, w)."""
        bias = self.bias if self.lacking(frame, cache) is None else None
        if self.narrows:
            return as_clips(self._next_owed(as_images(frame), bias, cache), len(frame))
        window = self._window(frame, cache)
        window.add(frame)
        taps = [self.weight[:, :, window.tap(third)].permute(0, 2, 3, 1) for third in range(TAPS)]
        weight = torch.cat(taps, dim=3).permute(0, 3, 1, 2)  # (c', 3c, 3, 3), channels last
        result = F.conv2d(window.image, weight, bias, self.stride[1:], self.padding[1:])
        window.leave()
        return as_clips(result, len(frame))

    def _next_owed(self, image: Tensor, bias: Tensor | None, cache: ConvCache) -> Tensor:
        """The same of a convolution that narrows; image (b, c, h, w). Each sum takes over the memory of its result."""
        owed = cache.pop(self, None)
        out, coming = self._tap(image, 0, bias), self._tap(image, 1)
        if isinstance(owed, Owed):
            out.add_(owed.next)
            coming.add_(owed.after)
        del owed  # before the next one of the same size
        cache[self] = Owed(coming, self._tap(image, 2))
        return out


Sized = tuple[nn.Module, int, int]  # layers, and height and width of the frames that they read


def windows(parts: Sequence[Sized], like: Tensor, *, shared: bool) -> ConvCache:
    """Windows of the convolutions over time within the parts; b, dtype and device as of `like`. shared: one image."""
    convs = [
        (layer, layer.in_channels, height, width)
        for part, height, width in parts
        for layer in part.modules()
        if isinstance(layer, CausalConv) and layer.kernel_size[0] > 1 and not layer.narrows
    ]
    widest = max((math.prod(size) for _, *size in convs), default=0)
    image = like.new_empty(len(like) * TAPS * widest) if shared else None
    return {layer: Window(like, *size, image) for layer, *size in convs}


class Inner(nn.Module):
    """Holds a layer as `conv`: most convolutions have this further level in the public keys."""

    def __init__(self, conv: "CausalConv | Inner") -> None:
        super().__init__()
        self.conv = conv

    def forward(self, frames: Tensor, cache: ConvCache | None = None) -> Tensor:
        """(b, t, c, h, w) -> (b, t', c', h', w'), as the layer that it holds."""
        return self.conv(frames) if cache is None else self.conv(frames, cache)

    def room(self, frames: Tensor, cache: ConvCache | None) -> Tensor | None:
        """`CausalConv.room`."""
        return self.conv.room(frames, cache)

    def lacking(self, frames: Tensor, cache: ConvCache | None) -> Tensor | None:
        """`CausalConv.lacking`."""
        return self.conv.lacking(frames, cache)


def conv(channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1, *, leaves_bias: bool = False) -> Inner:
    """A causal convolution under its public key."""
    return Inner(CausalConv(channels_in, channels_out, kernel, stride, leaves_bias=leaves_bias))


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
        h = self.norm1(frames, silu=True, room=self.conv1.room(frames, cache))
        h = self.conv1(h, cache)
        h = self.norm2(h, silu=True, room=self.conv2.room(h, cache), lacking=self.conv1.lacking(h, cache))
        h = self.conv2(h, cache)
        bias, more = self.conv2.lacking(h, cache), frames
        if self.nin_shortcut is not None:
            more = self.nin_shortcut(frames, cache)
            bias = bias if bias is None else bias.float() + self.nin_shortcut.lacking(frames, cache)
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
        h = refine.norm1(h, silu=True, room=refine.conv2.room(h, cache), lacking=refine.conv1.lacking(h, cache))
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
