"""Whether the parts of a model belong together: each may be sound and the texts of one be too wide for another."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from models.clip_config import CLIP_TOKENS, ClipParams
from models.layout import LAYOUT
from models.regular_files import CheckpointError, read_json, reading
from models.step_llm import StepLLMParams
from models.transformer import TransformerParams
from models.vae import VAEParams

Params = TransformerParams | StepLLMParams | ClipParams | VAEParams
READERS: dict[str, Callable[[Mapping[str, Any]], Params]] = {
    "transformer": TransformerParams.from_config,
    "step_llm": StepLLMParams.from_config,
    "clip": ClipParams.from_config,
    "vae": VAEParams.from_config,
}

ONE_MODEL = "All parts must be of one model: download it again."


def config_path(folder: Path, component: str) -> Path:
    """Where a component's config lies in a checkpoint folder."""
    return folder / LAYOUT[component].folder / LAYOUT[component].config


def read_params(folder: Path, component: str) -> Params:
    """The architecture that a component's config describes; no weights are looked at. Raises CheckpointError."""
    path = config_path(folder, component)
    with reading(path, f"describes no {component}"):
        needed = LAYOUT[component].config_required or os.path.lexists(path)
        return READERS[component](read_json(path) if needed else {})


def check_agreement(folders: Mapping[str, Path], tokens: Mapping[str, int]) -> None:
    """Raise CheckpointError with `disagreement`."""
    if found := disagreement(folders, tokens):
        raise CheckpointError(found[1])


def disagreement(folders: Mapping[str, Path], tokens: Mapping[str, int]) -> tuple[str, str] | None:
    """Why the four parts of a video model do not fit each other: the component and a sentence; None where they do.

    folders: component -> its checkpoint folder. tokens: component -> how many ids its tokenizer has. Raises
    CheckpointError for a config that is none.
    """
    transformer = cast(TransformerParams, read_params(folders["transformer"], "transformer"))
    llm = cast(StepLLMParams, read_params(folders["step_llm"], "step_llm"))
    clip = cast(ClipParams, read_params(folders["clip"], "clip"))
    vae = cast(VAEParams, read_params(folders["vae"], "vae"))
    for what, needed, name, found in (
        ("texts of width", transformer.llm_width, "step_llm", llm.width),
        ("texts of width", transformer.clip_width, "clip", clip.hidden_size),
        ("latents of channels", transformer.in_channels, "vae", vae.z_channels),
        ("latents of channels", transformer.in_channels, "transformer", transformer.out_channels),
    ):
        if needed != found:
            place = config_path(folders["transformer"], "transformer")
            return "transformer", f"{place} takes {what} {needed}, the {name} beside it gives {found}. {ONE_MODEL}"
    for name, vocabulary in (("step_llm", llm.vocabulary), ("clip", clip.vocab_size)):
        if tokens[name] > vocabulary:
            place = config_path(folders[name], name)
            return name, f"{place} knows {vocabulary} tokens, its tokenizer has {tokens[name]}. {ONE_MODEL}"
    if (count := clip.max_position_embeddings) < CLIP_TOKENS:
        place = config_path(folders["clip"], "clip")
        return "clip", f"{place} reads {count} tokens, {CLIP_TOKENS} are given. {ONE_MODEL}"
    return None
