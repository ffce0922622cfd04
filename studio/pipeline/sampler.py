"""The denoising loop: noise becomes latents, node by node of an evaluation plan.

Needs PyTorch and numpy alone. It knows no files, events or clocks: `denoise` yields every step, and who drives it
shows and saves what it likes (observers.py).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.geometry import VideoShape
from studio.errors import StudioError
from studio.pipeline.evaluation_plan import EvaluationPlan, Node

# A velocity whose norm is more than so many times the last one's is no continuation of it: the second-order term would
# amplify what went wrong. Dense runs on nano grow by 1.05 at most, runs that go wrong by 1.16 and more (bench/LOG.md).
GROWTH_BOUND = 1.15

# (latents (1, f, c, h, w), node) -> velocities (1, f, c, h, w) float32: the conditional one, then, where the node is
# guided, the unconditional one. May raise Cancelled.
Passes = Callable[[Tensor, Node], Sequence[Tensor]]


@dataclass(frozen=True)
class SamplerState:
    """Everything that a resumed run needs for the same bits.

    latents (1, f, c, h, w) float32 after `step` steps; velocity: of the last node, alike, where the plan's steps are of
    second order; growths: how often a velocity has grown beyond GROWTH_BOUND.
    """

    latents: Tensor
    step: int
    velocity: Tensor | None = None
    growths: int = 0


@dataclass(frozen=True)
class Step:
    """A step that was done: from latents (1, f, c, h, w) at `time`, with the guided velocity, to `state`.

    growth: the velocity's norm over the last one's where that is beyond GROWTH_BOUND, else None.
    """

    latents: Tensor
    time: float
    velocity: Tensor
    state: SamplerState
    growth: float | None = None

    def clean_estimate(self) -> Tensor:
        """The latents at time 1 (1, f, c, h, w), were the velocity constant from here on."""
        return self.latents + (1 - self.time) * self.velocity


def denoise(start: SamplerState, plan: EvaluationPlan, passes: Passes) -> Iterator[Step]:
    """The steps that follow `start`, each when it is done, in float32.

    Raises StudioError where latents are not finite: they are never yielded, hence never saved.
    """
    state = start
    for index in range(start.step, len(plan.nodes)):
        node = plan.nodes[index]
        velocity = guide(passes(state.latents, node), node.guidance)
        growth = _growth(velocity, state.velocity)
        now, before = plan.weights(index, first_order=growth is not None or state.velocity is None)
        latents = state.latents.float() + velocity.float() * now
        if before and state.velocity is not None:
            latents = latents + state.velocity * before
        if not torch.isfinite(latents).all():
            raise StudioError(
                "latents_not_finite", step=index + 1, steps=len(plan.nodes), phase="denoise", cfg_scale=node.guidance
            )
        kept = velocity if plan.theta else None
        after = SamplerState(latents, index + 1, kept, state.growths + (growth is not None))
        yield Step(state.latents, node.time, velocity, after, growth)
        state = after


def noise(video: VideoShape, channels: int, seed: int) -> Tensor:
    """The starting latents of a seed: (1, f, c, h, w) float32, drawn on the CPU so that every device starts equal.

    By numpy: torch.randn draws other numbers on a CPU without AVX2 (tests/bench/LOG.md).
    """
    drawn = np.random.Generator(np.random.PCG64(seed)).standard_normal(video.latent_shape(channels))
    return torch.from_numpy(drawn.astype(np.float32))


def guide(velocities: Sequence[Tensor], guidance: float) -> Tensor:
    """Classifier-free guidance in float32: away from the unconditional velocity, towards the conditional one."""
    if len(velocities) == 1:
        return velocities[0]
    conditional, unconditional = velocities
    return unconditional + guidance * (conditional - unconditional)


def _growth(velocity: Tensor, before: Tensor | None) -> float | None:
    """How many times the last velocity's norm, where that is beyond the bound."""
    if before is None:
        return None
    last = float(before.norm())
    ratio = float(velocity.norm()) / last if last else 1.0
    return ratio if ratio > GROWTH_BOUND else None
