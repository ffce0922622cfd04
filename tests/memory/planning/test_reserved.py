"""The planner's bytes against what PyTorch's CUDA allocator would reserve, at full size, without a GPU."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import models.layers
import models.transformer
import models.vae_layers
from models import cost
from models.geometry import VideoShape
from models.transformer import Transformer, TransformerParams
from models.vae import VAE
from studio.memory.planning import peaks, planner
from studio.memory.planning.footprint import Architecture, ModelSizes
from studio.units import GB
from tests.memory.planning.reserved import LARGE_PAGE, STEP, Pool, ReservedBytes
from tests.models.fake_cuda import fake_cuda, on_fake_cuda

PARAMS = TransformerParams(layers=1, takes_image=True, takes_motion_score=True)


def fused_attention(q: Tensor, k: Tensor, v: Tensor, **_) -> Tensor:
    """What flash kernels allocate: the result, and one float32 per query and head."""
    out, log_sums = torch.empty_like(q), q.new_empty(q.shape[:3], dtype=torch.float32)
    assert log_sums.numel() * q.shape[-1] == out.numel()
    return out


def fused_rms_norm(x: Tensor, shape: tuple[int, ...], *, eps: float) -> Tensor:
    """As on CUDA: one kernel, over a contiguous copy where x is a part of its projection."""
    whole, scale = x.contiguous(), x.new_empty(x.shape[:-1], dtype=torch.float32)
    assert eps > 0 and scale.numel() * shape[-1] == whole.numel()
    return torch.empty_like(whole)


def cudnn_conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, ...], padding: tuple[int, ...]
) -> Tensor:
    """As cuDNN: pictures stay channels last, and a tap of a 3D kernel is first copied to lie that way too."""
    assert x.is_contiguous(memory_format=torch.channels_last) and (bias is None or len(bias) == len(weight))
    copied = weight.contiguous(memory_format=torch.channels_last)
    sides = zip(x.shape[2:], weight.shape[2:], stride, padding, strict=True)
    height, width = ((side + 2 * around - taps) // step + 1 for side, taps, step, around in sides)
    size = (len(x), len(copied), height, width)
    return torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def upsample(x: Tensor, *, scale_factor: float) -> Tensor:
    size = (*x.shape[:2], *(round(side * scale_factor) for side in x.shape[2:]))
    return torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


@pytest.fixture
def meta_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the meta device PyTorch takes these apart, or lays their results out, as CUDA never does."""
    for module in (models.layers, models.transformer, models.vae_layers):
        monkeypatch.setattr(module, "attention", fused_attention)
    monkeypatch.setattr(F, "rms_norm", fused_rms_norm)
    monkeypatch.setattr(F, "conv2d", cudnn_conv2d)
    monkeypatch.setattr(F, "interpolate", upsample)
    monkeypatch.setattr(
        nn.Conv2d, "forward", lambda conv, x: cudnn_conv2d(x, conv.weight, conv.bias, conv.stride, conv.padding)
    )


def steps_reserve(video: VideoShape, steps: int) -> list[int]:
    """Bytes reserved after each of some steps of one block, guided; weights not counted."""
    with torch.device("meta"):
        transformer = Transformer(PARAMS)
    counts = []
    with fake_cuda():
        on_fake_cuda(transformer)
        latents, moment = torch.empty(video.latent_shape(PARAMS.in_channels)), torch.empty(1)
        prompt = torch.empty(1, cost.PROMPT_TOKENS, PARAMS.llm_width, dtype=torch.bfloat16)
        clip = torch.empty(1, 77, PARAMS.clip_width)
        with ReservedBytes() as memory:
            for _ in range(steps):
                contexts = [transformer.embed_text(prompt.clone(), clip.clone()) for _ in range(2)]
                hiddens = transformer.embed_video(
                    latents.clone(), moment, contexts, transformer.rope(latents),
                    image_latents=latents.clone(), motion_score=5.0,
                )  # fmt: skip
                for _ in range(2):
                    transformer.transformer_blocks[0](*hiddens)
                velocities = [transformer.head(hidden).float() for hidden in hiddens]
                counts.append(memory.reserved)
                del contexts, hiddens, velocities
    return counts


@pytest.mark.parametrize("lengths", [(17, 51), pytest.param((102, 204), marks=pytest.mark.slow)])
def test_a_step_reserves_what_the_planner_says_and_the_next_no_more(lengths):
    sizes = ModelSizes.of(Architecture(transformer=PARAMS), torch.bfloat16)
    for video in (VideoShape(frames, 544, 992) for frames in lengths):
        first, second, third = steps_reserve(video, 3)
        assert second == third
        planned = sizes.denoise_bytes(video, 2) * (1 + peaks.ALLOCATOR_SLACK["cuda"])
        told = f"{video}: {second / GB:.3f} GB reserved, {planned / GB:.3f} planned"
        assert 0.9 * planned <= second <= planned, told


SLOW_DECODES = [pytest.param(2, slice_frames, marks=pytest.mark.slow) for slice_frames in planner.VAE_SLICES]


@pytest.mark.parametrize(("chunks", "slice_frames"), [(1, planner.VAE_SLICES[0]), *SLOW_DECODES])
def test_a_decode_reserves_what_the_planner_says(meta_kernels, chunks, slice_frames):
    with torch.device("meta"):
        vae, latents = VAE().to(torch.bfloat16), torch.empty(1, 3 * chunks, 64, 34, 62, dtype=torch.bfloat16)
    with torch.no_grad(), ReservedBytes() as memory:
        for piece in vae.decode_chunks(latents, slice_frames=slice_frames):
            del piece
    gaps = 1 + peaks.DECODE_GAPS[slice_frames]
    planned = gaps * vae.peak_decode_bytes(544, 992, torch.bfloat16, slice_frames)
    assert 0.95 * planned <= memory.reserved <= planned, f"{memory.reserved / GB:.3f} GB, {planned / GB:.3f} planned"


def test_a_pool_takes_the_smallest_gap_and_grows_in_pages():
    pool = Pool(LARGE_PAGE)
    pieces = [pool.take(size << 20) for size in (6, 2, 4, 2)]
    assert pool.reserved == LARGE_PAGE
    pool.give_back(pieces[0])
    pool.give_back(pieces[2])
    assert pool.take(3 << 20).start == pieces[2].start
    assert pool.take(7 << 20).start == 14 << 20 and pool.reserved == 2 * LARGE_PAGE
    pool.give_back(pieces[1])
    assert pool.take(8 << 20).start == 0
    assert pool.take(1).size == STEP
