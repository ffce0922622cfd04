"""The Triton kernels of models/kernels on a GPU, at the sizes of a public model: errors, speed, bytes per second."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from models.kernels import heads, modulated_norm, moments, scaled
from models.rope import rope_tables
from tests.bench.gpu_facts import best_of

# bfloat16 keeps 8 bits: a result that is right but for its last rounding is at a relative error of about 0.0017.
MOST = 0.003
TOKENS, WIDTH, HEADS, HEAD_DIM = 4096, 6144, 48, 128
PICTURES = ((128, 544, 992), (256, 544, 992), (512, 272, 496))  # channels, height, width in the decoder
# Name, the kernel, its twin in given dtypes, bytes that the kernel moves.
Case = tuple[str, Callable[[], Any], Callable[[torch.dtype], Any], int]


def cases(device: torch.device, half: torch.dtype) -> Iterator[Case]:
    """Every kernel at full size, a case at a time. Twins run where `served` says no: where gradients are on."""

    def numbers(*shape: int, about: float = 0.0) -> Tensor:
        return (about + torch.randn(shape, device=device)).to(half)

    norm = nn.LayerNorm(WIDTH, eps=1e-5, device=device, dtype=half).requires_grad_(False)
    norm.weight.copy_(numbers(WIDTH, about=1) / 4)
    x, shift, scale = numbers(1, TOKENS, WIDTH, about=1), *numbers(1, 2, 1, WIDTH).unbind(1)
    yield (
        "LayerNorm and modulation",
        lambda: modulated_norm.launch(norm.weight, norm.bias, norm.eps, x, shift, scale),
        lambda dtype: modulated_norm.modulated_norm(
            copy.deepcopy(norm).to(dtype), *(y.to(dtype) for y in (x, shift, scale))
        ),
        modulated_norm.moved_bytes(1, TOKENS, WIDTH, half.itemsize),
    )
    projected, scales = numbers(1, TOKENS, 3 * WIDTH), tuple(numbers(2, HEAD_DIM, about=1))
    rope = tuple(part[:TOKENS].to(device) for part in rope_tables((TOKENS // 512 + 1, 16, 32), HEAD_DIM))
    out = tuple(numbers(1, TOKENS, HEADS, HEAD_DIM) for _ in range(3))
    yield (
        "q, k, v, their norms and RoPE",
        lambda: heads.launch(projected, scales, 1e-6, rope, out),
        lambda dtype: heads.split_heads(projected.to(dtype), tuple(y.to(dtype) for y in scales), 1e-6, rope),
        heads.moved_bytes(1, TOKENS, HEADS, HEAD_DIM, half.itemsize),
    )
    for channels, height, width in PICTURES:
        yield from of_a_picture(numbers, channels, height, width)


def of_a_picture(numbers: Callable[..., Tensor], channels: int, height: int, width: int) -> Iterator[Case]:
    """The decoder's kernels at one size."""
    image, more = (numbers(1, height, width, channels, about=1).permute(0, 3, 1, 2) for _ in range(2))
    lacking, half, pixels = numbers(channels), image.dtype, height * width
    yield (
        f"moments of {channels} channels",
        lambda: moments.launch(image, 32, lacking),
        lambda dtype: moments.group_moments(image.to(dtype), 32, lacking.to(dtype)),
        moments.moved_bytes(channels, 32, pixels, half.itemsize),
    )
    (gain, offset), room = numbers(2, channels).float(), torch.empty_like(image)
    yield (
        f"scale, add, SiLU of {channels} channels",
        lambda: scaled.launch(image, gain, offset, True, more, room),
        lambda dtype: scaled.scaled(image.to(dtype), gain, offset, silu=True, more=more.to(dtype)),
        scaled.moved_bytes(channels, pixels, half.itemsize, more=True),
    )


def error(found: Any, wanted: Any) -> float:
    """The greatest relative error of the tensors, in float64."""
    pairs = [(found, wanted)] if isinstance(found, Tensor) else zip(found, wanted, strict=True)
    return max(float((x.double() - y.double()).norm() / y.double().norm()) for x, y in pairs)


def measured(device: torch.device, half: torch.dtype = torch.bfloat16) -> Iterator[dict[str, Any]]:
    """Per kernel: its error against the twin in float32, ms and GB/s, and how many times as long the twin takes."""
    for name, kernel, twin, nbytes in cases(device, half):
        with torch.inference_mode(False), torch.enable_grad():
            wanted = twin(torch.float32)
            plain = best_of(device, lambda: twin(half), times=5)  # noqa: B023
        wrong = error(kernel(), wanted)
        seconds = best_of(device, kernel, times=5)
        yield {"check": f"error, {name}", "value": round(wrong, 5), "expected": f"below {MOST}", "ok": wrong < MOST}
        value = (
            f"{1e3 * seconds:.3f} ms, {nbytes / seconds / 1e9:.0f} GB/s; plain operators {plain / seconds:.2f} times"
        )
        yield {"check": f"speed, {name}", "value": value, "expected": "plain above 1", "ok": plain > seconds}
