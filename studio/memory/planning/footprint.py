"""How many bytes each phase of a generation needs, from architectures alone: no weights, no device.

The formulas follow the code they speak of: tests hold them against the tensors that code really makes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import nn

from models.geometry import VideoShape
from models.quantized import int8_block, scratch_elements
from models.step_llm import Layer, StepLLM, StepLLMParams
from models.transformer import TOKEN_CHUNK, Block, Transformer, TransformerParams
from models.vae import VAE, VAEParams
from studio.memory.plan import WeightMode
from studio.memory.streaming.layout import UnitLayout

PROMPT_TOKENS = 320  # the most Step-LLM reads
CONTEXT_TOKENS = PROMPT_TOKENS + 77
# What the public clip_text_encoder/config.json says of sizes; for plans made before anything is downloaded.
PUBLIC_CLIP = {
    "vocab_size": 47020,
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "intermediate_size": 4096,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
}
# Tensors of chunk x D elements alive at once while q, k and v of a chunk are made (models.layers), beside the whole
# ones they go into: the modulated input, three projections, q, k and the swapped halves that turn k; in float32 the two
# terms of that turn.
CHUNK_TENSORS = 7
CHUNK_FLOAT_TENSORS = 2
# bitsandbytes' product in int8, bytes beside the input: of each input element its float16 copy and its code; of each
# output element the int32 sum, beside two of the result's type (CUDA: float16, then the result; CPU: two in float32).
INT8_INPUT, INT8_OUTPUT = 3, 4
ENCODE_IMAGE_TENSORS = 8  # full-size tensors of the encoder's first level, with what convolutions need beside them


@dataclass(frozen=True)
class Architecture:
    """The four networks of a model. The defaults are those of public Step-Video T2V; TI2V sets two flags more."""

    transformer: TransformerParams = TransformerParams()
    step_llm: StepLLMParams = StepLLMParams()
    vae: VAEParams = VAEParams()
    clip: Mapping[str, Any] | None = None  # sizes as in its config.json; None: PUBLIC_CLIP

    @classmethod
    def from_configs(cls, configs: Mapping[str, Mapping[str, Any] | None], *, takes_image: bool) -> "Architecture":
        """From config.json contents by component; None where a component is not installed: the public sizes.

        takes_image tells TI2V from T2V where the transformer's config is not there to say it.
        """
        transformer, llm, vae = (configs.get(name) for name in ("transformer", "step_llm", "vae"))
        public = TransformerParams(takes_image=takes_image, takes_motion_score=takes_image)
        return cls(
            transformer=public if transformer is None else TransformerParams.from_config(transformer),
            step_llm=StepLLMParams() if llm is None else StepLLMParams.from_config(llm),
            vae=VAEParams() if vae is None else VAEParams.from_config(vae),
            clip=configs.get("clip"),
        )


@dataclass(frozen=True)
class NetworkSizes:
    """A streamed network: its units, one unit's flat buffer, what lies outside of units, int8 scratch."""

    units: int
    unit_bytes: int
    rest_bytes: int
    scratch_bytes: int
    unit_parameters: int


@dataclass(frozen=True)
class ModelSizes:
    """Everything the planner needs to know of a model in one compute dtype, with or without int8 units."""

    architecture: Architecture
    dtype: torch.dtype
    weights: WeightMode
    transformer: NetworkSizes
    step_llm: NetworkSizes
    clip_bytes: int
    vae_bytes: int

    @classmethod
    def of(cls, architecture: Architecture, dtype: torch.dtype, weights: WeightMode = WeightMode.NONE) -> "ModelSizes":
        """The networks are built on the meta device; CLIP is float32 always."""
        transformer, llm = architecture.transformer, architecture.step_llm
        with torch.device("meta"):
            block, layer = Block(transformer), Layer(llm)
            around_blocks = Transformer(replace(transformer, layers=0))
            around_layers = StepLLM(replace(llm, layers=0))
        return cls(
            architecture=architecture,
            dtype=dtype,
            weights=weights,
            transformer=_network(transformer.layers, block, around_blocks, dtype, weights),
            step_llm=_network(llm.layers, layer, around_layers, dtype, weights.of_step_llm),
            clip_bytes=clip_parameters(architecture.clip or PUBLIC_CLIP) * torch.float32.itemsize,
            vae_bytes=_layout_bytes(_vae(architecture.vae), dtype),
        )


