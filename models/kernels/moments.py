"""Means and variances of a group norm, of an image that lies channels last: it is read once.

Two kernels: the first sums up per channel over parts of the image, the second puts the parts of a group together. The
plain operators sum up per channel over the whole image.
"""

import torch
from torch import Tensor

from models.kernels import TRITON, serves_image

TILE, WARPS = 4096, 4  # elements that one program of the first kernel adds at once: pixels x channels
PARTS = 1024  # programs at most, about what a large GPU runs at once
JOINED = 256  # parts that a program of the second kernel reads at once
Moments = tuple[Tensor, Tensor]

if TRITON:
    import triton
    import triton.language as tl

    @triton.jit
    def moments_kernel(  # type: ignore[no-untyped-def]  # Triton compiles annotations too
        x_ptr, lacking_ptr, mean_ptr, square_ptr, pixels, steps, CHANNELS: tl.constexpr, ROWS: tl.constexpr,
    ):  # fmt: skip
        """One part, `steps` times ROWS pixels: per channel their mean, and the sum of squared distances from it.

        Distances from the part's first pixel are added up, which are as small as the numbers are close.
        """
        part, channel = tl.program_id(0), tl.arange(0, CHANNELS)
        first = part * steps * ROWS
        pivot = tl.load(x_ptr + first.to(tl.int64) * CHANNELS + channel).to(tl.float32)
        total = tl.zeros((ROWS, CHANNELS), dtype=tl.float32)
        squares = tl.zeros((ROWS, CHANNELS), dtype=tl.float32)
        for step in range(steps):
            row = first + step * ROWS + tl.arange(0, ROWS)[:, None]
            place = row.to(tl.int64) * CHANNELS + channel[None, :]
            x = tl.load(x_ptr + place, mask=row < pixels, other=0.0).to(tl.float32)
            away = tl.where(row < pixels, x - pivot[None, :], 0.0)
            total += away
            squares += away * away
        count = tl.minimum(pixels - first, steps * ROWS).to(tl.float32)
        away_mean = tl.sum(total, axis=0) / count
        lacking = tl.load(lacking_ptr + channel).to(tl.float32)
        tl.store(mean_ptr + part * CHANNELS + channel, pivot + away_mean + lacking)
        tl.store(square_ptr + part * CHANNELS + channel, tl.sum(squares, axis=0) - count * away_mean * away_mean)

    @triton.jit
    def joined_kernel(  # type: ignore[no-untyped-def]
        mean_ptr, square_ptr, moments_ptr, pixels, parts, length,
        GROUPS: tl.constexpr, WIDTH: tl.constexpr, JOINED: tl.constexpr,
    ):  # fmt: skip
        """One group: its mean and variance from those of its parts of `length` pixels, the last of which is shorter."""
        group = tl.program_id(0)
        column = group * WIDTH + tl.arange(0, WIDTH)[None, :]
        total = tl.zeros((JOINED, WIDTH), dtype=tl.float32)
        for start in range(0, parts, JOINED):
            part = start + tl.arange(0, JOINED)[:, None]
            count = tl.minimum(pixels - part * length, length).to(tl.float32)
            mean = tl.load(mean_ptr + part * GROUPS * WIDTH + column, mask=part < parts, other=0.0)
            total += tl.where(part < parts, count * mean, 0.0)
        centre = tl.sum(total) / pixels / WIDTH
        total = tl.zeros((JOINED, WIDTH), dtype=tl.float32)
        for start in range(0, parts, JOINED):
            part = start + tl.arange(0, JOINED)[:, None]
            count = tl.minimum(pixels - part * length, length).to(tl.float32)
            mean = tl.load(mean_ptr + part * GROUPS * WIDTH + column, mask=part < parts, other=0.0)
            square = tl.load(square_ptr + part * GROUPS * WIDTH + column, mask=part < parts, other=0.0)
            total += tl.where(part < parts, square + count * (mean - centre) * (mean - centre), 0.0)
        tl.store(moments_ptr + group, centre)
        tl.store(moments_ptr + GROUPS + group, tl.sum(total) / pixels / WIDTH)


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


def divided(channels: int, pixels: int) -> tuple[int, int, int]:
    """(parts, steps of a part, pixels of a step): parts of equal length but for the last, at most PARTS."""
    rows = TILE // channels
    steps = -(-pixels // (rows * PARTS))
    return -(-pixels // (rows * steps)), steps, rows


def launch(image: Tensor, groups: int, lacking: Tensor) -> Moments:
    """The kernels'."""
    channels, pixels = image.shape[1], image.shape[2] * image.shape[3]
    parts, steps, rows = divided(channels, pixels)
    means, squares = image.new_empty(2, parts, channels, dtype=torch.float32)
    moments = image.new_empty(2, groups, dtype=torch.float32)
    moments_kernel[(parts,)](
        image, lacking, means, squares, pixels, steps, CHANNELS=channels, ROWS=rows, num_warps=WARPS
    )
    joined_kernel[(groups,)](
        means, squares, moments, pixels, parts, steps * rows, GROUPS=groups, WIDTH=channels // groups, JOINED=JOINED,
        num_warps=WARPS,
    )  # fmt: skip
    return moments[0], moments[1]


def moved_bytes(channels: int, groups: int, pixels: int, itemsize: int) -> int:
    """What the kernels' loads and stores move: the image in; per part its first pixel and the bias in, two moments per
    channel out, and in again, the means twice; two moments per group out."""
    parts, _, _ = divided(channels, pixels)
    return (pixels + 2 * parts) * channels * itemsize + 5 * parts * channels * 4 + 2 * groups * 4
