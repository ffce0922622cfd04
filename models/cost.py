"""Bytes of activations and FLOP of the networks, from their sizes alone: no weights, no device.

Each formula counts the tensors or products of code in models/. tests/models/test_cost.py compares them with what
PyTorch allocates and computes: a layer that changes without its formula fails there.
"""

from dataclasses import dataclass

import torch

from models.clip_config import CLIP_TOKENS, ClipParams
from models.geometry import CHUNK_LATENTS, PIXELS_PER_LATENT, VideoShape
from models.kernels import heads, modulated_norm
from models.step_llm import StepLLMParams
from models.token_split import TokenSplit
from models.transformer import TOKEN_CHUNK, TransformerParams
from models.vae import VAEParams

PROMPT_TOKENS = 320  # the most that Step-LLM reads (models.tokenizers.STEP_TOKENS)
CONTEXT_TOKENS = PROMPT_TOKENS + CLIP_TOKENS  # the keys of cross-attention

# models.layers.SelfAttention.qkv of a chunk of n tokens on CUDA: tensors (n, D) alive at once while k is rotated. In
# the compute dtype: the modulated input, three projections, the normed k and its swapped halves; in float32: the first
# term of the rotation. q, k and v are written into whole tensors; where all tokens are one chunk, q and k are two more.
CHUNK_TENSORS = 6
CHUNK_FLOAT_TENSORS = 1
LONE_CHUNK_TENSORS = 2
# bitsandbytes' int8 product, bytes besides its input. Per input element: a float16 copy and the code. Per output
# element: the int32 sum, and two tensors of the result's dtype (CUDA: float16, then the result; CPU: two in float32).
INT8_INPUT, INT8_OUTPUT = 3, 4
ENCODE_IMAGE_TENSORS = 8  # full-size tensors of the encoder's first level, convolution workspaces included

# Elements that the element-wise operators of a block read and write on CUDA per token and channel. In the compute
# dtype: two norms and modulations 8, norms of q and k 8 (half of it copies of strided inputs inside the kernel),
# rotations 10, v into a whole tensor 2, gates and residuals 6, norm of the cross-attention's queries 2. In float32:
# what lies between the two operators of a rotation, for q and k. The residual of the cross-attention and the GELU are
# parts of matrix products.
ELEMENT_PASSES = 36
FLOAT_PASSES = 4
# Where models/kernels compute the norms with modulation and everything between the projection of q, k, v and the
# attention: gates and residuals 6, norm of the cross-attention's queries 2, all in the compute dtype.
PASSES_BESIDE_KERNELS = 8


@dataclass(frozen=True)
class BlockWork:
    """One transformer block, one condition: FLOP of linear layers and of attention, bytes moved element by element."""

    linear_flop: float
    attention_flop: float
    moved_bytes: float


def block_work(
    params: TransformerParams,
    tokens: int,
    dtype: torch.dtype,
    split: TokenSplit | None = None,
    *,
    kernels: bool = False,
) -> BlockWork:
    """Work of one transformer block over `tokens` tokens and the longest context.

    split: of the device that has most of the tokens, where several share them. kernels: models/kernels compute it.
    """
    width, wide, own, seen = params.width, dtype.itemsize, tokens, tokens * tokens
    if split is not None:
        own, seen = max(split.counts), tokens * tokens // len(split.counts)
    moved = (ELEMENT_PASSES * wide + FLOAT_PASSES * 4) * own * width
    if kernels:
        moved = PASSES_BESIDE_KERNELS * wide * own * width
        moved += 2 * modulated_norm.moved_bytes(1, own, width, wide)
        moved += heads.moved_bytes(1, own, params.heads, params.head_dim, wide)
    return BlockWork(
        linear_flop=2 * width**2 * (12 * own + 2 * (own + CONTEXT_TOKENS)),
        attention_flop=4 * (seen + own * CONTEXT_TOKENS) * width,
        moved_bytes=moved,
    )


