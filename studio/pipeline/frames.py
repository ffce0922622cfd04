"""The recipe without its files: the frames of a video in memory, for whoever measures what a model makes."""

from functools import partial

import numpy as np
import torch
from PIL import Image

from studio.media import crop_image
from studio.pipeline.encode import encode_image, encode_text
from studio.pipeline.evaluation_plan import Node, plan_of
from studio.pipeline.output import to_uint8
from studio.pipeline.run import Engine, Run, file_errors
from studio.pipeline.sampler import SamplerState, denoise, noise
from studio.prompt import compose
from studio.settings import ResolvedSettings


@file_errors()
def generate_frames(settings: ResolvedSettings, image: Image.Image | None, engine: Engine) -> np.ndarray:
    """uint8 (t, H, W, 3): the frames that `generate` would write for the same request, bit for bit.

    Settings must be checked. image: the first image at any size, None for text alone. Nothing is written but encoded
    prompts, in their cache; nothing is reported, and nothing can be resumed. Raises StudioError.
    """
    run, video = Run(engine, emit=lambda event: None, cancelled=lambda: False), settings.video_shape
    plan = plan_of(settings, engine.calibration)
    engine.memory.require(video)
    conditions = encode_text(run, compose(settings, engine.model, engine.moves), guided=plan.is_guided)
    picture = crop_image(image, settings.height, settings.width) if image else None
    image_latents = encode_image(run, picture, video)
    with engine.memory.transformer(video) as transformer:
        velocities = partial(transformer.velocities, image_latents=image_latents, motion_score=settings.motion_score)

        def passes(latents: torch.Tensor, node: Node) -> list[torch.Tensor]:
            return velocities(latents, node.time, conditions[: node.passes])

        state = SamplerState(noise(video, transformer.latent_channels, settings.seed), 0)
        for step in denoise(state, plan, passes):
            state = step.state
    return decode_frames(state.latents, settings, engine)


def decode_frames(latents: torch.Tensor, settings: ResolvedSettings, engine: Engine) -> np.ndarray:
    """Latents (1, f, c, h, w) -> uint8 (t, H, W, 3), as `generate` decodes them."""
    with engine.memory.vae(settings.video_shape) as vae:
        return np.concatenate([to_uint8(piece) for piece in vae.decode_chunks(latents)])
