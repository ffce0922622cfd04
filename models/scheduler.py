"""The sampler: Euler steps along the rectified flow, on a time grid that lingers near the noise."""

import torch
from torch import Tensor


class FlowMatchScheduler:
    """`times` (infer_steps + 1,) float32 on the CPU, from 0 (noise) to 1 (data).

    With s from 1 to 0 in equal steps, t = 1 - k s / (1 + (k - 1) s) for time_shift k: the larger, the more steps are
    spent on the outlines. ValueError for fewer than one step or a shift that is not positive.
    """

    def __init__(self, infer_steps: int, time_shift: float):
        if infer_steps < 1 or time_shift <= 0:
            raise ValueError(f"Needs at least one step and a positive time shift, not {infer_steps} and {time_shift}.")
        s = torch.linspace(1, 0, infer_steps + 1, dtype=torch.float64)
        self.times = (1 - time_shift * s / (1 + (time_shift - 1) * s)).float()

    def step(self, velocity: Tensor, latents: Tensor, i: int) -> Tensor:
        """Latents at times[i + 1] from those at times[i], in float32 whatever the network computes in."""
        return latents.float() + velocity.float() * float(self.times[i + 1] - self.times[i])
