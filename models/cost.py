"""Bytes of activations and FLOP of the networks, from their sizes alone: no weights, no device.

Each formula counts the tensors or products of code in models/. tests/models/test_cost.py compares them with what
PyTorch allocates and computes: a layer that changes without its formula fails there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from models.geometry import VideoShape
from models.step_llm import StepLLMParams
from models.transformer import TOKEN_CHUNK, TransformerParams
from models.vae import VAEParams

PROMPT_TOKENS = 320  # the most that Step-LLM reads (models.tokenizers.STEP_TOKENS)
CONTEXT_TOKENS = PROMPT_TOKENS + 77  # with CLIP's: the keys of cross-attention

# models.layers.SelfAttention.qkv of a chunk of n tokens: tensors (n, D) alive at once, besides the whole q, k, v that
# they are written into. In the compute dtype: the modulated input, three projections, q, k and the swapped halves that
# rotate k; in float32: the two terms of that rotation.
CHUNK_TENSORS = 7
CHUNK_FLOAT_TENSORS = 2
# bitsandbytes' int8 product, bytes besides its input. Per input element: a float16 copy and the code. Per output
# element: the int32 sum, and two tensors of the result's dtype (CUDA: float16, then the result; CPU: two in float32).
INT8_INPUT, INT8_OUTPUT = 3, 4
ENCODE_IMAGE_TENSORS = 8  # full-size tensors of the encoder's first level, convolution workspaces included

# Elements that the element-wise operators of a block read and write per token and channel: two norms and modulations 8,
# norms and rotations of q and k 34, copies into whole tensors 6, gates and residuals 15, GELU 8, queries of the
# cross-attention 4. Counted in models/layers.py, each operator on its own.
ELEMENT_PASSES = 75
# The public VAE's decoder, 17 frames of 544x992 (research: memory of the VAE, counted operation by operation).
DECODE_FLOP, DECODE_PIXELS, DECODE_WIDTH = 271.6e12, 544 * 992, 128
# Encoding of 17 frames and of one frame, as shares of decoding 17, by PyTorch's FLOP counter.
ENCODE_SHARE, ENCODE_IMAGE_SHARE = 0.3, 0.0083


@dataclass(frozen=True)
class BlockWork:
    """One transformer block, one condition: FLOP of linear layers and of attention, bytes moved element by element."""

    linear_flop: float
    attention_flop: float
    moved_bytes: float


def block_work(params: TransformerParams, tokens: int, dtype: torch.dtype) -> BlockWork:
    """Work of one transformer block over `tokens` tokens and the longest context."""
    width = params.width
    return BlockWork(
        linear_flop=2 * width**2 * (12 * tokens + 2 * (tokens + CONTEXT_TOKENS)),
        attention_flop=4 * tokens * (tokens + CONTEXT_TOKENS) * width,
        moved_bytes=ELEMENT_PASSES * tokens * width * dtype.itemsize,
    )


def dequantise_bytes(parameters: int, dtype: torch.dtype) -> int:
    """Bytes moved to dequantise the int8 weights of a unit once: codes read, weights written."""
    return parameters * (1 + dtype.itemsize)


def step_llm_layer_flop(parameters: int, tokens: int) -> int:
    """FLOP of one Step-LLM layer with so many parameters. Attention is left out: under 1 % at 320 tokens."""
    return 2 * tokens * parameters


def decode_flop(params: VAEParams, height: int, width: int) -> float:
    """FLOP of decoding 17 frames of height x width pixels, about: they grow with the square of the channels."""
    return height * width / DECODE_PIXELS * (params.decoder_widths[0] / DECODE_WIDTH) ** 2 * DECODE_FLOP


def denoise_bytes(
    params: TransformerParams, video: VideoShape, dtype: torch.dtype, conditions: int, *, int8_products: bool = False
) -> int:
    """Activations of one denoising step: the tokens of every condition, and the most that a block adds to them.

    int8_products: the blocks multiply in int8.
    """
    wide, tokens, width = dtype.itemsize, video.tokens, params.width
    chunk = min(tokens, TOKEN_CHUNK)
    whole = tokens * width * wide
    log_sums = tokens * params.heads * 4  # attention keeps one float32 per query and head
    per_token, feeding = width * (CHUNK_TENSORS * wide + CHUNK_FLOAT_TENSORS * 4), 0
    if int8_products:
        per_token = max(per_token, width * (INT8_INPUT + wide + 3 * (INT8_OUTPUT + 2 * wide)))
        feeding = chunk * width * (INT8_INPUT + wide + 4 * (INT8_OUTPUT + 2 * wide))
    making_qkv = chunk * per_token + (3 * whole if tokens > chunk else 0)
    attending = 4 * whole + log_sums
    rope = 2 * tokens * params.head_dim * 4
    context = CONTEXT_TOKENS * width * wide
    latents = tokens * (params.in_channels + params.out_channels) * 4
    hidden = conditions * (whole + rope + context + latents)
    return hidden + max(making_qkv, attending, feeding) + 2 * context + 4 * latents


def prompt_bytes(params: StepLLMParams, dtype: torch.dtype) -> int:
    """Activations of Step-LLM over the longest prompt; its attention runs in float32 with a bias per head."""
    wide = dtype.itemsize
    biases = 6 * params.heads * PROMPT_TOKENS**2 * 4
    heads = PROMPT_TOKENS * params.width * (4 * 4 + 6 * wide)
    return biases + heads + PROMPT_TOKENS * params.ffn_width * 5 * wide


def encode_image_bytes(params: VAEParams, height: int, width: int, dtype: torch.dtype) -> int:
    """Activations of the VAE's encoder over one image. Those of the decoder: `VAE.peak_decode_bytes`."""
    return ENCODE_IMAGE_TENSORS * height * width * params.encoder_widths[0] * dtype.itemsize


def clip_parameters(config: Mapping[str, Any]) -> int:
    """Parameters of a BERT without pooler, from its config.json; importing transformers to count them takes seconds."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    words = config["vocab_size"] + config["max_position_embeddings"] + config["type_vocab_size"]
    attention = 4 * (width * width + width)
    layer = attention + 2 * width * inner + inner + width + 4 * width
    return words * width + 2 * width + config["num_hidden_layers"] * layer
