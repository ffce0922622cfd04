"""Triton kernels for CUDA, each beside the plain operators that compute the same elsewhere."""

from importlib.util import find_spec

import torch
from torch import Tensor

TRITON = find_spec("triton") is not None
PLAIN = "plain"  # PyTorch's own operators
ALIGNED = 16  # bytes of an address, elements of a stride: what makes Triton load 16 bytes at once


def served(*tensors: Tensor) -> bool:
    """Whether kernels serve these tensors: on CUDA, Triton installed, no gradients, all laid out for wide loads."""
    if not TRITON or torch.is_grad_enabled() or not all(x.is_cuda for x in tensors):
        return False
    return all(aligned(x) for x in tensors)


def serves_image(tile: int, *images: Tensor) -> bool:
    """`served`, and each is one image (1, c, h, w), channels last, pixels evenly spaced, c a power of two within a tile
    of so many elements."""
    count, channels = images[0].shape[:2]
    even = all(x.stride(2) == x.shape[3] * x.stride(3) for x in images)
    fits = count == 1 and channels & (channels - 1) == 0 and channels <= tile
    return fits and even and served(*(x.permute(0, 2, 3, 1) for x in images))


def aligned(x: Tensor) -> bool:
    """Whether the last dimension is dense, every row begins at a multiple of 16 bytes, and strides are multiples of 16.

    Triton compiles another, slower kernel for arguments that are not.
    """
    rows = (stride for size, stride in zip(x.shape[:-1], x.stride()[:-1], strict=True) if size > 1)
    return x.stride(-1) == 1 and x.data_ptr() % ALIGNED == 0 and all(stride % ALIGNED == 0 for stride in rows)


def kernels_name(device: torch.device) -> str:
    """What computes norms and rotations on a device, for a video's record: its bits depend on it."""
    if not TRITON or device.type != "cuda":
        return PLAIN
    import triton

    return f"triton {triton.__version__}"
