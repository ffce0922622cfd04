"""The planner's bytes against what PyTorch's CUDA allocator would reserve, at full size, without a GPU."""

import pytest
import torch

from models import cost
from models.geometry import VideoShape
from models.transformer import Transformer, TransformerParams
from models.vae import VAE
from models.vae_convs import Keep
from studio.memory.planning import peaks
from studio.memory.planning.footprint import Architecture, ModelSizes
from studio.units import GB
from tests.memory.planning.reserved import LARGE_PAGE, STEP, Pool, ReservedBytes
from tests.models.fake_cuda import Traffic, fake_cuda, on_fake_cuda

PARAMS = TransformerParams(layers=1, takes_image=True, takes_motion_score=True)


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


@pytest.mark.parametrize(
    ("chunks", "compact"),
    [(1, False), *(pytest.param(2, compact, marks=pytest.mark.slow) for compact in (False, True))],
)
def test_a_decode_reserves_what_the_planner_says(chunks, compact):
    with torch.device("meta"):
        vae = VAE()
    with fake_cuda():
        latents = torch.empty(1, 3 * chunks, 64, 34, 62, dtype=torch.bfloat16)
        on_fake_cuda(vae)  # its weights are counted elsewhere
        with ReservedBytes() as memory, Traffic():
            for piece in vae.decode_chunks(latents, keep=Keep.SHARED if compact else Keep.WINDOWS):
                del piece
    planned = (1 + peaks.DECODE_GAP) * vae.peak_decode_bytes(544, 992, torch.bfloat16, compact=compact)
    assert 0.9 * planned <= memory.reserved <= planned, f"{memory.reserved / GB:.3f} GB, {planned / GB:.3f} planned"


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
