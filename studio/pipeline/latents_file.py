"""Latents on disk, with the settings they belong to: a stopped run resumes from them, `decode` finishes them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from models.regular_files import parse_json, parsing, reason_of
from models.weight_files import TensorEntry, read_safetensors_header, read_tensor
from studio.errors import InputError, StudioError
from studio.filenames import LATENTS, write_whole
from studio.pipeline.evaluation_plan import EvaluationPlan
from studio.pipeline.sampler import SamplerState
from studio.settings import ResolvedSettings

MOST_STEPS = 1000
MOST_CHANNELS = 256  # the public VAE has 64
MAY_CHANGE = {"version", "device", "torch", "attention", "kernels"}  # of the provenance, between two parts of a run
EARLIER = "earlier_steps"  # of the provenance: what was done elsewhere, a record a part


@dataclass(frozen=True)
class LatentsFile:
    """A file's content: where the sampler was, the settings that make the video and the provenance of the model."""

    state: SamplerState
    settings: ResolvedSettings
    provenance: dict[str, Any]


def check_whole(saved: LatentsFile) -> None:
    """Raise InputError unless all steps of their plan are done, so that decoding gives the video's frames.

    Latents from before there were plans have none: theirs is the official one.
    """
    steps = saved.settings.infer_steps
    if "plan" in saved.provenance:
        try:
            steps = len(EvaluationPlan.from_dict(saved.provenance["plan"]).nodes)
        except ValueError as error:
            raise InputError("metadata_missing", reason=str(error)) from None
    if saved.state.step != steps:
        raise InputError("latents_unfinished", step=saved.state.step)


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
        write_whole(path, save(_tensors(state), metadata), durable=True)
    except OSError as error:
        raise StudioError("write_failed", file=path.name, reason=error.strerror or str(error)) from None
    return path


@dataclass(frozen=True)
class EarlierRun:
    """A run of the same settings that stopped. changed: what of its provenance is not as now."""

    saved: LatentsFile
    changed: frozenset[str]

    @property
    def is_usable(self) -> bool:
        """Whether its latents are of this model, picture and plan, so that the other steps may follow them here."""
        return self.changed <= MAY_CHANGE

    def earlier_steps(self) -> list[dict[str, Any]]:
        """For the provenance: the parts of the run that were made elsewhere, this one included where it was."""
        known = self.saved.provenance.get(EARLIER)
        parts = list(known) if isinstance(known, list) else []
        if self.changed:
            was = {name: self.saved.provenance.get(name) for name in sorted(self.changed)}
            parts.append({"to_step": self.saved.state.step, **was})
        return parts


def earlier_run(folder: Path, settings: ResolvedSettings, provenance: Mapping[str, Any]) -> EarlierRun | None:
    """What a run of these settings left in its work folder; None where there is nothing that can be read."""
    if (found := _left(folder, settings)) is None:
        return None
    was, now = ({key: value for key, value in one.items() if key != EARLIER} for one in (found.provenance, provenance))
    return EarlierRun(found, frozenset(key for key in was | now if was.get(key) != now.get(key)))


def resume_point(folder: Path, settings: ResolvedSettings, provenance: Mapping[str, Any]) -> SamplerState | None:
    """Where an earlier run of exactly this request stopped, on this device; None when there is nothing usable."""
    found = earlier_run(folder, settings, provenance)
    return None if found is None or found.changed else found.saved.state


def resume_plan(folder: Path, settings: ResolvedSettings, fingerprint: str) -> EvaluationPlan | None:
    """The plan of an earlier run of this request on the model of this fingerprint that stopped: it goes on under it,
    whatever was calibrated since. A plan that was calibrated on other weights, int8 ones too, says nothing of these."""
    found = _left(folder, settings)
    if found is None or found.provenance.get("model_fingerprint") != fingerprint:
        return None
    try:
        return EvaluationPlan.from_dict(found.provenance["plan"])
    except (KeyError, TypeError, ValueError):
        return None


def _left(folder: Path, settings: ResolvedSettings) -> LatentsFile | None:
    """The latents of a run of these settings in its work folder, where they can be read."""
    try:
        found = read_latents(folder / LATENTS)
    except InputError:
        return None
    return found if found.settings.same_but_picture(settings) else None


def read_latents(path: Path, check: Callable[[ResolvedSettings], object] = lambda settings: None) -> LatentsFile:
    """Read a latents file. Raises InputError for a file that is none, and whatever `check` raises of its settings.

    Only the header is read before the settings are checked: they say how large the latents may be.
    """

    def refuse(error: Exception) -> InputError:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else reason_of(error)
        return InputError("latents_unreadable", file=path.name, reason=reason)

    with parsing(refuse):
        table, metadata = read_safetensors_header(path)
        settings = ResolvedSettings.from_json(metadata["settings"])
    check(settings)
    with parsing(refuse):
        _check_shapes(table, settings)
        provenance, step = parse_json(metadata["provenance"]), int(metadata["step"])
        if not 0 <= step <= MOST_STEPS:
            raise ValueError(f"step {step} is none")
        tensors = {name: read_tensor(table[name]) for name in ("latents", "velocity") if name in table}
        if infinite := [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]:
            raise ValueError(f"its {' and '.join(infinite)} are no finite numbers")
        state = SamplerState(step=step, growths=int(metadata.get("growths", 0)), **tensors)
    return LatentsFile(state, settings, provenance)


def _check_shapes(table: Mapping[str, TensorEntry], settings: ResolvedSettings) -> None:
    """Raise ValueError for latents that are not of the settings' video, before they are read."""
    for name in ("latents", "velocity"):
        if name == "velocity" and name not in table:  # of steps of first order
            continue
        entry = table[name]
        if len(entry.shape) != 5 or entry.shape != settings.video_shape.latent_shape(table["latents"].shape[2]):
            raise ValueError(
                f"its {name} of shape {entry.shape} are not of {settings.num_frames} frames of "
                f"{settings.height}x{settings.width}"
            )
        if entry.dtype != torch.float32 or not 0 < entry.shape[2] <= MOST_CHANNELS:
            raise ValueError(f"its {name} of {entry.shape[2]} channels are {entry.dtype}")


def _tensors(state: SamplerState) -> dict[str, Tensor]:
    found = {"latents": state.latents} | ({} if state.velocity is None else {"velocity": state.velocity})
    return {name: tensor.float().cpu().contiguous() for name, tensor in found.items()}
