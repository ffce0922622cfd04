"""Latents on disk, with the settings they belong to: what a stopped run goes on from and `decode` finishes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from studio.errors import InputError, StudioError
from studio.filenames import LATENTS, write_whole
from studio.settings import ResolvedSettings


@dataclass(frozen=True)
class Saved:
    """latents (1, f, c, h, w) float32 after `step` steps."""

    latents: torch.Tensor
    step: int


@dataclass(frozen=True)
class LatentsFile:
    """A file's content: the latents, the settings that make them and the provenance of the model."""

    saved: Saved
    settings: ResolvedSettings
    provenance: dict[str, Any]


def save_latents(folder: Path, saved: Saved, settings: ResolvedSettings, provenance: Mapping[str, Any]) -> Path:
    """Write `folder`/latents.safetensors in one step (.tmp, then rename). Raises StudioError when it cannot."""
    path = folder / LATENTS
    metadata = {
        "settings": settings.to_json(),
        "step": str(saved.step),
        "provenance": json.dumps(dict(provenance), ensure_ascii=False, sort_keys=True),
    }
    try:
        write_whole(path, save({"latents": saved.latents.float().cpu().contiguous()}, metadata))
    except OSError as error:
        raise StudioError("write_failed", file=path.name, reason=error.strerror or str(error)) from None
    return path


def load_latents(folder: Path) -> LatentsFile | None:
    """What save_latents left in the folder; None when there is nothing usable."""
    try:
        return read_latents(folder / LATENTS)
    except InputError:
        return None


def read_latents(path: Path) -> LatentsFile:
    """Read a latents file. Raises InputError for a file that is none."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            latents = file.get_tensor("latents").clone()
        provenance = json.loads(metadata["provenance"])
        step = int(metadata["step"])
        settings = ResolvedSettings.from_json(metadata["settings"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise InputError("latents_unreadable", file=path.name, reason=str(error)) from None
    return LatentsFile(Saved(latents, step), settings, provenance)
