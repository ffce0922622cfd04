"""Means and variances of a group norm, of an image that lies channels last: it is read once.

The plain operators sum up per channel, the kernel per group and tile of pixels.
"""

import torch
from torch import Tensor

from models.kernels import TRITON, serves_image

TILE, WARPS = 8192, 8  # elements of one program: pixels x channels
Moments = tuple[Tensor, Tensor]

if TRITON:
    import triton
    import triton.language as tl

    @triton.jit
    def moments_kernel(  # type: ignore[no-untyped-def]  # Triton compiles annotations too
        x_ptr, lacking_ptr, mean_ptr, square_ptr, pixels,
        CHANNELS: tl.constexpr, GROUPS: tl.constexpr, ROWS: tl.constexpr,
    ):  # fmt: skip
        """One program: ROWS pixels; per group their mean, and the sum of squared distances from it."""
        tile, channel = tl.program_id(0), tl.arange(0, CHANNELS)
        row = tile * ROWS + tl.arange(0, ROWS)[:, None]
        inside = row < pixels
        given = tl.load(x_ptr + row.to(tl.int64) * CHANNELS + channel[None, :], mask=inside, other=0.0).to(tl.float32)
        x = tl.where(inside, given + tl.load(lacking_ptr + channel).to(tl.float32)[None, :], 0.0)
        WIDTH: tl.constexpr = CHANNELS // GROUPS
        count = tl.minimum(pixels - tile * ROWS, ROWS) * WIDTH
        mean = tl.sum(tl.reshape(tl.sum(x, axis=0), (GROUPS, WIDTH)), axis=1) / count
        spread = tl.reshape(tl.broadcast_to(mean[:, None], (GROUPS, WIDTH)), (CHANNELS,))
        away = tl.where(inside, x - spread[None, :], 0.0)
        place = tile * GROUPS + tl.arange(0, GROUPS)
        tl.store(mean_ptr + place, mean)
        tl.store(square_ptr + place, tl.sum(tl.reshape(tl.sum(away * away, axis=0), (GROUPS, WIDTH)), axis=1))


def group_moments(image: Tensor, groups: int, lacking: Tensor | None = None) -> Moments:
    """image (1, c, h, w), channels last -> mean and variance per group of channels, each (groups,) float32.

    lacking: a bias (c,) that the image still lacks.
    """
    if serves_image(TILE, image) and groups & (groups - 1) == 0:
        return launch(image, groups, image.new_zeros(image.shape[1]) if lacking is None else lacking)
    mean, variance = torch.batch_norm_update_stats(
        image, None, None, 0.0
    )  # per channel; it has a kernel for this layout
    mean = mean if lacking is None else mean + lacking
    means, variances = (x.unflatten(0, (groups, -1)) for x in (mean, variance))
    centre = means.mean(1)
    return centre, variances.mean(1) + (means - centre[:, None]).square().mean(1)


def launch(image: Tensor, groups: int, lacking: Tensor) -> Moments:
    """The kernel's; the moments of its tiles are put together here."""
    channels, pixels = image.shape[1], image.shape[2] * image.shape[3]
    rows, width = TILE // channels, channels // groups
    tiles = -(-pixels // rows)
    means, squares = image.new_empty(2, tiles, groups, dtype=torch.float32)
    moments_kernel[(tiles,)](
        image, lacking, means, squares, pixels, CHANNELS=channels, GROUPS=groups, ROWS=rows, num_warps=WARPS
    )
    counts = image.new_full((tiles, 1), rows * width, dtype=torch.float32)
    counts[-1] = (pixels - (tiles - 1) * rows) * width
    mean = (means * counts).sum(0) / (pixels * width)
    return mean, (squares + counts * (means - mean).square()).sum(0) / (pixels * width)


def moved_bytes(channels: int, groups: int, pixels: int, itemsize: int) -> int:
    """What the kernel's loads and stores move: the image in; per tile the bias in and two moments per group out."""
    tiles = -(-pixels // (TILE // channels))
    return (pixels + tiles) * channels * itemsize + tiles * 2 * groups * 4
