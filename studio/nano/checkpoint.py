"""Nano checkpoints: public-layout folders at small sizes, with random weights to start from or weights given.

`write_checkpoint` writes a folder of random weights at any sizes; training uses `build` and `save_checkpoint`. Random
weights are drawn so that every activation keeps about unit size and the decoded picture stays within its range:
untrained, yet finite and cheap to look at.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.checkpoint import network
from models.layout import COMPONENTS, LAYOUT
from studio.nano.captions import corpus as captions
from studio.nano.vocabulary import Vocabulary, make_vocabulary
from studio.nano.world import WorldSettings

CORPUS_SCENES = 1500  # of the synthetic world; every word of the grammar occurs many times
RESIDUAL_OUTPUTS = ("wo.weight", "w2.weight", "ff.net.2.weight", "output.dense.weight")


@dataclass(frozen=True)
class NanoSizes:
    """Every size of a small checkpoint; widths are heads times head_dim."""

    heads: int = 2
    head_dim: int = 128
    layers: int = 8
    latent_channels: int = 16
    llm_width: int = 256
    llm_layers: int = 3
    llm_heads: int = 4
    llm_groups: int = 2
    llm_ffn: int = 512
    llm_vocabulary: int = 1024  # at most; the corpus decides
    clip_width: int = 256
    clip_layers: int = 3
    clip_heads: int = 4
    clip_vocabulary: int = 1024  # at most
    vae_channels: int = 32
    vae_mult: tuple[int, int, int, int] = (1, 1, 2, 2)
    vae_res_blocks: int = 1
    norm_groups: int = 8  # below 4 channels a group, group norm cannot carry a frame's mean colour
    narrow_decoder: bool = False

    def vae_config(self) -> dict[str, Any]:
        """The VAE's config.json. A narrow decoder is half as wide at full size, where most of its time goes."""
        first, *others = self.vae_mult
        encoder = {"ch": self.vae_channels, "ch_mult": list(self.vae_mult)}
        narrow = {"ch": self.vae_channels // 2, "ch_mult": [first, *(2 * factor for factor in others)]}
        return {
            "encoder": encoder,
            "decoder": narrow if self.narrow_decoder else encoder,
            "z_channels": self.latent_channels,
            "num_res_blocks": self.vae_res_blocks,
            "norm_groups": self.norm_groups,
            "version": 2,
        }

    def configs(self, vocabulary: Vocabulary, *, use_additional_conditions: bool) -> dict[str, dict[str, Any]]:
        """Component -> its config.json, of the public form."""
        return {
            "transformer": {
                "_class_name": "StepVideoModel",
                "attention_head_dim": self.head_dim,
                "attention_type": "parallel",
                "caption_channels": [self.llm_width, self.clip_width],
                "dropout": 0.0,
                "in_channels": self.latent_channels,
                "norm_elementwise_affine": False,
                "norm_eps": 1e-6,
                "norm_type": "ada_norm_single",
                "num_attention_heads": self.heads,
                "num_layers": self.layers,
                "out_channels": self.latent_channels,
                "patch_size": 1,
                "use_additional_conditions": use_additional_conditions,
            },
            "step_llm": {
                "architectures": ["Step1Model"],
                "hidden_size": self.llm_width,
                "num_layers": self.llm_layers,
                "num_attention_heads": self.llm_heads,
                "num_attention_groups": self.llm_groups,
                "ffn_hidden_size": self.llm_ffn,
                "padded_vocab_size": vocabulary.step_size,
                "layernorm_epsilon": 1e-5,
            },
            "clip": {
                "architectures": ["BertModel"],
                "model_type": "bert",
                "hidden_size": self.clip_width,
                "num_hidden_layers": self.clip_layers,
                "num_attention_heads": self.clip_heads,
                "intermediate_size": 2 * self.clip_width,
                "hidden_act": "gelu",
                "layer_norm_eps": 1e-12,
                "max_position_embeddings": 77,
                "type_vocab_size": 2,
                "vocab_size": vocabulary.clip_size,
                "pad_token_id": 0,
            },
            "vae": self.vae_config(),
        }


# What two shared CPU cores can train in hours; a GPU can take NanoSizes' own. See assets/nano/README.md.
SIZES = NanoSizes(
    layers=4,
    llm_width=128,
    llm_layers=2,
    llm_ffn=256,
    clip_width=128,
    clip_layers=2,
    norm_groups=4,
    narrow_decoder=True,
)


def nano_vocabulary(sizes: NanoSizes, corpus: Iterable[str] | None = None) -> Vocabulary:
    """The tokenizers of a nano checkpoint, for `corpus` (None: captions of the synthetic world)."""
    if corpus is None:
        return _world_vocabulary(sizes.llm_vocabulary, sizes.clip_vocabulary)
    return make_vocabulary(corpus, sizes.llm_vocabulary, sizes.clip_vocabulary)


@cache
def _world_vocabulary(step_limit: int, clip_limit: int) -> Vocabulary:
    return make_vocabulary(captions(WorldSettings(), CORPUS_SCENES), step_limit, clip_limit)


def build(configs: Mapping[str, Mapping[str, Any]], seed: int) -> dict[str, nn.Module]:
    """Component -> network with random float32 weights on the CPU, ready to train. The seed decides every weight.

    A component's weights depend on its own config and the seed alone, not on which others are built with it.
    """
    modules = {}
    for number, component in enumerate(COMPONENTS):
        if component in configs:
            module = network(component, dict(configs[component])).to_empty(device="cpu")
            _draw(module, torch.Generator().manual_seed(seed * len(COMPONENTS) + number))
            modules[component] = module
    return modules


def save_checkpoint(
    folder: Path,
    modules: Mapping[str, nn.Module],
    configs: Mapping[str, Mapping[str, Any]],
    vocabulary: Vocabulary,
    *,
    dtype: torch.dtype = torch.float32,
    shards: int = 1,
    file_bytes: int | None = None,
) -> Path:
    """Write networks as a checkpoint folder of the public layout, weights as `dtype`, over what is there.

    The VAE is one file, as in public; the others are split into `shards` files with an index where shards > 1. With
    `file_bytes` every component is split into as many files as keep below it (a tensor is never split).
    Tokenizers are written with the encoders they belong to.
    """
    for component, module in modules.items():
        place = folder / LAYOUT[component].folder
        place.mkdir(parents=True, exist_ok=True)
        (place / "config.json").write_text(json.dumps(configs[component], indent=1) + "\n")
        tensors = {name: value.detach().to("cpu", dtype).contiguous() for name, value in module.state_dict().items()}
        groups = _filled(tensors, file_bytes) if file_bytes else _even(tensors, 1 if component == "vae" else shards)
        _save_tensors(place / LAYOUT[component].weights[0], groups)
    if "step_llm" in modules or "clip" in modules:
        vocabulary.save(folder)
    return folder


def write_checkpoint(
    folder: Path,
    sizes: NanoSizes | None = None,
    seed: int = 0,
    *,
    use_additional_conditions: bool = False,
    dtype: torch.dtype = torch.float32,
    shards: int = 1,
    components: Iterable[str] = COMPONENTS,
) -> Path:
    """Write a checkpoint folder of random weights; use_additional_conditions makes a TI2V transformer."""
    sizes = sizes or NanoSizes()
    vocabulary = nano_vocabulary(sizes)
    configs = sizes.configs(vocabulary, use_additional_conditions=use_additional_conditions)
    wanted = {component: configs[component] for component in components}
    return save_checkpoint(folder, build(wanted, seed), configs, vocabulary, dtype=dtype, shards=shards)


def _draw(module: nn.Module, generator: torch.Generator) -> None:
    depth = sum(name.endswith(RESIDUAL_OUTPUTS) for name, _ in module.named_parameters())
    with torch.no_grad():
        for name, tensor in module.named_parameters():
            tensor.copy_(_draw_one(name, tensor, max(depth, 1), generator))


def _draw_one(name: str, like: Tensor, depth: int, generator: torch.Generator) -> Tensor:
    """Weights keep the size of what they multiply; what a residual branch adds shrinks with their number."""
    if like.ndim == 1:
        is_scale = name.endswith("weight")  # of a norm; every other vector is a bias
        return torch.ones_like(like) if is_scale else torch.zeros_like(like)
    noise = torch.randn(like.shape, generator=generator)
    if "embeddings" in name:
        return noise * 0.5
    if name.endswith("scale_shift_table"):
        return noise / like.shape[-1] ** 0.5
    fan_in = math.prod(like.shape[1:])
    if name.endswith(RESIDUAL_OUTPUTS):
        return noise / (fan_in * depth) ** 0.5
    if name.startswith(("adaln_single.linear", "proj_out")) or name == "decoder.conv_out.weight":
        return noise * 0.3 / fan_in**0.5
    return noise / fan_in**0.5


def _even(tensors: dict[str, Tensor], count: int) -> list[dict[str, Tensor]]:
    """`count` groups of about equal bytes, in order."""
    total = sum(tensor.nbytes for tensor in tensors.values())
    groups: list[dict[str, Tensor]] = [{} for _ in range(count)]
    done = 0
    for name, tensor in tensors.items():
        groups[min(done * count // total, count - 1)][name] = tensor
        done += tensor.nbytes
    return groups


def _filled(tensors: dict[str, Tensor], file_bytes: int) -> list[dict[str, Tensor]]:
    """As few groups as keep to `file_bytes` in order, a larger tensor alone in its own."""
    groups: list[dict[str, Tensor]] = [{}]
    done = 0
    for name, tensor in tensors.items():
        if groups[-1] and done + tensor.nbytes > file_bytes:
            groups.append({})
            done = 0
        groups[-1][name] = tensor
        done += tensor.nbytes
    return groups


def _save_tensors(path: Path, groups: list[dict[str, Tensor]]) -> None:
    for old in (*path.parent.glob("*.safetensors"), *path.parent.glob("*.index.json")):
        old.unlink()
    if len(groups) == 1:
        save_file(groups[0], path, metadata={"format": "pt"})
        return
    names: dict[str, str] = {}
    for number, group in enumerate(groups, 1):
        file = f"{path.stem}-{number:05d}-of-{len(groups):05d}.safetensors"
        save_file(group, path.parent / file, metadata={"format": "pt"})
        names |= dict.fromkeys(group, file)
    total = sum(tensor.nbytes for group in groups for tensor in group.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(names.items()))}
    (path.parent / f"{path.name}.index.json").write_text(json.dumps(index, indent=1) + "\n")
