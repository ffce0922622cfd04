"""Opening a model on this machine: find its parts, fingerprint them, and hand the recipe what it needs."""

import hashlib
import platform
import re
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from models.agreement import check_agreement
from models.attention import attention_kernel
from models.checkpoint import fingerprint
from models.kernels import kernels_name
from models.layout import COMPONENTS, LAYOUT
from models.quantized import int8_compute_available
from models.tokenizers import ClipTokenizer, StepTokenizer
from studio import __version__
from studio.checkpoints.download_record import is_whole
from studio.checkpoints.quantize import int8_folders
from studio.config import CameraMove, ModelConfig, StudioConfig, candidate_folders, part_folder
from studio.errors import InputError, ModelMissing
from studio.memory.attention_choice import choose_attention
from studio.memory.manager import MemoryManager
from studio.memory.plan import AUTO, RuntimeConfig, Sharing, WeightMode
from studio.memory.planning.speeds import load_speeds
from studio.memory.usage import budgets_for
from studio.pipeline.calibration_file import known_calibrations
from studio.pipeline.colour_fit import PreviewColours
from studio.pipeline.embeddings import EmbeddingCache
from studio.pipeline.run import Engine, file_errors

CACHE_FOLDER = ".cache"  # inside the output folder: encoded prompts, colour maps, measured speeds


@dataclass(frozen=True)
class EngineOptions:
    """How a model is to run: device "auto", "cpu" or "cuda[:n]"; offload of OFFLOADS, attention of ATTENTIONS.

    sharing: this device and others share each video; None: it makes videos alone.
    """

    device: str = "auto"
    offload: str = "auto"
    weights: WeightMode = WeightMode.NONE
    sharing: Sharing | None = None
    attention: str = AUTO


