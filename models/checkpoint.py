"""Checkpoint folders of the public layout -> networks: checked strictly both ways, loaded without a second copy.

A network is built on the meta device from its config, its tensors are read one by one into memory of their own, and
assigned. `build` stops before reading, for callers that place the tensors themselves (the memory runtime).
"""

import copy
import hashlib
import os
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import nn

from models.clip_config import ClipParams
from models.flow import Flow, FlowParams
from models.hift import HiFT, HiFTParams
from models.layout import LAYOUT
from models.quantized import UNITS, int8_network
from models.regular_files import open_regular, read_regular, read_up_to, reading
from models.step_audio_llm import StepAudioLLM, StepAudioLLMParams
from models.step_llm import StepLLM, StepLLMParams
from models.transformer import Transformer, TransformerParams
from models.vae import VAE, VAEParams
from models.vocoder_config import read_vocoder_config
from models.weight_files import (
    CheckpointError,
    TensorEntry,
    first_names,
    header_bytes,
    read_index,
    read_into,
    read_json,
    read_table,
)

__all__ = [
    "CheckpointError",
    "ComponentFiles",
    "TensorEntry",
    "build",
    "build_clip",
    "build_step_llm",
    "build_transformer",
    "build_vae",
    "check",
    "find_weight_files",
    "fingerprint",
    "load_clip",
    "load_flow",
    "load_hift",
    "load_step_audio_llm",
    "load_step_llm",
    "load_transformer",
    "load_vae",
    "network",
    "read_into",
]

SAMPLES = 64
SAMPLE_BYTES = 64 << 10
Network = TypeVar("Network", bound=nn.Module)


def find_weight_files(folder: Path | str, component: str) -> tuple[Path, ...]:
    """The files that hold a component's weights, in order. Raises CheckpointError where there are none."""
    layout = LAYOUT[component]
    place = Path(folder) / layout.folder
    index = place / f"{layout.weights[0]}.index.json"
    if os.path.isfile(index):
        return tuple(place / name for name in sorted(set(read_index(index).values())))
    for name in layout.weights:
        if os.path.isfile(place / name):
            return (place / name,)
    names = " or ".join((*layout.weights, index.name))
    raise CheckpointError(f"{place} has no weights: {names} is missing. Download it.")


