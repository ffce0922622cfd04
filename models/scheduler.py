"""The sampler: Euler steps along the rectified flow, on a time grid with small steps near the noise.

x_t = (1 - t) noise + t data, velocity = data - noise (paper arXiv 2502.10248, equations 5 to 7).
"""

import torch
from torch import Tensor


class FlowMatchScheduler:
    """`times` (infer_steps + 1,) float32 on the CPU, from 0 (noise) to 1 (data).

    With s from 1 to 0 in equal steps, t = 1 - k s / (1 + (k - 1) s) for time_shift k: the larger k, the more steps lie
    near the noise, where the outlines are decided. ValueError for fewer than one step or a shift that is not positive.
    """

    def __init__(self, infer_steps: int, time_shift: float):
        if infer_steps < 1 or time_shift <= 0:
            raise ValueError(f"Needs at least one step and a positive time shift, not {infer_steps} and {time_shift}.")
        s = torch.linspace(1, 0, infer_steps + 1, dtype=torch.float64)
        self.times = (1 - time_shift * s / (1 + (time_shift - 1) * s)).float()

    def step(self, velocity: Tensor, latents: Tensor, i: int) -> Tensor:
        """Latents at times[i + 1], float32: velocity and latents at times[i], of one shape and any float dtype."""
        return latents.float() + velocity.float() * float(self.times[i + 1] - self.times[i])
