"""CLIP, pictures and texts in one space, from a folder in transformers' layout that the user has; for scores of clips.

The networks are transformers' CLIPModel (Radford et al., ICML 2021), built from checked sizes alone; files and network
must have the same keys and shapes.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch.nn.functional import interpolate, normalize
from transformers import CLIPConfig, CLIPModel

from models.config_values import divides, epsilon, fixed, layer_count, whole
from models.regular_files import CheckpointError, open_regular, read_json, read_regular, read_up_to, reading
from models.weight_files import TensorEntry, first_names, read_into, read_table

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
# Buffers that older files hold too; they count the positions, which the network knows.
COUNTERS = ("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")
SAMPLES, SAMPLE_BYTES = 64, 64 << 10  # of the weights, that tell two files apart
ACTIVATIONS = ("quick_gelu", "gelu")
# transformers leaves out of a config what is as in its own defaults.
TEXT = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8,
        "vocab_size": 49408, "max_position_embeddings": 77, "eos_token_id": 49407}  # fmt: skip
VISION = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
          "image_size": 224, "patch_size": 32}  # fmt: skip


@dataclass(frozen=True)
class TowerParams:
    """One of the two transformers, by the names of CLIPConfig."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    hidden_act: str
    layer_norm_eps: float

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "TowerParams":
        """From text_config or vision_config. ValueError for what is not computed here."""
        act = config.get("hidden_act", "quick_gelu")
        if act not in ACTIVATIONS:
            raise ValueError(f"hidden_act is none of {', '.join(ACTIVATIONS)}")
        width, heads = whole(config, "hidden_size"), whole(config, "num_attention_heads")
        divides(heads, width, f"hidden_size {width} by {heads} heads")
        return cls(
            hidden_size=width,
            intermediate_size=whole(config, "intermediate_size"),
            num_hidden_layers=layer_count(config, "num_hidden_layers"),
            num_attention_heads=heads,
            hidden_act=act,
            layer_norm_eps=epsilon({"layer_norm_eps": 1e-5, **config}, "layer_norm_eps"),
        )


