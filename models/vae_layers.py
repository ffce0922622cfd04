"""The layers of the video VAE. Each computes a whole clip, or the next few frames of one.

Frames are (b, t, c, h, w) everywhere, channels last in memory, so that a buffer is a batch of images to 2D kernels and
a clip to 3D ones. Every convolution is causal: it sees a frame and the two before it, and zeros before the first.

A layer that is given a `cache` gets the next few frames of a clip and keeps in the cache what later frames need. The
results are those of the whole clip, at the same number of operations. A cache belongs to one pass over one clip.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.attention import attention

# Streaming cache of the causal convolutions (kernel 3 in time): per convolution the partial outputs that the last two
# input frames contribute to the next two output frames, each (b, c, h, w). The first of them is complete but for the
# next frame's own contribution.
ConvCache = dict[nn.Module, list[Tensor]]


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


class CausalConv(nn.Conv3d):
    """Convolution over (t, h, w) that never looks ahead. Kernel 3 or 1; height and width change by the stride alone."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(channels_in, channels_out, kernel, stride, padding=(0, kernel // 2, kernel // 2))

    def forward(self, frames: Tensor, cache: ConvCache | None = None) -> Tensor:
        """(b, t, c, h, w) -> (b, t', c', h', w') in the weights' dtype, t' = ceil(t / stride); a cache: stride 1."""
        if self.kernel_size[0] == 1:
            return self._contribution(frames)
        if cache is not None:
            return self._next(frames, cache)
        if frames.shape[1] == 1:
            return self._contribution(frames)  # the frames before are zeros: a third of the work
        clip = F.pad(frames.transpose(1, 2), (0, 0, 0, 0, 2, 0)).contiguous(memory_format=torch.channels_last_3d)
        return super().forward(clip).transpose(1, 2)

    def _contribution(self, frames: Tensor, delay: int = 0) -> Tensor:
        """What each input frame adds to the output frame `delay` frames later: one 2D slice of the kernel.

        (b, t, c, h, w) -> (b, t, c', h', w'). The bias belongs to delay 0.
        """
        weight = self.weight[:, :, self.kernel_size[0] - 1 - delay]
        bias = None if delay else self.bias
        return per_frame(frames, lambda x: F.conv2d(x, weight, bias, self.stride[1:], self.padding[1:]))

    def _next(self, frames: Tensor, cache: ConvCache) -> Tensor:
        """`forward` of the next frames. Three conv2d are faster on a CPU than conv3d over so few frames, and need no
        padded copy of them."""
        count = frames.shape[1]
        cached = cache.pop(self, [])  # partial outputs of the first two output frames; none at the start of a clip
        out = self._contribution(frames)
        for i in range(min(count, len(cached))):
            out[:, i].add_(cached.pop(0))  # its memory is free after the addition
        later = self._contribution(frames, 1)
        out[:, 1:].add_(later[:, :-1])
        first = _own_memory(later[:, -1])
        if cached:
            first.add_(cached.pop(0))
        del later  # before the next one of the same size
        later = self._contribution(frames, 2)
        out[:, 2:].add_(later[:, :-2])
        if count > 1:
            first.add_(later[:, -2])
        cache[self] = [first, _own_memory(later[:, -1])]
        return out


def _own_memory(frame: Tensor) -> Tensor:
    """The frame, copied where it is a view of several frames: the view would keep all of them alive."""
    return frame if frame.untyped_storage().nbytes() == frame.nbytes else frame.clone()


class Inner(nn.Module):
    """Holds a layer as `conv`: most convolutions have this further level in the public keys."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, frames: Tensor, cache: ConvCache | None = None) -> Tensor:
        """(b, t, c, h, w) -> (b, t', c', h', w'), as the layer that it holds."""
        return self.conv(frames) if cache is None else self.conv(frames, cache)


def conv(channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1) -> Inner:
    """A causal convolution under its public key."""
    return Inner(CausalConv(channels_in, channels_out, kernel, stride))


class FrameNorm(nn.GroupNorm):
    """Group norm with statistics of each frame alone; those of all frames make it flicker (paper, section 4.1.3)."""

    def forward(self, frames: Tensor, *, silu: bool = False) -> Tensor:
        """(b, t, c, h, w) -> a new tensor of that shape and dtype; with `silu`, SiLU follows the norm."""
        images = as_images(frames)
        if images.is_cuda and not torch.is_grad_enabled():
            return as_clips(self.channels_last(images, silu=silu), len(frames))
        normed = super().forward(images)
        if silu:
            normed = F.silu(normed, inplace=not torch.is_grad_enabled())
        return as_clips(normed.contiguous(memory_format=torch.channels_last), len(frames))

    def channels_last(self, images: Tensor, *, silu: bool) -> Tensor:
        """`forward` of images (n, c, h, w) that lie channels last, without copies to the other layout and back.

        PyTorch's group norm makes them on CUDA; its batch norm has kernels for this layout, whose sums per channel
        become sums per group. Not differentiable.
        """
        weight, bias = self.weight.detach(), self.bias.detach()
        result = torch.empty_like(images)
        for image, place in zip(images.split(1), result.split(1), strict=True):
            moments = self._of_groups(*torch.batch_norm_update_stats(image, None, None, 0.0))
            normed = torch.native_batch_norm(image, weight, bias, *moments, False, 0.0, self.eps)[0]
            if silu:
                torch.ops.aten.silu.out(normed, out=place)
            else:
                place.copy_(normed)
        return result

    def _of_groups(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Means and variances of channels (c,), each of equally many values -> those of each channel's group, (c,)."""
        means, variances = (x.unflatten(0, (self.num_groups, -1)) for x in (mean, variance))
        centre = means.mean(1, keepdim=True)
        spread = variances.mean(1, keepdim=True) + (means - centre).square().mean(1, keepdim=True)
        return centre.expand_as(means).flatten(), spread.expand_as(means).flatten()


class ResBlock(nn.Module):
    """norm, SiLU, convolution, twice; plus the input."""

    def __init__(self, channels_in: int, channels_out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = FrameNorm(groups, channels_in)
        self.conv1 = conv(channels_in, channels_out)
        self.norm2 = FrameNorm(groups, channels_out)
        self.conv2 = conv(channels_out, channels_out)
        self.nin_shortcut = conv(channels_in, channels_out, kernel=1) if channels_in != channels_out else None

    def forward(self, frames: Tensor, cache: ConvCache | None = None) -> Tensor:
        """(b, t, c_in, h, w) -> (b, t, c_out, h, w). One variable for all steps, so that each result frees the last."""
        h = self.norm1(frames, silu=True)
        h = self.conv1(h, cache)
        h = self.norm2(h, silu=True)
        h = self.conv2(h, cache)
        return add(h, self.nin_shortcut(frames) if self.nin_shortcut else frames)


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
        self.conv1 = conv(channels, channels)
        self.norm1 = FrameNorm(groups, channels)
        self.conv2 = conv(channels, channels)
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
        h = refine.norm1(h, silu=True)
        h = refine.conv2(h, cache)
        h = refine.norm2(h)
        h = F.silu(add(h, big), inplace=not torch.is_grad_enabled())
        return add(h, big)


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
