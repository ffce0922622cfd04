"""The pipeline's access to a network on the device: the loops over blocks and over frames."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median, mode
from time import monotonic
from typing import TypeVar, cast

import torch
from torch import Tensor

from models.geometry import CHUNK_FRAMES, CHUNK_LATENTS
from models.transformer import Transformer
from models.vae import VAE
from studio.errors import Cancelled
from studio.memory.networks import StreamedNetwork
from studio.memory.plan import Plan

Result = TypeVar("Result")
# Runs work(plan) under the current plan; after an out-of-memory error again under a smaller one.
Retry = Callable[[Callable[[Plan], Result]], Result]


@dataclass(frozen=True)
class Condition:
    """An encoded text: prompt_embeds (1, l_valid, d), clip_embeds (1, 77, d2), on any device."""

    prompt_embeds: Tensor
    clip_embeds: Tensor


class TransformerSession:
    """The video transformer for one video, loaded as the plan says."""

    def __init__(self, network: StreamedNetwork, device: torch.device, retry: Retry) -> None:
        self._network, self._device, self._retry = network, device, retry
        self._timed: list[tuple[int, float]] = []

    @property
    def timing(self) -> tuple[int, float] | None:
        """(conditions, median seconds) of the commonest kind of step under the current plan, the first step apart.

        None before the second step.
        """
        steps = self._timed[1:]
        if not steps:
            return None
        commonest = mode(conditions for conditions, _ in steps)
        return commonest, median(seconds for conditions, seconds in steps if conditions == commonest)

    @property
    def latent_channels(self) -> int:
        """c of the latents (1, f, c, h, w)."""
        return int(self._network.params.in_channels)

    def velocities(
        self,
        latents: Tensor,
        time: float,
        conditions: Sequence[Condition],
        *,
        image_latents: Tensor | None = None,
        motion_score: float | None = None,
        cancelled: Callable[[], bool] = lambda: False,
        last: bool = False,
    ) -> list[Tensor]:
        """One velocity (1, f, c, h, w) float32 per condition, on the device of `latents` (1, f, c, h, w).

        time: 0 (noise) to 1 (video). last: no step follows, so no block is prefetched for one. Each block is loaded
        once and computes all conditions. Raises Cancelled between blocks, StudioError where a weight file cannot be
        read or memory runs out under the smallest plan.
        """
        device, attempts = self._device, 0
        moment = torch.tensor([time], dtype=torch.float32)

        def step(plan: Plan) -> list[Tensor]:
            nonlocal attempts
            attempts += 1
            self._network.set_plan(plan.transformer)
            body = cast(Transformer, self._network.body)
            hiddens = [
                body.embed(
                    latents.to(device),
                    moment.to(device),
                    condition.prompt_embeds.to(device),
                    condition.clip_embeds.to(device),
                    image_latents=None if image_latents is None else image_latents.to(device),
                    motion_score=motion_score,
                )
                for condition in conditions
            ]
            for _, block in self._network.blocks(last=last):
                if cancelled():
                    raise Cancelled
                for hidden in hiddens:
                    block(hidden)
            return [body.head(hidden).to(latents.device, torch.float32) for hidden in hiddens]

        began = monotonic()
        with torch.no_grad():
            velocities = self._retry(step)
        self._timed = [*self._timed, (len(conditions), monotonic() - began)] if attempts == 1 else []
        return velocities


class VAESession:
    """The VAE for one video, resident on the device."""

    def __init__(self, load: Callable[[], VAE], device: torch.device, dtype: torch.dtype, retry: Retry) -> None:
        """load: loads the VAE where it is not on the device, and returns it."""
        self._load, self._device, self._dtype, self._retry = load, device, dtype, retry

    def encode_image(self, image: Tensor) -> Tensor:
        """(1, 1, 3, H, W) in -1..1 -> the mean of its latent (1, 1, c, h, w), float32 on the CPU."""
        return self.encode_moments(image).chunk(2, dim=2)[0]

    def encode_moments(self, video: Tensor) -> Tensor:
        """(1, t, 3, H, W) in -1..1 -> means and log-variances (1, f, 2c, h, w), float32 on the CPU."""

        def encode(_: Plan) -> Tensor:
            return self._load().encode_moments(video.to(self._device, self._dtype)).float().cpu()

        with torch.no_grad():
            return self._retry(encode)

    def decode_chunks(self, latents: Tensor) -> Iterator[Tensor]:
        """latents (1, f, c, h, w) -> the frames in order, in pieces (t_i, 3, H, W) on the CPU, about -1..1.

        After an out-of-memory error decoding resumes at the next frame with smaller slices.
        """
        latents, done = latents.to(self._device, self._dtype), 0
        pieces: Iterator[Tensor] | None = None

        def advance(plan: Plan) -> Tensor | None:
            nonlocal pieces
            current, pieces = pieces or self._decode_from(latents, done, plan.vae_slice_frames), None
            piece = next(current, None)
            pieces = current  # only after success: a generator that raised has ended
            return piece

        while (piece := self._retry(advance)) is not None:
            done += len(piece)
            yield piece

    def _decode_from(self, latents: Tensor, frame: int, slice_frames: int) -> Iterator[Tensor]:
        """The frames from `frame` on. Decoding starts one chunk earlier, whose last frame is blended into the next."""
        chunk = max(frame // CHUNK_FRAMES - 1, 0)
        drop = frame - chunk * CHUNK_FRAMES
        for piece in self._load().decode_chunks(latents[:, chunk * CHUNK_LATENTS :], slice_frames=slice_frames):
            if drop < piece.shape[1]:
                yield piece[0, drop:].cpu()
            drop = max(drop - piece.shape[1], 0)
