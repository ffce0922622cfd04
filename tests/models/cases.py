"""The networks of the parity data with their weights and inputs, and the peak memory of a call."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from models.quantized import Scratch, scratch_elements
from models.transformer import Transformer, TransformerParams
from tests.golden.rule import PARITY, fill, normal

CLIP_LENGTH, LLM_LENGTH = 7, 13
VALID = (18, 12)  # positions of sample 0 and 1: all of CLIP's, then 11 and 5 of the LLM's
LATENT_SHAPE = tuple(PARITY["latent"][size] for size in ("frames", "channels", "height", "width"))


@dataclass
class Case:
    """A transformer and the batch of two that its parity outputs were made from."""

    network: Transformer
    latents: Tensor
    timestep: Tensor
    prompt: Tensor
    clip: Tensor
    mask: Tensor
    conditions: dict[str, Tensor | float]  # what TI2V takes besides; empty for T2V

    def sample(self, i: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Arguments of `embed` for sample i alone, its text cut to what is valid."""
        row = slice(i, i + 1)
        return self.latents[row], self.timestep[row], self.prompt[row, : VALID[i] - CLIP_LENGTH], self.clip[row]

    def conditions_of(self, i: int) -> dict[str, Tensor | float]:
        """Keywords of `embed` for sample i alone."""
        return {
            name: value[i : i + 1] if isinstance(value, Tensor) else value for name, value in self.conditions.items()
        }

    def batch(self) -> Tensor:
        """The velocity of both samples at once, with the mask."""
        return self.network(self.latents, self.timestep, self.prompt, self.clip, self.mask, **self.conditions)


def transformer_case(name: str, dtype: torch.dtype = torch.float32) -> Case:
    """`dit_t2v` or `dit_ti2v` of the parity data in `dtype`."""
    network = fill(Transformer(TransformerParams.from_config(PARITY[name])), PARITY[f"{name}_keys"]).to(dtype)
    conditions: dict[str, Tensor | float] = {}
    if name == "dit_ti2v":
        image = normal("condition_hidden_states", (2, *LATENT_SHAPE)).to(dtype)
        image[:, 1:] = 0
        conditions = {"image_latents": image, "motion_score": 5.0}
    return Case(
        network=network,
        latents=normal("hidden_states", (2, *LATENT_SHAPE)).to(dtype),
        timestep=torch.full((2,), 0.37),
        prompt=normal("encoder_hidden_states", (2, LLM_LENGTH, 64)).to(dtype),
        clip=normal("encoder_hidden_states_2", (2, CLIP_LENGTH, 48)).to(dtype),
        mask=torch.arange(CLIP_LENGTH + LLM_LENGTH) < torch.tensor(VALID)[:, None],
        conditions=conditions,
    )


def scratch_for(unit: nn.Module, dtype: torch.dtype = torch.float32) -> Scratch:
    """Buffers on the CPU for a unit after `int8_block`."""
    first, second = (torch.empty(elements, dtype=dtype) for elements in scratch_elements(unit))
    return Scratch((first, second))


def peak_bytes(function: Callable[[], object]) -> int:
    """The most bytes that `function` held on the CPU at any time beyond those before it, kernels' scratch included."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    events = profiler.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    return peak
