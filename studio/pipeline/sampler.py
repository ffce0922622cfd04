"""The denoising loop: noise becomes latents, one evaluation of the network per node of the time grid.

Needs PyTorch and numpy alone. It knows no files, events or clocks: `denoise` yields every step, and who drives it
shows and saves what it likes (observers.py).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.geometry import VideoShape
from models.scheduler import FlowMatchScheduler

# (latents (1, f, c, h, w), time 0..1) -> velocities (1, f, c, h, w) float32: the conditional one, then, with guidance,
# the unconditional one. May raise Cancelled.
Passes = Callable[[Tensor, float], Sequence[Tensor]]


@dataclass(frozen=True)
class SamplerState:
    """Everything that a resumed run needs for the same bits: latents (1, f, c, h, w) float32 after `step` steps."""

    latents: Tensor
    step: int


@dataclass(frozen=True)
class Step:
    """A step that was done: from latents (1, f, c, h, w) at `time`, with the guided velocity, to `state`."""

    latents: Tensor
    time: float
    velocity: Tensor
    state: SamplerState

    def clean_estimate(self) -> Tensor:
        """The latents at time 1 (1, f, c, h, w), were the velocity constant from here on."""
        return self.latents + (1 - self.time) * self.velocity


def denoise(start: SamplerState, scheduler: FlowMatchScheduler, cfg_scale: float, passes: Passes) -> Iterator[Step]:
    """The steps that follow `start`, each when it is done: Euler on scheduler.times, in float32."""
    latents = start.latents
    for index in range(start.step, len(scheduler.times) - 1):
        time = float(scheduler.times[index])
        velocity = guide(passes(latents, time), cfg_scale)
        state = SamplerState(scheduler.step(velocity, latents, index), index + 1)
        yield Step(latents, time, velocity, state)
        latents = state.latents


def noise(video: VideoShape, channels: int, seed: int) -> Tensor:
    """The starting latents of a seed: (1, f, c, h, w) float32, drawn on the CPU so that every device starts equal.

    By numpy: torch.randn draws other numbers on a CPU without AVX2 (tests/bench/LOG.md).
    """
    drawn = np.random.Generator(np.random.PCG64(seed)).standard_normal(video.latent_shape(channels))
    return torch.from_numpy(drawn.astype(np.float32))


def guide(velocities: Sequence[Tensor], cfg_scale: float) -> Tensor:
    """Classifier-free guidance in float32: away from the unconditional velocity, towards the conditional one."""
    if len(velocities) == 1:
        return velocities[0]
    conditional, unconditional = velocities
    return unconditional + cfg_scale * (conditional - unconditional)
