"""A checkpoint larger than the RAM it may use: public layout, all four networks, blocks of about 144 MB in float32.

It is written at the speed of the disk: tensors are pieces of one buffer of small random numbers.
"""

import json
import os
import struct
from collections.abc import Container
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.checkpoint import network
from models.layout import LAYOUT
from models.quantized import UNITS, int8_network
from models.weight_files import DTYPES
from tests.memory.random_checkpoint import Sizes, shard_names, write_index

BIG = Sizes(
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
    vae_channels=32,
    norm_groups=8,
)
SHARDS = 4
NOISE = 0.02
PIECE_BYTES = 32 << 20
NAMES = {dtype: name for name, dtype in DTYPES.items()}


def write_big(folder: Path, sizes: Sizes = BIG, dtype: torch.dtype = torch.float32) -> int:
    """Write the checkpoint, without tokenizers; returns its bytes."""
    shards = {"transformer": SHARDS, "step_llm": SHARDS}
    return sum(
        write_component(folder, component, config, dtype, shards=shards.get(component, 1))
        for component, config in sizes.configs().items()
    )


def write_component(
    folder: Path,
    component: str,
    config: dict[str, Any],
    dtype: torch.dtype,
    *,
    shards: int = 1,
    int8: bool = False,
    written: Container[int] | None = None,
) -> int:
    """Write one network's folder; returns its bytes. int8: with int8 units, which all have the same bytes.

    written: only these units are written; the others are holes in the file, which read as zeros, so that a network of
    any depth takes the disk of a shallow one.
    """
    place = folder / LAYOUT[component].folder
    place.mkdir(parents=True, exist_ok=True)
    (place / "config.json").write_text(json.dumps(config))
    module = network(component, config).to(dtype)
    tensors = (int8_network(module, component) if int8 else module).state_dict()
    name, total = LAYOUT[component].weights[0], 0
    index: dict[str, str] = {}
    if shards == 1:
        return _write_file(place / name, tensors, component, written)
    for file, keys in shard_names(name, list(tensors), shards):
        total += _write_file(place / file, {key: tensors[key] for key in keys}, component, written)
        index |= dict.fromkeys(keys, file)
    write_index(place, name, index)
    return total


def _write_file(path: Path, tensors: dict[str, Tensor], component: str, written: Container[int] | None) -> int:
    header: dict[str, dict[str, Any]] = {}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.nbytes
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    largest = max(tensor.nbytes for tensor in tensors.values())
    dtypes = {tensor.dtype for tensor in tensors.values()}
    patterns = {dtype: _pattern(dtype, min(largest, PIECE_BYTES)) for dtype in dtypes}
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, tensor in tensors.items():
            if not _is_written(name, component, written):
                file.seek(tensor.nbytes, os.SEEK_CUR)
                continue
            pattern = patterns[tensor.dtype]
            for start in range(0, tensor.nbytes, len(pattern)):
                file.write(pattern[: min(len(pattern), tensor.nbytes - start)])
        file.truncate(8 + len(text) + end)
        file.flush()
        os.fsync(file.fileno())
    return end


def _is_written(name: str, component: str, written: Container[int] | None) -> bool:
    prefix = f"{UNITS.get(component)}."
    return written is None or not name.startswith(prefix) or int(name.removeprefix(prefix).split(".")[0]) in written


def _pattern(dtype: torch.dtype, nbytes: int) -> memoryview:
    """Random numbers that keep activations finite."""
    generator = torch.Generator().manual_seed(0)
    count = -(-nbytes // dtype.itemsize)
    if dtype == torch.int8:
        numbers = torch.randint(-127, 128, (count,), generator=generator, dtype=dtype)
    else:
        numbers = (torch.randn(count, generator=generator) * NOISE).to(dtype)
    return numbers.view(torch.uint8).numpy().data


def drop_page_cache(folder: Path) -> None:
    """Drop a folder's files from the page cache."""
    for path in folder.rglob("*.safetensors"):
        file = os.open(path, os.O_RDONLY)
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)
