"""Ways to harm a sound model folder: each is given a copy of it."""

import json
import os
import shutil
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from studio.nano.checkpoint import NanoSizes, write_checkpoint

DIT = "transformer/diffusion_pytorch_model.safetensors"
LLM = "step_llm/model.safetensors"
TOWER = "hunyuan_clip/clip_text_encoder"
CLIP = f"{TOWER}/model.safetensors"
CLIP_BIN = f"{TOWER}/pytorch_model.bin"
VAE = "vae/vae_v2.safetensors"
SPM = "step_llm/step1_chat_tokenizer.model"
OPTIONS = "hunyuan_clip/tokenizer/tokenizer_config.json"
VOCAB = "hunyuan_clip/tokenizer/vocab.txt"
CONFIGS = {
    "transformer": "transformer/config.json",
    "step_llm": "step_llm/config.json",
    "clip": f"{TOWER}/config.json",
    "vae": "vae/config.json",
}
WEIGHTS = {"transformer": DIT, "step_llm": LLM, "clip": CLIP, "vae": VAE}
WIDER = NanoSizes(
    heads=1, layers=1, latent_channels=8, llm_width=32, llm_layers=1, llm_heads=1, llm_groups=1, llm_ffn=64,
    clip_width=16, clip_layers=1, clip_heads=1, vae_channels=16, norm_groups=4,
)  # fmt: skip
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9967000000\n"
Harm = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """harm: done to a copy of the sound folder; says: a regular expression that the sentence matches."""

    name: str
    component: str
    harm: Harm
    says: str


def change(component: str, **values: Any) -> Harm:
    """Values of the component's config.json; ... removes one."""

    def harm(folder: Path) -> None:
        path = folder / CONFIGS[component]
        config = json.loads(path.read_text()) | values
        path.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))

    return harm


def write(name: str, data: bytes | str) -> Harm:
    """Other content of a file."""
    return lambda folder: (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)


def cut(name: str, count: int = 9) -> Harm:
    """The last bytes of a file are missing."""
    return lambda folder: os.truncate(folder / name, (folder / name).stat().st_size - count)


def words(name: str, edit: Callable[[str], str]) -> Harm:
    """Another text in a file."""
    return lambda folder: (folder / name).write_text(edit((folder / name).read_text()))


def link(target: str) -> Callable[[Path], object]:
    """A link that leads there."""
    return lambda path: path.symlink_to(target)


def replaced(name: str, make: Callable[[Path], object]) -> Harm:
    """Something else in the place of a whole folder."""

    def harm(folder: Path) -> None:
        shutil.rmtree(folder / name)
        make(folder / name)

    return harm


def other_part(component: str) -> Harm:
    """The part of another model: sound, and too large."""

    def harm(folder: Path) -> None:
        other = folder.with_name("wider")
        write_checkpoint(other, WIDER)
        shutil.rmtree(folder / component)
        shutil.copytree(other / component, folder / component)
        shutil.rmtree(other)

    return harm


def instead(name: str, make: Callable[[Path], object]) -> Harm:
    """Something else in the place of a file."""

    def harm(folder: Path) -> None:
        path = folder / name
        path.unlink()
        make(path)

    return harm


def header(name: str, edit: Callable[[dict[str, Any]], object]) -> Harm:
    """Another header over the same data."""

    def harm(folder: Path) -> None:
        data = (folder / name).read_bytes()
        length = struct.unpack("<Q", data[:8])[0]
        table = json.loads(data[8 : 8 + length])
        edit(table)
        text = json.dumps(table).encode()
        (folder / name).write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])

    return harm


def field(name: str, **values: Any) -> Harm:
    """Other values in the header's first entry; none: an empty entry."""
    return header(name, lambda table: first(table).update(values) if values else first(table).clear())


def entry(name: str, key: str, **values: Any) -> Harm:
    """One more entry in the header, of no bytes where no values say otherwise."""
    nothing = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    return header(name, lambda table: table.update({key: nothing | values}))


def tensors(name: str, edit: Callable[[dict[str, torch.Tensor]], object]) -> Harm:
    """Other tensors in a file that is sound in itself."""

    def harm(folder: Path) -> None:
        found = load_file(folder / name)
        edit(found)
        save_file(found, folder / name)

    return harm


def as_bin(edit: Callable[[Path], object]) -> Harm:
    """CLIP's weights as the pickle that the public folder has, then changed."""

    def harm(folder: Path) -> None:
        torch.save(load_file(folder / CLIP), folder / CLIP_BIN)
        (folder / CLIP).unlink()
        edit(folder / CLIP_BIN)

    return harm


def pickled(make: Callable[[bytes], bytes]) -> Harm:
    """CLIP's .bin with another data.pkl, every other entry as it was."""

    def edit(path: Path) -> None:
        with zipfile.ZipFile(path) as old:
            entries = {entry.filename: old.read(entry) for entry in old.infolist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as new:
            for name, data in entries.items():
                new.writestr(name, make(data) if name.endswith("data.pkl") else data)

    return as_bin(edit)


def first(table: dict[str, Any]) -> dict[str, Any]:
    return next(fields for name, fields in table.items() if name != "__metadata__")


def compressed(path: Path) -> None:
    with zipfile.ZipFile(path) as old:
        entries = {entry.filename: old.read(entry) for entry in old.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in entries.items():
            new.writestr(name, data)


class Call:
    """Unpickled by another reader than ours, this would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch /tmp/ran-from-a-pickle",))


def bytearray_of_10_gb() -> bytes:
    """A pickle that asks for them."""
    return b"\x80\x04cbuiltins\nbytearray\n\x8a\x05" + (10**10).to_bytes(5, "little") + b"\x85R."


def in_zip(size: int) -> Callable[[Path], object]:
    """A zip whose directory would have so many entries."""

    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", b"")
            for number in range(size):
                archive.writestr(f"archive/data/{number:0200d}", b"")

    return make


def sparse(size: int) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        with open(path, "wb") as file:
            file.truncate(size)

    return make
