"""The parts of first_gpu.py: rows of a check, its value, what is expected, and whether it is so."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from models import cost
from models.attention import attention
from models.geometry import VideoShape
from models.transformer import Block, Transformer, TransformerParams
from models.vae import VAE, VAEParams
from models.vae_convs import Keep
from studio.memory.allocator import Machine
from studio.memory.planning import peaks
from studio.memory.usage import CUDA_CONTEXT_BYTES
from studio.units import GB
from tests.bench import gpu_kernels
from tests.bench.eager_block import eager_block
from tests.bench.gpu_facts import best_of, clocks, kernels, outside_bytes, seconds_of

Rows = Iterator[dict[str, Any]]
MB = 1 << 20


class Sizes:
    """The device, and the sizes of everything: the public ones, or tiny ones for a rehearsal."""

    def __init__(self, rehearse: bool) -> None:
        self.device = torch.device("cpu" if rehearse else "cuda")
        self.frames = (17,) if rehearse else (51, 102, 204)
        self.size = (32, 48) if rehearse else (544, 992)
        self.params = TransformerParams(heads=1 if rehearse else 48, layers=1)
        self.unit_bytes = 1 << 22 if rehearse else 16 * 6144**2 * 2
        self.rows = (64, 128) if rehearse else (2048, 4096, 8192, 16384)
        self.side = 256 if rehearse else 8192
        self.causal_tokens = 128 if rehearse else 42160
        tiny = VAEParams(4, (8, 8, 16, 16), (8, 8, 16, 16), 8, res_blocks=1, norm_groups=4)
        self.vae = tiny if rehearse else VAEParams()

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def numbers(self, *shape: int) -> Tensor:
        return torch.randn(shape, device=self.device).mul_(0.02).to(torch.bfloat16)

    def tokens(self, frames: int) -> int:
        return VideoShape(frames, *self.size).tokens


def row(check: str, value: Any, expected: str = "", ok: bool | None = None) -> dict[str, Any]:
    value = round(value, 4) if isinstance(value, float) else value
    return {"check": check, "value": value, "expected": expected, "ok": ok}


def context(sizes: Sizes) -> Rows:
    """Versions, and what the driver charges beside PyTorch's allocator after the first of each kind of operator."""
    device = sizes.device
    yield row("torch, CUDA, cuDNN", f"{torch.__version__}, {torch.version.cuda}, {torch.backends.cudnn.version()}")
    yield row("card", torch.cuda.get_device_name() if sizes.on_gpu else "none")
    yield row("MHz, watts, degrees, driver", clocks(device))
    yield row("allocator", os.environ.get("PYTORCH_ALLOC_CONF") or os.environ.get("PYTORCH_CUDA_ALLOC_CONF") or "")
    left, right = sizes.numbers(2, sizes.side // 4, sizes.side // 4)
    frames = sizes.numbers(1, 64, 3, 32, 32)
    works: dict[str, Callable[[], object]] = {
        "nothing": lambda: None,
        "a matrix product": lambda: left @ right,
        "attention": lambda: attention(*sizes.numbers(3, 1, 256, 2, 128)),
        "a convolution": lambda: F.conv3d(frames, sizes.numbers(64, 64, 3, 3, 3)),
    }
    for name, work in works.items():
        work()
        outside = outside_bytes(device)
        expected = f"at most {CUDA_CONTEXT_BYTES // MB}"
        yield row(f"MB outside the allocator after {name}", outside // MB, expected, outside <= CUDA_CONTEXT_BYTES)


def register(sizes: Sizes) -> Rows:
    """Page-locking as the streamer does it, the link, and whether copies hide behind computation."""
    device, nbytes, machine = sizes.device, sizes.unit_bytes, Machine(sizes.device)
    best_of(device, lambda: sizes.numbers(1))  # the context is there before the clock starts
    memory = machine.host_memory(nbytes)
    began = perf_counter()
    registered = machine.register(memory)
    seconds = perf_counter() - began
    yield row("a block's memory is registered", registered, "True", registered or not sizes.on_gpu)
    yield row("s/GB to register", seconds / (nbytes / GB), "about 0.6")
    if sizes.on_gpu:
        yield row("it is pinned for PyTorch", memory.is_pinned(), "True", memory.is_pinned())
    target = machine.device_memory(nbytes)
    speeds = {}
    for name, source in (("registered", memory), ("pin_memory", _pinned(nbytes, sizes))):
        speeds[name] = nbytes / best_of(device, partial(target.copy_, source, non_blocking=True)) / 1e9
        yield row(f"GB/s from {name} memory", speeds[name])
    share = speeds["registered"] / speeds["pin_memory"]
    yield row("registered against pin_memory", share, "at least 0.95", share > 0.95 if sizes.on_gpu else None)
    if sizes.on_gpu:
        yield from _overlap(sizes, memory, target)
        machine.unregister(memory)


def _pinned(nbytes: int, sizes: Sizes) -> Tensor:
    return torch.empty(nbytes, dtype=torch.uint8, pin_memory=sizes.on_gpu)


def _overlap(sizes: Sizes, memory: Tensor, target: Tensor) -> Rows:
    """A copy in a stream of its own beside matrix products of about its length."""
    left, right = sizes.numbers(2, sizes.side, sizes.side)
    side = torch.cuda.Stream()
    copying = best_of(sizes.device, lambda: target.copy_(memory, non_blocking=True))
    product = best_of(sizes.device, lambda: left @ right)
    count = max(round(copying / product), 1)

    def multiply() -> None:
        for _ in range(count):
            left @ right

    def both() -> None:
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            target.copy_(memory, non_blocking=True)
        multiply()
        torch.cuda.current_stream().wait_stream(side)

    computing, together = best_of(sizes.device, multiply), best_of(sizes.device, both)
    hidden = (copying + computing - together) / min(copying, computing)
    yield row("share of a copy that computation hides", hidden, "at least 0.9", hidden >= 0.9)


def attentions(sizes: Sizes) -> Rows:
    """Kernels of the transformer's attention by length, and of the VAE's wide heads."""
    heads = sizes.params.heads
    for frames in sizes.frames:
        n = sizes.tokens(frames)
        q, k, v = sizes.numbers(3, 1, n, heads, 128)
        flop = 4 * n**2 * heads * 128
        ran = kernels(sizes.device, lambda: attention(q, k, v))[0][0]  # noqa: B023
        yield row(f"kernel at {n} tokens", ran)
        for name, kernel in ({"chosen": None, "flash": SDPBackend.FLASH_ATTENTION} | _on_gpu(sizes)).items():
            seconds = _forced(sizes, kernel, q, k, v)
            yield row(f"TFLOP/s at {n} tokens, {name}", flop / seconds / 1e12 if seconds else "not available")
    n = sizes.causal_tokens
    q, k, v = sizes.numbers(3, 1, n, 1, 512)
    yield row(
        f"kernel of heads of 512, {n} tokens", kernels(sizes.device, lambda: attention(q, k, v, causal=True))[0][0]
    )
    whole = best_of(sizes.device, lambda: attention(q, k, v, causal=True), repeats=2)
    chunked = best_of(sizes.device, lambda: _by_rows(q[0, :, 0], k[0, :, 0], v[0, :, 0]), repeats=2)
    yield row("ms of it", 1e3 * whole)
    yield row("ms of it by rows of a matrix product", 1e3 * chunked)


def _on_gpu(sizes: Sizes) -> dict[str, Any]:
    return {"cuDNN": SDPBackend.CUDNN_ATTENTION, "efficient": SDPBackend.EFFICIENT_ATTENTION} if sizes.on_gpu else {}


def _forced(sizes: Sizes, kernel: SDPBackend | None, q: Tensor, k: Tensor, v: Tensor) -> float:
    """Seconds with this kernel; 0.0 where this card or PyTorch does not have it."""
    if kernel is None:
        return best_of(sizes.device, lambda: attention(q, k, v), repeats=2)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    try:
        with sdpa_kernel(kernel):
            return best_of(sizes.device, lambda: F.scaled_dot_product_attention(q, k, v), repeats=2)
    except RuntimeError:
        return 0.0


def _by_rows(q: Tensor, k: Tensor, v: Tensor, rows: int = 2048) -> Tensor:
    """Causal attention of one head (n, d), a square of some rows at a time."""
    seen = []
    for start in range(0, len(q), rows):
        end = min(start + rows, len(q))
        scores = q[start:end] @ k[:end].T / q.shape[-1] ** 0.5
        hidden = torch.ones_like(scores, dtype=torch.bool).triu(start + 1)
        seen.append(scores.masked_fill_(hidden, -torch.inf).softmax(-1) @ v[:end])
    return torch.cat(seen)


def gemm(sizes: Sizes) -> Rows:
    """Whether the chunks of models/transformer.py (4096 tokens) cost matrix speed."""
    width = sizes.params.width
    for into, out in ((width, 3 * width), (width, 4 * width), (4 * width, width)):
        weight, found = sizes.numbers(out, into), {}
        for rows in sizes.rows:
            x = sizes.numbers(rows, into)
            found[rows] = 2 * rows * into * out / best_of(sizes.device, partial(F.linear, x, weight)) / 1e12
        values = ", ".join(f"{rows}: {speed:.1f}" for rows, speed in found.items())
        share = found[sizes.rows[1]] / found[sizes.rows[-1]]
        yield row(f"TFLOP/s {into}->{out} by tokens", values, "4096 at least 0.97 of 16384", _if(sizes, share >= 0.97))


def triton(sizes: Sizes) -> Rows:
    """The kernels of models/kernels; they need a GPU and Triton."""
    if sizes.on_gpu:
        yield from gpu_kernels.measured(sizes.device)


def block(sizes: Sizes) -> Rows:
    """A block of the program's against the same block in plain operators, and its peak against the plan."""
    with torch.device("meta"):
        whole = Transformer(sizes.params)
    whole = whole.to(torch.bfloat16).to_empty(device=sizes.device)
    for weight in whole.parameters():
        weight.normal_(std=0.02)
    chosen = whole.transformer_blocks[0]
    for frames in sizes.frames[:2]:
        video = VideoShape(frames, *sizes.size)
        latents = sizes.numbers(*video.latent_shape(sizes.params.in_channels))
        text = (
            sizes.numbers(1, cost.PROMPT_TOKENS, sizes.params.llm_width),
            sizes.numbers(1, 77, sizes.params.clip_width),
        )
        hidden = whole.embed(latents, torch.full((1,), 0.5, device=sizes.device), *text)
        yield from _against_eager(sizes, chosen, hidden, frames)


def _against_eager(sizes: Sizes, chosen: Block, hidden: Any, frames: int) -> Rows:
    tokens = hidden.tokens.clone()
    plain = eager_block(chosen, hidden).float()
    chosen(hidden)
    error = float((hidden.tokens.float() - plain).norm() / (plain - tokens.float()).norm())
    yield row(f"error of the update against plain operators, {frames} frames", error, "below 0.02", error < 0.02)
    del plain
    hidden.tokens = tokens  # updated in place from here on: its numbers do not matter for time
    ours = best_of(sizes.device, lambda: chosen(hidden))
    eager = best_of(sizes.device, lambda: eager_block(chosen, hidden))
    gain = _if(sizes, eager / ours >= 1.1)
    yield row(f"ms of a block, {frames} frames", 1e3 * ours)
    yield row(f"plain operators take so many times as long, {frames} frames", eager / ours, "at least 1.10", gain)
    top = kernels(sizes.device, lambda: chosen(hidden), 6)
    yield row(f"longest kernels, {frames} frames", "; ".join(f"{1e3 * seconds:.2f} ms {name}" for name, seconds in top))


def vae(sizes: Sizes) -> Rows:
    """Decoding of a chunk in slices, its longest kernels, its peak, and the workspaces of its convolutions."""
    with torch.device("meta"):
        network = VAE(sizes.vae)
    network = network.to(torch.bfloat16).to_empty(device=sizes.device)
    for weight in network.parameters():
        weight.normal_(std=0.02)
    latents = sizes.numbers(*VideoShape(17, *sizes.size).latent_shape(sizes.vae.z_channels))
    for compact in (True, False):
        keep = Keep.SHARED if compact else Keep.WINDOWS
        decode = partial(lambda keep: list(network.decode_chunks(latents, keep=keep)), keep)
        if sizes.on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        decode()
        yield row(f"s to decode 17 frames{', compact' if compact else ''}", seconds_of(sizes.device, decode))
        if sizes.on_gpu:
            planned = network.peak_decode_bytes(*sizes.size, torch.bfloat16, compact=compact)
            allowed = planned * (1 + peaks.DECODE_GAP) + peaks.WORKSPACE_BYTES["cuda"] + peaks.CONVOLUTION_BYTES
            took = torch.cuda.max_memory_reserved() - sum(weight.nbytes for weight in network.parameters())
            yield row("GB reserved beside weights", took / GB, f"at most {allowed / GB:.2f}", took <= allowed)
    top = kernels(sizes.device, decode, 8)
    yield row("longest kernels", "; ".join(f"{1e3 * seconds:.1f} ms {name}" for name, seconds in top))
    if sizes.on_gpu:
        yield from _workspaces(sizes)


def _workspaces(sizes: Sizes) -> Rows:
    """What cuDNN takes inside the largest convolutions of the decoder."""
    height, width = sizes.size
    for channels, scale in ((128, 1), (256, 1), (512, 2)):
        x = sizes.numbers(1, channels, 1, height // scale, width // scale)[:, :, 0].to(
            memory_format=torch.channels_last
        )
        weight = sizes.numbers(channels, channels, 3, 3).to(memory_format=torch.channels_last)
        F.conv2d(x, weight, padding=1)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        made = F.conv2d(x, weight, padding=1)
        took = torch.cuda.max_memory_allocated() - before - made.nbytes
        allowed = peaks.CONVOLUTION_BYTES
        yield row(f"MB of workspace, {channels} channels", took / MB, f"at most {allowed // MB}", took <= allowed)


def _if(sizes: Sizes, ok: bool) -> bool | None:
    """The verdict on a speed; a rehearsal has none."""
    return ok if sizes.on_gpu else None


PARTS: dict[str, Callable[[Sizes], Rows]] = {
    "context": context,
    "register": register,
    "attention": attentions,
    "gemm": gemm,
    "triton": triton,
    "block": block,
    "vae": vae,
}
