"""The recipe without its files: the frames of a video in memory, for whoever measures what a model makes."""

from functools import partial

import numpy as np
import torch
from PIL import Image

from studio.media import crop_image
from studio.pipeline.encode import Conditioning, encode_image, encode_text
from studio.pipeline.evaluation_plan import plan_of
from studio.pipeline.finite import refuse
from studio.pipeline.output import pixels
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
    engine.memory.require(video)
    plan = plan_of(settings, engine.calibrations)
    texts = encode_text(run, compose(settings, engine.model, engine.moves), guided=plan.is_guided)
    picture = crop_image(image, settings.height, settings.width, settings.crop_place) if image else None
    conditioning = Conditioning(texts, encode_image(run, picture, video), settings.motion_score)
    with engine.memory.transformer(video) as transformer:
        state = SamplerState(noise(video, transformer.latent_channels, settings.seed), 0)
        for step in denoise(state, plan, conditioning.passes(transformer, last=plan.nodes[-1])):
            state = step.state
    return decode_frames(state.latents, settings, engine)


def decode_frames(latents: torch.Tensor, settings: ResolvedSettings, engine: Engine) -> np.ndarray:
    """Latents (1, f, c, h, w) -> uint8 (t, H, W, 3), as `generate` decodes them."""
    with engine.memory.vae(settings.video_shape) as vae:
        pieces = vae.decode_chunks(latents, pixels, partial(refuse, "decode"))
        return np.concatenate([piece.numpy() for piece in pieces])