class ComponentFiles:
    """The files of one component in a checkpoint folder; only headers are read.

    `entries`: tensor name -> TensorEntry; `config`: what its config says ({} where it may be absent and is); `files`:
    the weight files. Raises CheckpointError for files that are missing, truncated, or at odds with their index.
    """

    def __init__(self, folder: Path | str, component: str) -> None:
        self.folder, self.component = Path(folder), component
        layout = LAYOUT[component]
        place = self.folder / layout.folder
        config = place / layout.config
        read = read_json if config.suffix == ".json" else read_vocoder_config
        self.config: dict[str, Any] = read(config) if layout.config_required or os.path.lexists(config) else {}
        self.files = find_weight_files(self.folder, component)
        found: dict[str, TensorEntry] = {}
        for file in self.files:
            table = read_table(file)
            if twice := sorted(set(table) & set(found)):
                raise CheckpointError(f"{file} holds tensors that another shard has too: {first_names(twice)}.")
            found |= table
        index = place / f"{layout.weights[0]}.index.json"
        if os.path.isfile(index):
            _check_index(index, found)
        self.entries = {name: entry for name, entry in found.items() if name.startswith(layout.prefix)}

    @property
    def nbytes(self) -> int:
        """Bytes of the component's tensors as stored."""
        return sum(entry.nbytes for entry in self.entries.values())

    @property
    def parameters(self) -> int:
        """Elements in the component's tensors."""
        return sum(entry.nbytes // entry.dtype.itemsize for entry in self.entries.values())

    @property
    def is_int8(self) -> bool:
        """Whether weights of units are stored as int8."""
        return any(entry.dtype == torch.int8 for entry in self.entries.values())

    @property
    def dtypes(self) -> tuple[torch.dtype, ...]:
        """The dtypes stored, the one with most bytes first."""
        share: dict[torch.dtype, int] = {}
        for entry in self.entries.values():
            share[entry.dtype] = share.get(entry.dtype, 0) + entry.nbytes
        return tuple(sorted(share, key=lambda dtype: -share[dtype]))


def network(component: str, config: dict[str, Any]) -> nn.Module:
    """The network that a config describes, on the meta device: shapes without memory. component: of LAYOUT."""
    with torch.device("meta"):
        if component == "transformer":
            return Transformer(TransformerParams.from_config(config))
        if component == "step_llm":
            return StepLLM(StepLLMParams.from_config(config))
        if component == "vae":
            return VAE(VAEParams.from_config(config))
        if component == "step_audio_llm":
            return StepAudioLLM(StepAudioLLMParams.from_config(config))
        if component in ("flow", "flow_music"):
            return Flow(FlowParams.from_config(config))
        if component in ("hift", "hift_music"):
            return HiFT(HiFTParams.from_config(config))
        from models.clip import ClipText  # here: transformers takes seconds to import, and only this network needs it

        return ClipText(ClipParams.from_config(config))


def check(files: ComponentFiles, module: nn.Module) -> None:
    """CheckpointError unless files and module have the same keys and the same shapes.

    Files with int8 units (models.int8_files) are compared with the network that has such units; `module` is unchanged.
    """
    if files.is_int8 and files.component in UNITS:
        module = int8_network(copy.deepcopy(module), files.component)
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    place = files.folder / LAYOUT[files.component].folder
    missing = [name for name in wanted if name not in files.entries]
    unknown = [name for name in files.entries if name not in wanted]
    complaints = []
    if missing:
        complaints.append(f"lacks {len(missing)} tensors that its config asks for: {first_names(missing)}")
    if unknown:
        complaints.append(f"has {len(unknown)} tensors that its config does not know: {first_names(unknown)}")
    if complaints:
        raise CheckpointError(f"{place} {'; it '.join(complaints)}. Weights and config.json must be of one model.")
    for name, shape in wanted.items():
        if (entry := files.entries[name]).shape != shape:
            raise CheckpointError(
                f"{name} in {entry.file} has shape {entry.shape}, its config asks for {shape}. "
                "Weights and config.json must be of one model."
            )


def build(folder: Path | str, component: str) -> tuple[nn.Module, ComponentFiles]:
    """The network on the meta device, and its checked files; nothing but headers is read. Raises CheckpointError."""
    files = ComponentFiles(folder, component)
    config = files.folder / LAYOUT[component].folder / LAYOUT[component].config
    with reading(config, f"describes no {component}"):
        module = network(component, files.config)
        check(files, module)
    return module, files


def build_transformer(folder: Path | str) -> tuple[Transformer, ComponentFiles]:
    """As `build`."""
    module, files = build(folder, "transformer")
    return cast(Transformer, module), files


def build_step_llm(folder: Path | str) -> tuple[StepLLM, ComponentFiles]:
    """As `build`."""
    module, files = build(folder, "step_llm")
    return cast(StepLLM, module), files


def build_vae(folder: Path | str) -> tuple[VAE, ComponentFiles]:
    """As `build`."""
    module, files = build(folder, "vae")
    return cast(VAE, module), files


def build_clip(folder: Path | str) -> tuple[nn.Module, ComponentFiles]:
    """As `build`; a models.clip.ClipText."""
    return build(folder, "clip")


def load_transformer(
    folder: Path | str, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> Transformer:
    """The transformer of a checkpoint folder, in eval mode, without gradients. dtype None: as stored."""
    return _fill(*build_transformer(folder), dtype, device)


def load_step_llm(folder: Path | str, dtype: torch.dtype | None = None, device: torch.device | str = "cpu") -> StepLLM:
    """The language model that encodes the prompt; as load_transformer."""
    return _fill(*build_step_llm(folder), dtype, device)


def load_vae(folder: Path | str, dtype: torch.dtype | None = None, device: torch.device | str = "cpu") -> VAE:
    """The video autoencoder; as load_transformer."""
    return _fill(*build_vae(folder), dtype, device)


def load_clip(
    folder: Path | str, dtype: torch.dtype | None = torch.float32, device: torch.device | str = "cpu"
) -> nn.Module:
    """The CLIP text tower (models.clip.ClipText); float32 as in the official pipeline."""
    return _fill(*build_clip(folder), dtype, device)


def load_step_audio_llm(
    folder: Path | str, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> StepAudioLLM:
    """The language model of Step-Audio-TTS-3B; as load_transformer."""
    return cast(StepAudioLLM, _fill(*build(folder, "step_audio_llm"), dtype, device))


def load_flow(
    folder: Path | str,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    *,
    component: str = "flow",
) -> Flow:
    """Speech codes to mel; as load_transformer. component: "flow_music" for the one of rap and humming."""
    return cast(Flow, _fill(*build(folder, component), dtype, device))


def load_hift(folder: Path | str, device: torch.device | str = "cpu", *, component: str = "hift") -> HiFT:
    """Mel to waveform, in float32; as load_transformer. component: "hift_music" for the one of rap and humming."""
    return cast(HiFT, _fill(*build(folder, component), torch.float32, device))


def fingerprint(folder: Path | str, component: str, dtype: torch.dtype | str) -> str:
    """32 hex digits that identify the weights of a component as it runs in `dtype`.

    Covers the config, sizes, headers and 64 evenly spaced pieces of 64 KiB of every weight file, and the tokenizer's
    files. About 4 MB are read per file, so callers compute it anew instead of storing it. Raises CheckpointError.
    """
    folder = Path(folder)
    files = ComponentFiles(folder, component)
    layout = LAYOUT[component]
    digest = hashlib.sha256(f"{component} {dtype}".encode())
    small = [folder / name for name in layout.tokenizer]
    for path in (folder / layout.folder / layout.config, *small):
        with reading(path):
            content = read_regular(path) if os.path.isfile(path) else b""
        digest.update(f"{path.name} {len(content)}".encode() + content)
    for path in files.files:
        header, start = header_bytes(path)
        with reading(path), open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            digest.update(f"{path.name} {size}".encode() + header)
            for offset in _sample_offsets(start, size):
                file.seek(offset)
                digest.update(read_up_to(file, SAMPLE_BYTES))
    return digest.hexdigest()[:32]


def _sample_offsets(start: int, end: int) -> list[int]:
    """Offsets of the samples of the bytes start..end: evenly spaced; a small range is covered whole."""
    last = max(end - start - SAMPLE_BYTES, 0)
    if last < SAMPLES * SAMPLE_BYTES:
        return list(range(start, end, SAMPLE_BYTES))
    return [start + last * i // (SAMPLES - 1) for i in range(SAMPLES)]


def _check_index(index: Path, found: dict[str, TensorEntry]) -> None:
    names = read_index(index)
    if absent := [name for name, file in names.items() if name not in found or found[name].file.name != file]:
        raise CheckpointError(
            f"{index} names {len(absent)} tensors that are not in their files: {first_names(absent)}. "
            "Index and shards must be of one model."
        )
    if extra := [name for name in found if name not in names]:
        raise CheckpointError(f"{index} does not name {len(extra)} tensors of its shards: {first_names(extra)}.")


def _fill(module: Network, files: ComponentFiles, dtype: torch.dtype | None, device: torch.device | str) -> Network:
    tensors = {}
    for name, entry in files.entries.items():
        host = torch.empty(entry.shape, dtype=dtype or entry.dtype)
        read_into(entry, host)
        tensors[name] = host.to(device)
    module.load_state_dict(tensors, strict=True, assign=True)
    return module.eval().requires_grad_(False)
