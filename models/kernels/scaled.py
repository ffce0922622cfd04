"""A gain and an offset per channel, SiLU and a sum, of an image that lies channels last, in one pass instead of three.

It ends a group norm, and adds a convolution's bias and a residual. The plain operators round after each step, the
kernel once, at the end.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.kernels import TRITON, serves_image

TILE, WARPS = 8192, 8  # elements of one program: pixels x channels

if TRITON:
    import triton
    import triton.language as tl

    @triton.jit
    def scaled_kernel(  # type: ignore[no-untyped-def]  # Triton compiles annotations too
        x_ptr, gain_ptr, offset_ptr, more_ptr, out_ptr, pixels, out_row,
        CHANNELS: tl.constexpr, ROWS: tl.constexpr, SILU: tl.constexpr, MORE: tl.constexpr,
    ):  # fmt: skip
        """One program: ROWS pixels. MORE: whether another image is added; with SILU before and after it."""
        channel = tl.arange(0, CHANNELS)[None, :]
        row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]).to(tl.int64)
        inside = row < pixels
        x = tl.load(x_ptr + row * CHANNELS + channel, mask=inside, other=0.0).to(tl.float32)
        x = x * tl.load(gain_ptr + channel) + tl.load(offset_ptr + channel)
        if MORE:
            more = tl.load(more_ptr + row * CHANNELS + channel, mask=inside, other=0.0).to(tl.float32)
            x += more
        if SILU:
            x = x / (1.0 + tl.exp(-x))
            if MORE:
                x += more
        tl.store(out_ptr + row * out_row + channel, x.to(out_ptr.dtype.element_ty), mask=inside)


def scaled(
    image: Tensor, gain: Tensor, offset: Tensor, *, silu: bool = False, more: Tensor | None = None,
    room: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """silu(image gain + offset + more) + more, or without SiLU image gain + offset + more; not differentiable.

    image and more (1, c, h, w), channels last; gain and offset (c,) float32. room: where the result may be written; it
    is returned where it was.
    """
    if serves_image(TILE, image, *(x for x in (more, room) if x is not None)):
        return launch(image, gain, offset, silu, more, torch.empty_like(image) if room is None else room)
    unmoved = torch.zeros_like(gain), torch.ones_like(gain)  # batch norm has a kernel for this layout
    result = torch.native_batch_norm(image, gain, offset, *unmoved, False, 0.0, 0.0)[0]
    result = result if more is None else result.add_(more)
    if not silu:
        return result
    if room is not None and more is None:
        return torch.ops.aten.silu.out(result, out=room)
    result = F.silu(result, inplace=True)
    return result if more is None else result.add_(more)


def residual(image: Tensor, bias: Tensor | None, more: Tensor) -> Tensor:
    """image + bias + more, written into `image`: two (n, c, h, w), channels last, and (c,) or None."""
    if bias is not None and serves_image(TILE, image, more):
        offset = bias.float()
        return launch(image, torch.ones_like(offset), offset, False, more, image)
    return (image if bias is None else image.add_(bias[:, None, None])).add_(more)


def launch(image: Tensor, gain: Tensor, offset: Tensor, silu: bool, more: Tensor | None, out: Tensor) -> Tensor:
    """The kernel's `scaled`."""
    _, channels, height, width = image.shape
    rows = TILE // channels
    scaled_kernel[(-(-height * width // rows),)](
        image, gain, offset, image if more is None else more, out, height * width, out.stride(3),
        CHANNELS=channels, ROWS=rows, SILU=silu, MORE=more is not None, num_warps=WARPS,
    )  # fmt: skip
    return out


def moved_bytes(channels: int, pixels: int, itemsize: int, *, more: bool = False) -> int:
    """What the kernel's loads and stores move: one or two images in, one out; per tile gain and offset."""
    tiles = -(-pixels // (TILE // channels))
    return (2 + more) * pixels * channels * itemsize + tiles * 2 * channels * 4