def named_device(name: str) -> torch.device:
    """What a --device value means, here or not: "cuda" is "cuda:0", "auto" the GPU where there is one, else the CPU.

    Raises InputError for any other name.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d{1,2})?", name):
        raise InputError("device_unknown", value=name)
    return torch.device("cuda:0" if name == "cuda" else name)


def pick_device(name: str) -> torch.device:
    """The device of a --device value. Raises InputError where this machine has no such device."""
    device = named_device(name)
    if device.type == "cuda" and device.index >= (count := gpu_count()):
        raise InputError("device_absent", value=str(device), count=count)
    return device


def gpu_count() -> int:
    """How many GPUs PyTorch finds on this machine."""
    return torch.cuda.device_count()


def compute_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 on a GPU, as the models were released; float32 on a CPU, where bfloat16 is mostly slower."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def part_folders(model: ModelConfig, has_image: bool, model_dir: Path) -> dict[str, Path]:
    """The checkpoint folder of every component. Raises ModelMissing with the download command."""
    variant = model.variant(has_image)
    folders = {part: part_folder(variant, part, model_dir) for part in COMPONENTS}
    if missing := [part for part, folder in folders.items() if folder is None]:
        expected = model_dir / variant.folders[missing[0]][0]
        raise ModelMissing("model_missing", model=model.name, folder=expected, missing=", ".join(missing))
    return folders  # type: ignore[return-value]


def tokenizer_folders(model: ModelConfig, has_image: bool, model_dir: Path) -> dict[str, Path]:
    """The checkpoint folders of both tokenizers, also of a model whose weights are not here. Raises ModelMissing."""
    variant = model.variant(has_image)
    found: dict[str, Path] = {}
    for part in ("step_llm", "clip"):
        for folder in candidate_folders(variant, part, model_dir):
            if all((folder / name).is_file() for name in LAYOUT[part].tokenizer):
                found[part] = folder
                break
        else:
            expected = model_dir / variant.folders[part][0]
            raise ModelMissing("model_missing", model=model.name, folder=expected, missing=f"{part}, tokenizer")
    return found


def is_installed(model: ModelConfig, model_dir: Path) -> bool:
    """Whether every part of every variant of the model is there, in folders that no download has left unfinished."""
    folders = {part_folder(variant, part, model_dir) for variant in model.variants for part in COMPONENTS}
    return all(folder is not None and is_whole(folder) for folder in folders)


def check_weights(options: EngineOptions) -> None:
    """Raise InputError where products in int8 are asked for and what computes them is not installed."""
    if options.weights is WeightMode.INT8_COMPUTE and not int8_compute_available():
        raise InputError("int8_compute_missing")


def weights_file(folders: Mapping[str, Path | None]) -> Path | None:
    """The largest file of the transformer's weights: what its disk's speed is measured on. None where it is absent."""
    if (folder := folders.get("transformer")) is None:
        return None
    sizes = {}
    for shard in (folder / LAYOUT["transformer"].folder).glob("*.safetensors"):
        with suppress(OSError):
            state = shard.stat()
            if stat.S_ISREG(state.st_mode):
                sizes[shard] = state.st_size
    return max(sizes, key=lambda shard: sizes[shard], default=None)


@file_errors()
def open_tokenizers(folders: Mapping[str, Path]) -> Mapping[str, StepTokenizer | ClipTokenizer]:
    """The tokenizers of both encoders, by component. Raises StudioError where a file of theirs cannot be used."""
    return {
        "step_llm": StepTokenizer(folders["step_llm"] / LAYOUT["step_llm"].tokenizer_folder),
        "clip": ClipTokenizer(folders["clip"] / LAYOUT["clip"].tokenizer_folder),
    }


def usable_folders(
    model: ModelConfig, has_image: bool, config: StudioConfig, options: EngineOptions
) -> dict[str, Path]:
    """The checkpoint folder of every component as the options need it. Computes nothing on a device.

    Raises InputError: ModelMissing, or for int8 files or programs that are missing.
    """
    check_weights(options)
    pick_device(options.device)
    folders = part_folders(model, has_image, config.model_dir)
    return int8_folders(folders) if options.weights.is_int8 else folders


@file_errors()
def open_engine(
    model: ModelConfig,
    has_image: bool,
    moves: Mapping[str, CameraMove],
    config: StudioConfig,
    options: EngineOptions,
) -> Engine:
    """Everything the recipe needs, without loading a weight yet; measures the device's speeds where none are known.

    Raises as `usable_folders`, and StudioError for bad files. Who shares the device owns it by now.
    """
    folders, device = usable_folders(model, has_image, config, options), pick_device(options.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # Triton starts its kernels on the current device, wherever the tensors lie
    dtype, tokenizers = compute_dtype(device), open_tokenizers(folders)
    choose_attention(config.output_dir / CACHE_FOLDER, device, dtype, options.attention)
    check_agreement(folders, {part: len(tokenizer) for part, tokenizer in tokenizers.items()})
    prints = _fingerprints(folders, dtype)
    cache = config.output_dir / CACHE_FOLDER
    int8_compute = options.weights is WeightMode.INT8_COMPUTE
    runtime = RuntimeConfig(
        device=device,
        dtype=dtype,
        budgets=budgets_for(device, config),
        offload=options.offload,
        weights=options.weights,
        speeds=load_speeds(cache, device, weights_file(folders), int8=int8_compute),
        sharing=options.sharing,
    )
    memory = MemoryManager(folders, runtime)
    return Engine(
        model=model,
        moves=moves,
        memory=memory,
        tokenizers=tokenizers,
        embeddings=EmbeddingCache(cache / "embeddings", config.embedding_cache_gb),
        colours=PreviewColours(
            folders["vae"], cache / "colours" / f"{prints['vae'][:32]}.safetensors", memory.latent_channels
        ),
        text_fingerprint=_text_fingerprint(prints, options.weights),
        provenance={
            "version": __version__,
            "model_fingerprint": _joined(prints),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
            "torch": torch.__version__,
            "dtype": str(dtype).removeprefix("torch."),
            "quantize": options.weights.value,
            "attention": attention_kernel(device, dtype, 128),
            "kernels": kernels_name(device),
        },
        calibrations=known_calibrations(cache, _joined(prints), has_image=has_image),
        has_image=has_image,
    )


@file_errors()
def model_fingerprint(folders: Mapping[str, Path], device: torch.device) -> str:
    """Hex digits that identify a model as it runs on the device: `model_fingerprint` of an engine's provenance.

    folders: of `usable_folders`. Reads some 4 MB per weight file. Raises StudioError for bad files.
    """
    return _joined(_fingerprints(folders, compute_dtype(device)))


def recalibrated(engine: Engine, config: StudioConfig) -> Engine:
    """The engine with what `calibrate` has chosen by now: an engine may be open for days."""
    cache, fingerprint = config.output_dir / CACHE_FOLDER, engine.provenance["model_fingerprint"]
    found = known_calibrations(cache, fingerprint, has_image=engine.has_image)
    return replace(engine, calibrations=found)


def _fingerprints(folders: Mapping[str, Path], dtype: torch.dtype) -> dict[str, str]:
    return {part: fingerprint(folder, part, str(dtype)) for part, folder in folders.items()}


def _joined(prints: Mapping[str, str]) -> str:
    return hashlib.sha256("".join(prints.values()).encode()).hexdigest()


def _text_fingerprint(prints: Mapping[str, str], weights: WeightMode) -> str:
    """Of encoded prompts; the language model multiplies alike in both int8 modes."""
    return hashlib.sha256(f"{prints['step_llm']}{prints['clip']}{weights.of_step_llm.value}".encode()).hexdigest()