def clip_parameters(config: Mapping[str, Any]) -> int:
    """Numbers in a BERT without pooler, from its config.json; transformers takes seconds to import for the same."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    words = config["vocab_size"] + config["max_position_embeddings"] + config["type_vocab_size"]
    attention = 4 * (width * width + width)
    layer = attention + 2 * width * inner + inner + width + 4 * width
    return words * width + 2 * width + config["num_hidden_layers"] * layer


def denoise_bytes(sizes: ModelSizes, video: VideoShape, conditions: int) -> int:
    """Activations of one step: every condition's tokens, and the most a block holds beside them at once."""
    params, wide = sizes.architecture.transformer, sizes.dtype.itemsize
    tokens, width = video.tokens, params.width
    chunk = min(tokens, TOKEN_CHUNK)
    whole = tokens * width * wide
    log_sums = tokens * params.heads * 4  # attention keeps one float32 per query and head
    per_token, feeding = width * (CHUNK_TENSORS * wide + CHUNK_FLOAT_TENSORS * 4), 0
    if sizes.weights is WeightMode.INT8_COMPUTE:
        per_token = max(per_token, width * (INT8_INPUT + wide + 3 * (INT8_OUTPUT + 2 * wide)))
        feeding = chunk * width * (INT8_INPUT + wide + 4 * (INT8_OUTPUT + 2 * wide))
    making_qkv = chunk * per_token + (3 * whole if tokens > chunk else 0)
    attending = 4 * whole + log_sums
    rope = 2 * tokens * params.head_dim * 4
    context = CONTEXT_TOKENS * width * wide
    latents = tokens * (params.in_channels + params.out_channels) * 4
    hidden = conditions * (whole + rope + context + latents)
    return hidden + max(making_qkv, attending, feeding) + 2 * context + 4 * latents


def prompt_bytes(sizes: ModelSizes) -> int:
    """Activations of Step-LLM over the longest prompt; its attention runs in float32 with a bias per head."""
    params, wide = sizes.architecture.step_llm, sizes.dtype.itemsize
    biases = 6 * params.heads * PROMPT_TOKENS**2 * 4
    heads = PROMPT_TOKENS * params.width * (4 * 4 + 6 * wide)
    return biases + heads + PROMPT_TOKENS * params.ffn_width * 5 * wide


def decode_bytes(sizes: ModelSizes, video: VideoShape, slice_frames: int) -> int:
    """Activations of the VAE's decoder."""
    return _vae(sizes.architecture.vae).peak_decode_bytes(video.height, video.width, sizes.dtype, slice_frames)


def encode_bytes(sizes: ModelSizes, video: VideoShape) -> int:
    """Activations of the VAE's encoder over the first image."""
    width = sizes.architecture.vae.encoder_widths[0]
    return ENCODE_IMAGE_TENSORS * video.height * video.width * width * sizes.dtype.itemsize


@cache
def _vae(params: VAEParams) -> VAE:
    with torch.device("meta"):
        return VAE(params)


def _network(units: int, unit: nn.Module, rest: nn.Module, dtype: torch.dtype, weights: WeightMode) -> NetworkSizes:
    parameters = sum(parameter.numel() for parameter in unit.parameters())
    unit = unit.to(dtype)  # before the layers become int8: their scales stay float32
    if weights.is_int8:
        unit = int8_block(unit)
    return NetworkSizes(
        units=units,
        unit_bytes=UnitLayout.of(unit.state_dict()).nbytes,
        rest_bytes=_layout_bytes(rest, dtype),
        scratch_bytes=0 if weights is WeightMode.INT8_COMPUTE else sum(scratch_elements(unit)) * dtype.itemsize,
        unit_parameters=parameters,
    )


def _layout_bytes(module: nn.Module, dtype: torch.dtype) -> int:
    return UnitLayout.of({name: tensor.to(dtype) for name, tensor in module.state_dict().items()}).nbytes
