"""Latents on disk, with the settings they belong to: a stopped run resumes from them, `decode` finishes them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from studio.errors import InputError, StudioError
from studio.filenames import LATENTS, write_whole
from studio.pipeline.evaluation_plan import EvaluationPlan
from studio.pipeline.sampler import SamplerState
from studio.settings import ResolvedSettings


@dataclass(frozen=True)
class LatentsFile:
    """A file's content: where the sampler was, the settings that make the video and the provenance of the model."""

    state: SamplerState
    settings: ResolvedSettings
    provenance: dict[str, Any]


def save_latents(folder: Path, state: SamplerState, settings: ResolvedSettings, provenance: Mapping[str, Any]) -> Path:
    """Write `folder`/latents.safetensors in one step (.tmp, then rename). Raises StudioError when it cannot."""
    path = folder / LATENTS
    metadata = {
        "settings": settings.to_json(),
        "step": str(state.step),
        "growths": str(state.growths),
        "provenance": json.dumps(dict(provenance), ensure_ascii=False, sort_keys=True),
    }
    try:
        write_whole(path, save(_tensors(state), metadata))
    except OSError as error:
        raise StudioError("write_failed", file=path.name, reason=error.strerror or str(error)) from None
    return path


def resume_point(folder: Path, settings: ResolvedSettings, provenance: Mapping[str, Any]) -> SamplerState | None:
    """Where an earlier run of exactly this request stopped, from its work folder; None when there is nothing usable."""
    try:
        found = read_latents(folder / LATENTS)
    except InputError:
        return None
    same_files = found.provenance == dict(provenance)
    same_settings = replace(found.settings, first_image=None) == replace(settings, first_image=None)
    return found.state if same_files and same_settings else None


def resume_plan(folder: Path, settings: ResolvedSettings) -> EvaluationPlan | None:
    """The plan of an earlier run of this request that stopped: it goes on under it, whatever was calibrated since."""
    try:
        found = read_latents(folder / LATENTS)
        plan = EvaluationPlan.from_dict(found.provenance["plan"])
    except (InputError, KeyError, TypeError, ValueError):
        return None
    return plan if replace(found.settings, first_image=None) == replace(settings, first_image=None) else None


def read_latents(path: Path) -> LatentsFile:
    """Read a latents file. Raises InputError for a file that is none."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).clone() for name in ("latents", "velocity") if name in file.keys()}
        provenance = json.loads(metadata["provenance"])
        state = SamplerState(step=int(metadata["step"]), growths=int(metadata.get("growths", 0)), **tensors)
        settings = ResolvedSettings.from_json(metadata["settings"])
        _check(state, settings)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError("latents_unreadable", file=path.name, reason=str(error)) from None
    return LatentsFile(state, settings, provenance)


def _check(state: SamplerState, settings: ResolvedSettings) -> None:
    """Raise ValueError for a state that is not of the settings' video."""
    shape = tuple(state.latents.shape)
    if len(shape) != 5 or shape != settings.video_shape.latent_shape(shape[2]):
        raise ValueError(
            f"its latents of shape {shape} are not of {settings.num_frames} frames of "
            f"{settings.height}x{settings.width}"
        )
    if state.step < 0 or (state.velocity is not None and tuple(state.velocity.shape) != shape):
        raise ValueError(f"its step {state.step} or its velocity is not of such latents")


def _tensors(state: SamplerState) -> dict[str, Tensor]:
    found = {"latents": state.latents} | ({} if state.velocity is None else {"velocity": state.velocity})
    return {name: tensor.float().cpu().contiguous() for name, tensor in found.items()}
