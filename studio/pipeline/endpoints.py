"""Where evaluation plans end: the latents of one request under many plans, each computed once and kept in a folder.

Whoever compares plans (`calibrate`, the bench) works with this; what is computed are the recipe's own pieces. Killed at
any time, the same calls go on from the last finished plan, and inside a long one from the last saved step.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from studio.errors import Cancelled, InputError
from studio.filenames import LATENTS
from studio.pipeline.encode import Conditioning, encode_image, encode_text
from studio.pipeline.evaluation_plan import EvaluationPlan
from studio.pipeline.latents_file import read_latents, resume_point, save_latents
from studio.pipeline.observers import LatentsSaver
from studio.pipeline.rerun import DECIDE_THE_BITS, provenance_of
from studio.pipeline.run import Engine, Run
from studio.pipeline.sampler import Passes, SamplerState, denoise, noise
from studio.prompt import compose
from studio.settings import ResolvedSettings


@dataclass(frozen=True)
class Endpoints:
    """Plans of an opened model. folder: where endpoints are kept.

    on_passes(count, known): so many passes were just computed, or (known) need not be.
    """

    engine: Engine
    folder: Path
    cancelled: Callable[[], bool] = lambda: False
    on_passes: Callable[[int, bool], None] = lambda count, known: None

    def of(self, settings: ResolvedSettings, picture: Image.Image | None = None) -> "Subject":
        """A request with checked settings; its plans are given one by one, whatever its own speed. picture: the first
        image, cropped to the video's size; None for text alone."""
        return Subject(self, replace(settings, first_image=None), picture)


@dataclass(frozen=True)
class Subject:
    """One request under many plans."""

    endpoints: Endpoints
    settings: ResolvedSettings
    picture: Image.Image | None

    def end(self, plan: EvaluationPlan) -> SamplerState:
        """The state after the last step. Raises StudioError; Cancelled keeps the steps that are done."""
        state = self._read(plan)
        if state is None:
            return self._compute(plan)
        self.endpoints.on_passes(plan.passes(0, len(plan.nodes)), True)
        return state

    @contextmanager
    def opened(self) -> Iterator[tuple[torch.Tensor, Passes]]:
        """The noise (1, f, c, h, w) of the seed, and the passes, for a solver of the caller's own."""
        endpoints, settings, conditioning = self.endpoints, self.settings, self._conditioning
        with endpoints.engine.memory.transformer(settings.video_shape) as transformer:
            drawn = noise(settings.video_shape, transformer.latent_channels, settings.seed)
            yield drawn, conditioning.passes(transformer, endpoints.cancelled)

    def _compute(self, plan: EvaluationPlan) -> SamplerState:
        endpoints, settings = self.endpoints, self.settings
        unfinished, provenance = endpoints.folder / "unfinished", self._identity(plan)
        saver = LatentsSaver(unfinished, settings, provenance)
        with self.opened() as (drawn, passes):
            state = resume_point(unfinished, settings, provenance) or SamplerState(drawn, 0)
            if state.step:
                endpoints.on_passes(plan.passes(0, state.step), True)
            try:
                for step in denoise(state, plan, passes):
                    state = step.state
                    saver(step)
                    endpoints.on_passes(plan.nodes[state.step - 1].passes, False)
            except Cancelled:
                saver.save(state)
                raise
        save_latents(self._folder(plan), replace(state, velocity=None), settings, provenance)
        return state

    @cached_property
    def _conditioning(self) -> Conditioning:
        run = Run(self.endpoints.engine, emit=lambda event: None, cancelled=self.endpoints.cancelled)
        text = compose(self.settings, run.engine.model, run.engine.moves)
        image_latents = encode_image(run, self.picture, self.settings.video_shape)
        return Conditioning(encode_text(run, text, guided=True), image_latents, self.settings.motion_score)

    def _read(self, plan: EvaluationPlan) -> SamplerState | None:
        try:
            found = read_latents(self._folder(plan) / LATENTS)
        except InputError:
            return None
        whole = found.state.step == len(plan.nodes) and found.settings == self.settings
        return found.state if whole and found.provenance == self._identity(plan) else None

    def _identity(self, plan: EvaluationPlan) -> dict[str, Any]:
        """Everything besides the settings that decides the bits."""
        told: Mapping[str, Any] = provenance_of(self.endpoints.engine, self.picture)
        names = ("version", "model_fingerprint", "first_image_sha256", *DECIDE_THE_BITS)
        return {name: told[name] for name in names} | {"plan": plan.to_dict()}

    def key(self, plan: EvaluationPlan) -> str:
        """24 hex digits that name the request under the plan, and everything that decides its bits."""
        told = json.dumps([asdict(self.settings), self._identity(plan)], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:24]

    def _folder(self, plan: EvaluationPlan) -> Path:
        return self.endpoints.folder / self.key(plan)


def distance(latents: torch.Tensor, reference: torch.Tensor) -> float:
    """Root mean square difference over the reference's standard deviation."""
    return float((latents - reference).square().mean().sqrt() / reference.std())
