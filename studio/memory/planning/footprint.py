"""Bytes of a model's weights, and of the activations of each phase, from its configs alone: no weights, no device."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import nn

from models import cost
from models.clip_config import ClipParams
from models.geometry import VideoShape
from models.quantized import int8_block, scratch_elements
from models.step_llm import Layer, StepLLM, StepLLMParams
from models.token_split import TokenSplit
from models.transformer import Block, Transformer, TransformerParams
from models.vae import VAE, VAEParams
from studio.memory.plan import WeightMode
from studio.memory.streaming.layout import UnitLayout


@dataclass(frozen=True)
class Architecture:
    """The four networks of a model. The defaults are those of public Step-Video T2V; TI2V sets two flags more."""

    transformer: TransformerParams = TransformerParams()
    step_llm: StepLLMParams = StepLLMParams()
    vae: VAEParams = VAEParams()
    clip: ClipParams = ClipParams()

    @classmethod
    def of_parts(cls, params: Mapping[str, Any], *, takes_image: bool) -> "Architecture":
        """From the architectures by component; one that is not installed has the public sizes.

        takes_image tells TI2V from T2V where the transformer is not there to say it.
        """
        public = TransformerParams(takes_image=takes_image, takes_motion_score=takes_image)
        return cls(**{"transformer": public, **params})


@dataclass(frozen=True)
class NetworkSizes:
    """A streamed network: number of units, bytes of one unit, of the tensors outside of units, of the int8 scratch."""

    units: int
    unit_bytes: int
    rest_bytes: int
    scratch_bytes: int
    unit_parameters: int


@dataclass(frozen=True)
class ModelSizes:
    """Sizes of a model in one compute dtype and weight mode.

    transformer_without_text: with blocks that lack the layers which project texts; text_layers: those layers.
    """

    architecture: Architecture
    dtype: torch.dtype
    weights: WeightMode
    transformer: NetworkSizes
    transformer_without_text: NetworkSizes
    text_layers: NetworkSizes
    step_llm: NetworkSizes
    clip_bytes: int
    vae_bytes: int

    @classmethod
    def of(cls, architecture: Architecture, dtype: torch.dtype, weights: WeightMode = WeightMode.NONE) -> "ModelSizes":
        """The networks are built on the meta device; CLIP is float32 always."""
        transformer, llm = architecture.transformer, architecture.step_llm
        with torch.device("meta"):
            block, without_text, layer = Block(transformer), Block(transformer), Layer(llm)
            around_blocks = Transformer(replace(transformer, layers=0))
            around_layers = StepLLM(replace(llm, layers=0))
        text_layers = without_text.attn2.split_text()
        return cls(
            architecture=architecture,
            dtype=dtype,
            weights=weights,
            transformer=network_sizes(transformer.layers, block, around_blocks, dtype, weights),
            transformer_without_text=network_sizes(transformer.layers, without_text, around_blocks, dtype, weights),
            text_layers=network_sizes(transformer.layers, text_layers, nn.Module(), dtype, weights),
            step_llm=network_sizes(llm.layers, layer, around_layers, dtype, weights.of_step_llm),
            clip_bytes=cost.clip_parameters(architecture.clip) * torch.float32.itemsize,
            vae_bytes=layout_bytes(_vae(architecture.vae), dtype),
        )

    def denoise_bytes(self, video: VideoShape, conditions: int, split: TokenSplit | None = None) -> int:
        """Activations of one denoising step. split: how several devices share the tokens."""
        int8_products = self.weights is WeightMode.INT8_COMPUTE
        params = self.architecture.transformer
        return cost.denoise_bytes(params, video, self.dtype, conditions, int8_products=int8_products, split=split)

    def kept_text_bytes(self, conditions: int) -> int:
        """Keys and values of the longest texts in all blocks."""
        params = self.architecture.transformer
        return conditions * params.layers * cost.text_kv_bytes(params, self.dtype)

    @property
    def keeping_texts_saves(self) -> bool:
        """Whether two texts' keys and values take less than the layers that compute them."""
        return self.kept_text_bytes(2) < self.text_layers.units * self.text_layers.unit_bytes

    def text_projection_bytes(self, conditions: int) -> int:
        """Activations while keys and values are computed, dequantised weights included."""
        return cost.text_projection_bytes(self.architecture.transformer, self.dtype, conditions)

    def prompt_bytes(self) -> int:
        """Activations of Step-LLM over the longest prompt."""
        return cost.prompt_bytes(self.architecture.step_llm, self.dtype)

    def decode_bytes(self, video: VideoShape, *, compact: bool) -> int:
        """Activations of the VAE's decoder."""
        return _vae(self.architecture.vae).peak_decode_bytes(video.height, video.width, self.dtype, compact=compact)

    def encode_image_bytes(self, video: VideoShape) -> int:
        """Activations of the VAE's encoder over the first image."""
        return cost.encode_image_bytes(self.architecture.vae, video.height, video.width, self.dtype)


@cache
def _vae(params: VAEParams) -> VAE:
    with torch.device("meta"):
        return VAE(params)


def network_sizes(
    units: int, unit: nn.Module, rest: nn.Module, dtype: torch.dtype, weights: WeightMode
) -> NetworkSizes:
    """Sizes of a network of equal units. unit, rest: on the meta device; rest: what lies outside of units."""
    parameters = sum(parameter.numel() for parameter in unit.parameters())
    unit = unit.to(dtype)  # before the layers become int8: their scales stay float32
    if weights.is_int8:
        unit = int8_block(unit)
    return NetworkSizes(
        units=units,
        unit_bytes=UnitLayout.of(unit.state_dict()).nbytes,
        rest_bytes=layout_bytes(rest, dtype),
        scratch_bytes=0 if weights is WeightMode.INT8_COMPUTE else sum(scratch_elements(unit)) * dtype.itemsize,
        unit_parameters=parameters,
    )


def layout_bytes(module: nn.Module, dtype: torch.dtype) -> int:
    """Bytes of a module's tensors in one flat buffer of this dtype."""
    return UnitLayout.of({name: tensor.to(dtype) for name, tensor in module.state_dict().items()}).nbytes
