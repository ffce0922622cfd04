"""The nano models of a checkpoint folder, opened and asked as the studio does it; their clips stay in memory."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from studio.checkpoints.quantize import quantize
from studio.config import ModelConfig, load_camera_moves, load_models, load_studio
from studio.memory.plan import WeightMode
from studio.nano.judge import psnr
from studio.pipeline.engine import EngineOptions, is_installed, open_engine, part_folders
from studio.pipeline.frames import decode_frames, generate_frames
from studio.pipeline.output import to_uint8
from studio.pipeline.run import Engine
from studio.settings import GenerationSettings, ResolvedSettings

SHIPPED = "assets/nano/"  # what configs/models/nano*.yaml put before the name of a checkpoint's folder
LABELS = ("speed", "infer_steps", "cfg_scale", "time_shift", "num_frames", "height", "width")  # of a measurement


class ClipMaker(Protocol):
    """What the judge asks for clips."""

    @property
    def settings(self) -> ResolvedSettings:
        """The settings that every clip shares; prompt, seed and conditions are given with each."""

    def make(
        self, prompt: str, seed: int, *, motion_score: float, image: Image.Image | None = None, camera_move: str = ""
    ) -> np.ndarray:
        """uint8 frames (t, H, W, 3). The motion score is left out where the network takes none."""


@dataclass(frozen=True)
class StudioClips:
    """An opened model: a ClipMaker that runs the studio's recipe."""

    engine: Engine
    with_image: bool
    overrides: Mapping[str, Any] = field(default_factory=dict)  # fields of GenerationSettings, instead of the defaults

    @property
    def settings(self) -> ResolvedSettings:
        return self._resolved("x", 0, None, "")

    def make(
        self, prompt: str, seed: int, *, motion_score: float, image: Image.Image | None = None, camera_move: str = ""
    ) -> np.ndarray:
        """As ClipMaker. Raises StudioError."""
        settings = self._resolved(prompt, seed, motion_score, camera_move)
        settings.check(self.engine.model, dict(self.engine.moves))
        return generate_frames(settings, image, self.engine)

    def through_vae(self, video: torch.Tensor) -> tuple[np.ndarray, float]:
        """video (1, t, 3, H, W) in -1..1 -> what the VAE makes of it, uint8 (t, H, W, 3), and its PSNR in dB."""
        with self.engine.memory.vae(self.settings.video_shape) as vae:
            latents = vae.encode_moments(video).chunk(2, dim=2)[0]
        frames = decode_frames(latents, self.settings, self.engine)
        return frames, psnr(frames, to_frames(video)[0])

    @property
    def computed(self) -> dict[str, Any]:
        """How clips are computed, for the label of a measurement: settings, dtype, weights, device, fingerprint."""
        settings, provenance = self.settings, self.engine.provenance
        told = {name: getattr(settings, name) for name in LABELS}
        return told | {name: provenance[name] for name in ("dtype", "quantize", "device", "torch", "model_fingerprint")}

    def _resolved(self, prompt: str, seed: int, motion_score: float | None, camera_move: str) -> ResolvedSettings:
        model = self.engine.model
        takes_score = motion_score is not None and model.variant(self.with_image).motion_score
        asked = GenerationSettings(
            model.name,
            prompt,
            first_image="first frame" if self.with_image else None,
            motion_score=motion_score if takes_score else None,
            camera_move=camera_move,
            seed=seed,
        )
        return replace(asked, **self.overrides).resolve(model)


@dataclass(frozen=True)
class NanoFolder:
    """A folder with nano's checkpoints (t2v, ti2v, turbo, as assets/nano has them), and a folder to work in."""

    checkpoint: Path
    work: Path
    device: str = "auto"

    def has(self, name: str) -> bool:
        """Whether every part of a model of the menu ("nano", "nano-turbo") is in the folder."""
        return is_installed(self._model(name), self.checkpoint)

    @contextmanager
    def open(
        self, name: str, *, with_image: bool = False, int8: bool = False, overrides: Mapping[str, Any] | None = None
    ) -> Iterator[StudioClips]:
        """A model, opened as `generate` opens it. int8: with weights as `quantize` makes them, in the work folder."""
        model, folder = self._model(name), self.checkpoint
        if int8:
            folder = self.work / "int8"
            shutil.copytree(self.checkpoint, folder, dirs_exist_ok=True)
            quantize(part_folders(model, with_image, folder), lambda line: None)
        config = load_studio(model_dir=folder, output_dir=self.work / "outputs")
        options = EngineOptions(self.device, weights=WeightMode.INT8 if int8 else WeightMode.NONE)
        engine = open_engine(model, with_image, load_camera_moves(), config, options)
        try:
            yield StudioClips(engine, with_image, overrides or {})
        finally:
            engine.memory.release()

    def _model(self, name: str) -> ModelConfig:
        """The menu's model, whose parts are looked for in this folder instead of assets/nano."""
        model = load_models()[name]
        variants = []
        for variant in model.variants:
            folders = {
                part: tuple(place.removeprefix(SHIPPED) for place in places) for part, places in variant.folders.items()
            }
            variants.append(replace(variant, folders=folders))
        return replace(model, variants=tuple(variants))


def to_frames(video: torch.Tensor) -> np.ndarray:
    """(b, t, 3, H, W) in -1..1 -> uint8 (b, t, H, W, 3), rounded as the pipeline does it."""
    return np.stack([to_uint8(clip) for clip in video])
