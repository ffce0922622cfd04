"""Checkpoint folders in the public layout with random weights, written with torch and safetensors alone.

A machine for GPU tests has nothing else. Tokenizers are not written: nothing here reads text.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.checkpoint import network
from models.layout import COMPONENTS, LAYOUT

HAS_CLIP = find_spec("transformers") is not None  # models.clip is built from it


@dataclass(frozen=True)
class Sizes:
    """Sizes of the four networks; the defaults are the smallest that all of their layers work with."""

    heads: int = 1
    layers: int = 2
    latent_channels: int = 4
    llm_width: int = 64
    llm_layers: int = 2
    llm_heads: int = 2
    llm_groups: int = 1
    llm_ffn: int = 64
    clip_width: int = 32
    clip_layers: int = 2
    vae_channels: int = 8
    norm_groups: int = 4
    takes_image: bool = True

    def configs(self) -> dict[str, dict[str, Any]]:
        """Component -> its config.json."""
        vae_part = {"ch": self.vae_channels, "ch_mult": [1, 1, 2, 2]}
        return {
            "transformer": {
                "attention_head_dim": 128,
                "caption_channels": [self.llm_width, self.clip_width],
                "in_channels": self.latent_channels,
                "norm_eps": 1e-6,
                "num_attention_heads": self.heads,
                "num_layers": self.layers,
                "out_channels": self.latent_channels,
                "use_additional_conditions": self.takes_image,
            },
            "step_llm": {
                "hidden_size": self.llm_width,
                "num_layers": self.llm_layers,
                "num_attention_heads": self.llm_heads,
                "num_attention_groups": self.llm_groups,
                "ffn_hidden_size": self.llm_ffn,
                "padded_vocab_size": 16,
                "layernorm_epsilon": 1e-5,
            },
            "clip": {
                "hidden_size": self.clip_width,
                "num_hidden_layers": self.clip_layers,
                "num_attention_heads": 2,
                "intermediate_size": 2 * self.clip_width,
                "max_position_embeddings": 77,
                "type_vocab_size": 2,
                "vocab_size": 16,
                "layer_norm_eps": 1e-12,
            },
            "vae": {
                "encoder": vae_part,
                "decoder": vae_part,
                "z_channels": self.latent_channels,
                "num_res_blocks": 1,
                "norm_groups": self.norm_groups,
            },
        }


def write_checkpoint(folder: Path, sizes: Sizes, dtype: torch.dtype = torch.float32, shards: int = 1) -> Path:
    """Write the folder, the VAE in one file and the others in `shards`; without CLIP where it cannot be built here."""
    for number, component in enumerate(COMPONENTS):
        if component == "clip" and not HAS_CLIP:
            continue
        config = sizes.configs()[component]
        module = network(component, config).to_empty(device="cpu")
        _draw(module, torch.Generator().manual_seed(number))
        write_network(folder, component, config, module.to(dtype), 1 if component == "vae" else shards)
    return folder


def write_network(folder: Path, component: str, config: dict[str, Any], module: nn.Module, shards: int) -> None:
    """Write one network's config.json and weights."""
    place = folder / LAYOUT[component].folder
    place.mkdir(parents=True, exist_ok=True)
    (place / "config.json").write_text(json.dumps(config))
    tensors, name = module.state_dict(), LAYOUT[component].weights[0]
    if shards == 1:
        save_file(tensors, place / name)
        return
    index: dict[str, str] = {}
    for file, names in shard_names(name, list(tensors), shards):
        save_file({key: tensors[key] for key in names}, place / file)
        index |= dict.fromkeys(names, file)
    write_index(place, name, index)


def shard_names(name: str, keys: list[str], shards: int) -> Iterable[tuple[str, list[str]]]:
    """(file name, its keys) of each shard: about equally many keys, in order."""
    stem = name.removesuffix(".safetensors")
    for number in range(shards):
        chosen = keys[len(keys) * number // shards : len(keys) * (number + 1) // shards]
        yield f"{stem}-{number + 1:05d}-of-{shards:05d}.safetensors", chosen


def write_index(place: Path, name: str, index: dict[str, str]) -> None:
    """The index of a sharded file `name`; index: key -> shard."""
    (place / f"{name}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))


def _draw(module: nn.Module, generator: torch.Generator) -> None:
    """Random matrices that keep activations about as large as they are; norms scale by 1, biases are 0."""
    with torch.no_grad():
        for name, tensor in module.named_parameters():
            if tensor.ndim == 1:
                tensor.fill_(float(name.endswith("weight")))
            else:
                tensor.copy_(_noise(tensor, generator))


def _noise(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator) / like[0].numel() ** 0.5
