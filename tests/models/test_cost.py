"""The formulas of models/cost.py against the bytes that PyTorch allocates and the FLOP that it counts."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from models import cost
from models.checkpoint import network
from models.clip_config import ClipParams
from models.geometry import VideoShape
from models.step_llm import Layer, StepLLMParams
from models.transformer import TOKEN_CHUNK, Transformer, TransformerParams
from models.vae import VAE, VAEParams
from tests.models.live_bytes import LiveBytes

DTYPES = (torch.float32, torch.bfloat16)
SMALL = TransformerParams(heads=2, head_dim=128, layers=1, in_channels=8, out_channels=8, llm_width=256)
SMALL_LLM = StepLLMParams(width=512, layers=1, heads=4, groups=1, ffn_width=1408, vocabulary=64)
ODD_VAE = VAEParams(2, (8, 16, 24, 32), (16, 32, 8, 16), encoder_base=4, norm_groups=4)  # widths unlike each other
SMALL_VAE = VAEParams(4, (8, 16, 32, 32), (8, 16, 32, 32), encoder_base=8, res_blocks=1, norm_groups=8)


def step_inputs(video: VideoShape, prompt_tokens: int, clip_tokens: int) -> tuple[torch.Tensor, ...]:
    """latents, timestep, prompt and CLIP embeddings."""
    latents = torch.randn(video.latent_shape(SMALL.in_channels))
    prompt = torch.randn(1, prompt_tokens, SMALL.llm_width)
    return latents, torch.ones(1), prompt, torch.randn(1, clip_tokens, SMALL.clip_width)


def step_peak(video: VideoShape, conditions: int, dtype: torch.dtype, token_chunk: int, context: int) -> int:
    """Bytes alive at once in a step of one block."""
    transformer = Transformer(SMALL).to(dtype).requires_grad_(False)
    inputs = step_inputs(video, context - 20, 20)
    with torch.no_grad(), LiveBytes() as live:
        hiddens = [transformer.embed(*inputs) for _ in range(conditions)]
        for hidden in hiddens:
            transformer.transformer_blocks[0](hidden, token_chunk=token_chunk)
        velocities = [transformer.head(hidden, token_chunk=token_chunk).float() for hidden in hiddens]
    assert len(velocities) == conditions
    return live.peak


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_denoise_bytes_follow_a_step(monkeypatch, dtype):
    """Less than a chunk of tokens, a chunk and a bit, and nearly two chunks; a quarter of the real token counts."""
    token_chunk, context = TOKEN_CHUNK // 4, cost.CONTEXT_TOKENS // 4
    monkeypatch.setattr(cost, "TOKEN_CHUNK", token_chunk)
    monkeypatch.setattr(cost, "CONTEXT_TOKENS", context)
    for frames, side, conditions in ((1, 272, 1), (17, 320, 2), (34, 288, 1)):
        video = VideoShape(frames, side, side)
        peak = step_peak(video, conditions, dtype, token_chunk, context)
        assert peak <= cost.denoise_bytes(SMALL, video, dtype, conditions) <= 1.12 * peak, video


def test_decode_bytes_follow_the_decoder():
    vae, latents = VAE(SMALL_VAE).requires_grad_(False), torch.randn(1, 3, 4, 2, 3)
    for slice_frames in (1, 2):
        with LiveBytes() as live:
            for piece in vae.decode_chunks(latents, slice_frames=slice_frames):
                del piece
        predicted = vae.peak_decode_bytes(32, 48, torch.float32, slice_frames)
        assert live.peak <= predicted <= 1.15 * live.peak, slice_frames


def test_prompt_and_image_bytes_are_upper_bounds():
    """Generous ones: neither phase decides how much memory a model needs."""
    for dtype in DTYPES:
        layer = Layer(SMALL_LLM).to(dtype).requires_grad_(False)
        states = torch.randn(1, cost.PROMPT_TOKENS, SMALL_LLM.width).to(dtype)
        with torch.no_grad(), LiveBytes() as live:
            layer(states)
        assert live.peak <= cost.prompt_bytes(SMALL_LLM, dtype) <= 3 * live.peak, dtype
        vae = VAE(SMALL_VAE).to(dtype).requires_grad_(False)
        image = torch.randn(1, 1, 3, 64, 96).to(dtype)
        with torch.no_grad(), LiveBytes() as live:
            vae.encode_moments(image)
        assert live.peak <= cost.encode_image_bytes(SMALL_VAE, 64, 96, dtype) <= 3 * live.peak, dtype


def test_clip_is_counted_as_transformers_builds_it():
    params = ClipParams(99, 32, 2, 2, 64)
    module = network("clip", asdict(params))
    assert cost.clip_parameters(params) == sum(parameter.numel() for parameter in module.parameters())


def test_the_work_of_a_block_is_what_pytorch_counts():
    video = VideoShape(17, 64, 96)
    with torch.device("meta"):
        transformer = Transformer(SMALL)
        inputs = step_inputs(video, cost.PROMPT_TOKENS, 77)
    with torch.no_grad():
        hidden = transformer.embed(*inputs)
        with FlopCounterMode(display=False) as counter:
            transformer.transformer_blocks[0](hidden)
    work = cost.block_work(SMALL, video.tokens, torch.float32)
    assert counter.get_total_flops() == work.linear_flop + work.attention_flop


def test_the_work_of_a_language_model_layer_is_what_pytorch_counts_but_for_attention():
    with torch.device("meta"):
        layer, states = Layer(StepLLMParams()), torch.empty(1, cost.PROMPT_TOKENS, StepLLMParams().width)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        layer(states)
    parameters = sum(parameter.numel() for parameter in layer.parameters())
    assert cost.step_llm_layer_flop(parameters, cost.PROMPT_TOKENS) == pytest.approx(
        counter.get_total_flops(), rel=0.01
    )


def test_the_work_of_a_vae_is_what_pytorch_counts():
    for params in (VAEParams(), SMALL_VAE, ODD_VAE):
        with torch.device("meta"):
            vae = VAE(params)
        for frames in (1, 17):
            counted = count_flop(vae.encode_moments, torch.empty(1, frames, 3, 64, 96, device="meta"))
            assert counted == cost.encode_flop(params, frames, 64, 96), (params, frames)
        for frames in (1, 3):
            counted = count_flop(
                lambda latents, vae=vae: list(vae.decode_chunks(latents, slice_frames=20)),
                torch.empty(1, frames, params.z_channels, 4, 6, device="meta"),
            )
            assert counted == cost.decode_flop(params, 64, 96, frames), (params, frames)


@torch.no_grad()
def count_flop(run: Callable[[torch.Tensor], object], given: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        run(given)
    return counter.get_total_flops()


class ElementTraffic(TorchDispatchMode):
    """Counts the elements that element-wise operators read and write; matrix products, attention and views apart."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs the operator and counts the elements of its tensors."""
        result = func(*args, **(kwargs or {}))
        other = ("mm.", "bmm.", "_scaled_dot_product", "_unsafe_view", "new_empty")
        if not func.is_view and not func.__name__.startswith(other):
            tensors = (x for x in tree_leaves((args, kwargs, result)) if isinstance(x, torch.Tensor))
            self.elements += sum(x.numel() for x in tensors)
        return result


@torch.no_grad()
def test_the_elementwise_traffic_of_a_block_is_what_its_operators_touch():
    video = VideoShape(17, 256, 256)
    transformer = Transformer(SMALL).requires_grad_(False)
    hidden = transformer.embed(*step_inputs(video, 4, 5))
    with ElementTraffic() as traffic:
        transformer.transformer_blocks[0](hidden, token_chunk=128)
    moved = cost.block_work(SMALL, video.tokens, torch.float32).moved_bytes
    assert 4 * traffic.elements == pytest.approx(moved, rel=0.02)