def exchanged_bytes(params: TransformerParams, dtype: torch.dtype, split: TokenSplit) -> float:
    """What a device that shares tokens sends in one block for one condition: q, k, v, and the result of attention."""
    devices = len(split.counts)
    return 4 * max(split.counts) * params.width * dtype.itemsize * (devices - 1) / devices


def dequantise_bytes(parameters: int, dtype: torch.dtype) -> int:
    """Bytes moved to dequantise the int8 weights of a unit once: codes read, weights written."""
    return parameters * (1 + dtype.itemsize)


def step_llm_layer_flop(parameters: int, tokens: int) -> int:
    """FLOP of one Step-LLM layer with so many parameters. Attention is left out: under 1 % at 320 tokens."""
    return 2 * tokens * parameters


def decode_flop(params: VAEParams, height: int, width: int, latent_frames: int = CHUNK_LATENTS) -> int:
    """models.vae.VAE.decode_chunks of one chunk of 1 or 3 latent frames; causal attention is counted in full."""
    widths, folded = params.decoder_widths, params.folded_width
    deepest, small = widths[-1], (height // PIXELS_PER_LATENT) * (width // PIXELS_PER_LATENT)
    taps = 27 if latent_frames > 1 else 9  # a single frame sees zeros before it, which are not multiplied
    total = _conv(taps, params.z_channels * folded + folded * 8 * deepest) * latent_frames * small
    frames, pixels = 2 * latent_frames - 1, 4 * small
    total += _mid(deepest, frames, pixels, taps)
    for level in reversed(range(len(widths))):
        out, into = widths[level], widths[min(level + 1, len(widths) - 1)]
        total += _res_blocks(27, into, out, params.res_blocks + 1) * frames * pixels
        if level in (2, 3):  # CausalUpsample, after the frames are doubled
            frames, pixels = 2 * frames, 4 * pixels
            total += _conv(27, 2 * out * out) * frames * pixels
        elif level == 1:
            pixels = 4 * pixels
            total += _conv(9, out * out) * frames * pixels
    return total + _conv(27, widths[0] * 3) * frames * pixels


def encode_flop(params: VAEParams, frames: int, height: int, width: int) -> int:
    """models.vae.VAE.encode_moments of one chunk of 1 or 17 frames; causal attention is counted in full."""
    widths, folded = params.encoder_widths, params.folded_width
    taps = 27 if frames > 1 else 9  # a single frame sees zeros before it, which are not multiplied
    pixels = height * width
    total = _conv(taps, 3 * params.encoder_base) * frames * pixels
    for level, (into, out) in enumerate(zip((params.encoder_base, *widths), widths, strict=False)):
        total += _res_blocks(taps, into, out, params.res_blocks) * frames * pixels
        if level + 1 == len(widths):
            break
        pixels //= 4
        if level > 0:
            frames = -(-frames // 2)
        total += _conv(taps if level > 0 else 9, out * out) * frames * pixels
    total += _mid(widths[-1], frames, pixels, taps) + _conv(taps, widths[-1] * folded // 8) * frames * pixels
    return total + _conv(taps, folded * 2 * params.z_channels) * ((frames + 1) // 2) * (pixels // 4)


def denoise_bytes(
    params: TransformerParams,
    video: VideoShape,
    dtype: torch.dtype,
    conditions: int,
    *,
    int8_products: bool = False,
    split: TokenSplit | None = None,
) -> int:
    """Activations of one denoising step: the tokens of every condition, and the most that a block adds to them.

    int8_products: the blocks multiply in int8. split: of the device that has most of the tokens.
    """
    wide, tokens, width = dtype.itemsize, video.tokens if split is None else max(split.counts), params.width
    chunk = min(tokens, TOKEN_CHUNK)
    whole = tokens * width * wide
    log_sums = tokens * params.heads * 4  # attention keeps one float32 per query and head
    lone = 0 if tokens > chunk else LONE_CHUNK_TENSORS
    per_token, feeding = width * ((CHUNK_TENSORS + lone) * wide + CHUNK_FLOAT_TENSORS * 4), 0
    if int8_products:
        per_token = max(per_token, width * (INT8_INPUT + wide + 3 * (INT8_OUTPUT + 2 * wide)))
        feeding = chunk * width * (INT8_INPUT + wide + 4 * (INT8_OUTPUT + 2 * wide))
    making_qkv = chunk * per_token + (3 * whole if tokens > chunk else 0)
    attending, embedding = 4 * whole + log_sums, 0
    if split is not None:  # all tokens of some heads beside the q, k, v that they came from, and one copy to send
        attending = 3 * whole + 5 * -(-video.tokens // len(split.counts)) * width * wide + log_sums
        embedding = conditions * video.tokens * width * wide
    rope = 2 * video.tokens * params.head_dim * 4
    context = CONTEXT_TOKENS * width * wide
    latents = video.tokens * (params.in_channels + params.out_channels) * 4
    hidden = conditions * (whole + context + latents) + rope
    return hidden + max(making_qkv, attending, feeding, embedding) + 2 * conditions * context + 4 * latents


def text_kv_bytes(params: TransformerParams, dtype: torch.dtype) -> int:
    """Keys and values of the longest text in one block."""
    return 2 * CONTEXT_TOKENS * params.width * dtype.itemsize


def text_projection_bytes(params: TransformerParams, dtype: torch.dtype, conditions: int) -> int:
    """Activations while a block's keys and values of the longest texts are computed; its weights dequantised anew."""
    context = CONTEXT_TOKENS * params.width * dtype.itemsize
    return (conditions + 6) * context + 2 * params.width**2 * dtype.itemsize


def prompt_bytes(params: StepLLMParams, dtype: torch.dtype) -> int:
    """Activations of Step-LLM over the longest prompt; its attention runs in float32 with a bias per head."""
    wide = dtype.itemsize
    biases = 6 * params.heads * PROMPT_TOKENS**2 * 4
    heads = PROMPT_TOKENS * params.width * (4 * 4 + 6 * wide)
    return biases + heads + PROMPT_TOKENS * params.ffn_width * 5 * wide


def encode_image_bytes(params: VAEParams, height: int, width: int, dtype: torch.dtype) -> int:
    """Activations of the VAE's encoder over one image. Those of the decoder: `VAE.peak_decode_bytes`."""
    return ENCODE_IMAGE_TENSORS * height * width * params.encoder_widths[0] * dtype.itemsize


def clip_parameters(params: ClipParams) -> int:
    """Parameters of a BERT without pooler; importing transformers to count them takes seconds."""
    width, inner = params.hidden_size, params.intermediate_size
    words = params.vocab_size + params.max_position_embeddings + params.type_vocab_size
    attention = 4 * (width * width + width)
    layer = attention + 2 * width * inner + inner + width + 4 * width
    return words * width + 2 * width + params.num_hidden_layers * layer


def _conv(taps: int, channel_pairs: int) -> int:
    """FLOP per output pixel: taps of the kernel, pairs of an input and an output channel."""
    return 2 * taps * channel_pairs


def _res_blocks(taps: int, into: int, out: int, count: int) -> int:
    """FLOP per pixel of `count` ResBlocks, of which the first changes the width."""
    shortcut = _conv(1, into * out) if into != out else 0
    return _conv(taps, into * out) + _conv(taps, out * out) * (2 * count - 1) + shortcut


def _mid(channels: int, frames: int, pixels: int, taps: int) -> int:
    """FLOP of models.vae_layers.Mid: two ResBlocks, four projections, attention over all tokens."""
    tokens = frames * pixels
    return (_conv(taps, 4 * channels**2) + _conv(1, 4 * channels**2)) * tokens + 4 * tokens**2 * channels
