"""A checkpoint larger than the RAM it may use: public layout, all four networks, blocks of about 144 MB in float32.

Written at the speed of the disk: tensors are pieces of one buffer of small random numbers.
"""

import json
import os
import struct
from pathlib import Path

import torch
from torch import Tensor

from models.checkpoint import LAYOUT, network
from models.weight_files import DTYPES
from studio.nano.checkpoint import NanoSizes, nano_vocabulary

BIG = NanoSizes(
    heads=12,
    layers=24,
    latent_channels=16,
    llm_width=1536,
    llm_layers=18,
    llm_heads=12,
    llm_groups=4,
    llm_ffn=6656,
    clip_width=512,
    clip_layers=4,
    clip_heads=8,
)
SHARDS = 4
NOISE = 0.02
PIECE_BYTES = 32 << 20
NAMES = {dtype: name for name, dtype in DTYPES.items()}


def write_big(folder: Path, sizes: NanoSizes = BIG, dtype: torch.dtype = torch.float32) -> int:
    """Write the checkpoint, without tokenizers; its bytes."""
    generator = torch.Generator().manual_seed(0)
    count = PIECE_BYTES // dtype.itemsize
    pattern = (torch.randn(count, generator=generator) * NOISE).to(dtype)
    configs = sizes.configs(nano_vocabulary(sizes, ["a red ball"]), use_additional_conditions=True)
    total = 0
    for component, config in configs.items():
        place = folder / LAYOUT[component].folder
        place.mkdir(parents=True, exist_ok=True)
        (place / "config.json").write_text(json.dumps(config))
        tensors = network(component, config).state_dict()
        shards = SHARDS if component in ("transformer", "step_llm") else 1
        names, groups = list(tensors), {}
        for number in range(shards):
            chosen = names[len(names) * number // shards : len(names) * (number + 1) // shards]
            stem = LAYOUT[component].weights[0].removesuffix(".safetensors")
            file = f"{stem}-{number + 1:05d}-of-{shards:05d}.safetensors" if shards > 1 else f"{stem}.safetensors"
            total += _write_file(place / file, {name: tensors[name] for name in chosen}, pattern)
            groups |= dict.fromkeys(chosen, file)
        if shards > 1:
            index = {"metadata": {}, "weight_map": groups}
            (place / f"{LAYOUT[component].weights[0]}.index.json").write_text(json.dumps(index))
    return total


def _write_file(path: Path, tensors: dict[str, Tensor], pattern: Tensor) -> int:
    header, end = {}, 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.numel() * pattern.dtype.itemsize
        header[name] = {"dtype": NAMES[pattern.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    source = memoryview(pattern.view(torch.uint8).numpy())
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for start in range(0, end, len(source)):
            file.write(source[: min(len(source), end - start)])
        file.flush()
        os.fsync(file.fileno())
    return end


def forget(folder: Path) -> None:
    """Drop a folder's files from the page cache."""
    for path in folder.rglob("*.safetensors"):
        file = os.open(path, os.O_RDONLY)
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)
