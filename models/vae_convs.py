"""The causal convolutions of the video VAE, of a whole clip, or of a clip's next frame.

Each sees a frame and the two before it, and zeros before the first. Frames are (b, t, c, h, w), channels last in
memory, so that a buffer is a batch of images to 2D kernels and a clip to 3D ones.

A convolution that is given a `cache` gets the next frames of a clip and keeps in the cache what later frames need. The
results are those of the whole clip, at the same number of operations. A cache belongs to one pass over one clip.
"""

import math
from collections.abc import Callable, Sequence
from enum import StrEnum

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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


class Keep(StrEnum):
    """What convolutions keep of a clip for its next frames.

    WINDOWS: the frames that they read, in an image each; one frame at a time. SHARED: the same bits with less memory
    and more copies. SUMS: what the frames owe to the next results, two frames at a time: fastest on a CPU.
    """

    WINDOWS = "windows"
    SHARED = "shared"
    SUMS = "sums"


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


# What a convolution keeps: a window, or the sums that the frames so far owe to the next two results, each (b, c, h, w).
# The first of them is complete but for the next frame's own contribution.
ConvCache = dict[nn.Module, Window | list[Tensor]]


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
        bias = self.bias if self.lacking(frames, cache) is None else None
        if self.kernel_size[0] == 1:
            return self._contribution(frames, 0, bias)
        if cache is not None:
            window = cache.get(self)
            return (
                self._through(window, frames, bias) if isinstance(window, Window) else self._sums(frames, bias, cache)
            )
        if frames.shape[1] == 1:
            return self._contribution(frames, 0, bias)  # the frames before are zeros: a third of the work
        clip = F.pad(frames.transpose(1, 2), (0, 0, 0, 0, 2, 0)).contiguous(memory_format=torch.channels_last_3d)
        return super().forward(clip).transpose(1, 2)

    def room(self, cache: ConvCache | None) -> Tensor | None:
        """Where the next frame may be written, so that `forward` need not copy it; None: it takes any."""
        window = None if cache is None else cache.get(self)
        return window.offer() if isinstance(window, Window) else None

    @property
    def narrows(self) -> bool:
        """Whether it gives fewer channels than it reads, so that sums take less than the frames."""
        return self.out_channels < self.in_channels

    def lacking(self, frames: Tensor, cache: ConvCache | None) -> Tensor | None:
        """The bias (c',) where `forward` of such frames leaves it to the norm that follows, None where it adds it.

        On CUDA the bias is a pass of its own over the output; in a norm it shifts the means.
        """
        return self.bias if self.leaves_bias and cache is not None and frames.is_cuda else None

    def _contribution(self, frames: Tensor, delay: int, bias: Tensor | None = None) -> Tensor:
        """What each frame (b, t, c, h, w) adds to the output `delay` frames later: one 2D slice of the kernel."""
        weight = self.weight[:, :, -1 - delay]
        return per_frame(frames, lambda x: F.conv2d(x, weight, bias, self.stride[1:], self.padding[1:]))

    def _through(self, window: Window, frame: Tensor, bias: Tensor | None) -> Tensor:
        """`forward` of the next frame (b, 1, c, h, w)."""
        window.add(frame)
        taps = [self.weight[:, :, window.tap(third)].permute(0, 2, 3, 1) for third in range(TAPS)]
        weight = torch.cat(taps, dim=3).permute(0, 3, 1, 2)  # (c', 3c, 3, 3), channels last
        result = F.conv2d(window.image, weight, bias, self.stride[1:], self.padding[1:])
        window.leave()
        return as_clips(result, len(frame))

    def _sums(self, frames: Tensor, bias: Tensor | None, cache: ConvCache) -> Tensor:
        """`forward` of the next frames. Three conv2d are faster on a CPU than conv3d over so few frames, and need no
        padded copy of them."""
        count, cached = frames.shape[1], cache.pop(self, [])
        owed = cached if isinstance(cached, list) else []
        out = self._contribution(frames, 0, bias)
        for i in range(min(count, len(owed))):
            out[:, i].add_(owed.pop(0))  # its memory is free after the addition
        later = self._contribution(frames, 1)
        out[:, 1:].add_(later[:, :-1])
        first = _own_memory(later[:, -1])
        if owed:
            first.add_(owed.pop(0))
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


Sized = tuple[nn.Module, int, int]  # layers, and height and width of the frames that they read


def windows(parts: Sequence[Sized], like: Tensor, keep: Keep) -> ConvCache:
    """Windows of the convolutions over time within the parts; b, dtype and device as of `like`. None for SUMS, and for
    convolutions that narrow their frames."""
    if keep is Keep.SUMS:
        return {}
    convs = [
        (layer, layer.in_channels, height, width)
        for part, height, width in parts
        for layer in part.modules()
        if isinstance(layer, CausalConv) and layer.kernel_size[0] > 1 and not layer.narrows
    ]
    widest = max((math.prod(size) for _, *size in convs), default=0)
    image = like.new_empty(len(like) * TAPS * widest) if keep is Keep.SHARED else None
    return {layer: Window(like, channels, height, width, image) for layer, channels, height, width in convs}


class Inner(nn.Module):
    """Holds a layer as `conv`: most convolutions have this further level in the public keys."""

    def __init__(self, conv: "CausalConv | Inner") -> None:
        super().__init__()
        self.conv = conv

    def forward(self, frames: Tensor, cache: ConvCache | None = None) -> Tensor:
        """(b, t, c, h, w) -> (b, t', c', h', w'), as the layer that it holds."""
        return self.conv(frames) if cache is None else self.conv(frames, cache)

    def room(self, cache: ConvCache | None) -> Tensor | None:
        """`CausalConv.room`."""
        return self.conv.room(cache)

    def lacking(self, frames: Tensor, cache: ConvCache | None) -> Tensor | None:
        """`CausalConv.lacking`."""
        return self.conv.lacking(frames, cache)


def conv(channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1, *, leaves_bias: bool = False) -> Inner:
    """A causal convolution under its public key."""
    return Inner(CausalConv(channels_in, channels_out, kernel, stride, leaves_bias=leaves_bias))