class ClipPair:
    """A CLIP in float32 on the CPU. name: 16 hex digits that identify its files. Raises CheckpointError with the reason
    where the folder is no CLIP in transformers' layout, or another kind of it.

    The folder holds config.json, model.safetensors or pytorch_model.bin, tokenizer.json and preprocessor_config.json.
    """

    def __init__(self, folder: Path) -> None:
        config = read_json(folder / "config.json")
        with reading(folder / "config.json", "describes no CLIP that is read here"):
            fixed({"model_type": "none", **config}, {"model_type": "clip"})
            text, vision = TEXT | config.get("text_config", {}), VISION | config.get("vision_config", {})
            self._model = _network(text, vision, whole({"projection_dim": 512, **config}, "projection_dim"))
        self._picture, self._words = int(vision["image_size"]), int(text["max_position_embeddings"])
        path = folder / "preprocessor_config.json"
        told = read_json(path)
        with reading(path, "does not say how pictures are scaled"):
            self._mean, self._deviation = (_colours(told[key]) for key in ("image_mean", "image_std"))
        path = folder / "tokenizer.json"
        with reading(path, "is no tokenizer"):
            self._tokenizer = Tokenizer.from_str(read_regular(path).decode("utf-8"))
            self._tokenizer.no_padding()
            self._tokenizer.no_truncation()
            if self._tokenizer.get_vocab_size() > text["vocab_size"]:
                raise ValueError("it has more words than the network")
        weights = next((folder / name for name in WEIGHTS if os.path.lexists(folder / name)), None)
        if weights is None:
            raise CheckpointError(f"{folder} has no weights: {' or '.join(WEIGHTS)} is missing.")
        _fill(self._model, weights)
        self.name = _digest(weights, [folder / "config.json", folder / "tokenizer.json"])

    @torch.no_grad()
    def pictures(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """uint8 frames (H, W, 3) -> float32 (n, d) of length 1: short side to the network's size, the middle of it."""
        found = [self._model.get_image_features(self._pixels(frame)).pooler_output[0] for frame in frames]
        return _of_length_one(torch.stack(found))

    @torch.no_grad()
    def text(self, words: str) -> np.ndarray:
        """float32 (d,) of length 1; what is longer than the network reads is left out at its end."""
        ids = self._tokenizer.encode(words.encode("utf-8", "replace").decode("utf-8")).ids
        kept = ids if len(ids) <= self._words else [*ids[: self._words - 1], ids[-1]]
        return _of_length_one(self._model.get_text_features(torch.tensor([kept])).pooler_output)[0]

    def _pixels(self, frame: np.ndarray) -> torch.Tensor:
        """(1, 3, side, side) as the network takes it."""
        height, width = frame.shape[:2]
        side = self._picture
        scale = side / min(height, width)
        size = [max(round(length * scale), side) for length in (height, width)]
        # In bytes, as Pillow scales them: each direction's result is rounded.
        scaled = interpolate(torch.tensor(frame).permute(2, 0, 1)[None], size, mode="bicubic", antialias=True) / 255
        top, left = (size[0] - side) // 2, (size[1] - side) // 2
        middle = scaled[..., top : top + side, left : left + side]
        return (middle - self._mean) / self._deviation


def _network(text: Mapping[str, Any], vision: Mapping[str, Any], width: int) -> CLIPModel:
    """The network without weights. width: of the space that both share. ValueError for sizes that are none."""
    fixed(vision, {"num_channels": 3})
    side, patch = whole(vision, "image_size"), whole(vision, "patch_size")
    divides(patch, side, f"image_size {side} by {patch} patches")
    words = {key: whole(text, key) for key in ("vocab_size", "max_position_embeddings", "eos_token_id")}
    others = dict.fromkeys(("bos_token_id", "pad_token_id"), words["eos_token_id"])  # the network does not use them
    made = CLIPConfig(
        text_config={**asdict(TowerParams.from_config(text)), **words, **others},
        vision_config={**asdict(TowerParams.from_config(vision)), "image_size": side, "patch_size": patch},
        projection_dim=width,
    )
    with torch.device("meta"):
        return CLIPModel(made)


def _fill(model: CLIPModel, weights: Path) -> None:
    """Read every tensor. Raises CheckpointError unless file and network have the same keys and shapes."""
    table = {name: entry for name, entry in read_table(weights).items() if name not in COUNTERS}
    wanted = model.state_dict()
    if different := sorted(set(table) ^ set(wanted)):
        raise CheckpointError(
            f"{weights} and config.json beside it are not of one CLIP: they differ in {len(different)} tensors, "
            f"{first_names(different)}."
        )
    for name, tensor in wanted.items():
        if table[name].shape != tuple(tensor.shape):
            raise CheckpointError(f"{name} in {weights} has shape {table[name].shape}, config.json asks for others.")
    model.to_empty(device="cpu").float().eval()
    for name, tensor in model.state_dict().items():
        _read(table[name], tensor)
    for module in (model.text_model.embeddings, model.vision_model.embeddings):
        count = module.position_embedding.num_embeddings
        module.register_buffer("position_ids", torch.arange(count)[None], persistent=False)


def _read(entry: TensorEntry, tensor: torch.Tensor) -> None:
    with reading(entry.file):
        read_into(entry, tensor)


def _digest(weights: Path, small: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in small:
        with reading(path):
            digest.update(read_regular(path))
    with reading(weights), open_regular(weights) as file:
        size = os.fstat(file.fileno()).st_size
        digest.update(str(size).encode())
        for number in range(SAMPLES):
            file.seek(max(size - SAMPLE_BYTES, 0) * number // (SAMPLES - 1))
            digest.update(read_up_to(file, SAMPLE_BYTES))
    return digest.hexdigest()[:16]


def _colours(told: Any) -> torch.Tensor:
    """Three numbers as (3, 1, 1)."""
    found = torch.tensor(told, dtype=torch.float32)
    if found.shape != (3,) or not found.isfinite().all():
        raise ValueError("it has no three numbers")
    return found[:, None, None]


def _of_length_one(features: torch.Tensor) -> np.ndarray:
    return normalize(features, dim=-1).numpy()
