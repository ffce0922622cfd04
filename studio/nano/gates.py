"""The judge as a gate: what int8 weights and fewer steps cost, on the same captions and the same noise."""

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from models.quantized import int8_network
from studio.nano.evaluate import Tally, difference, judge_model
from studio.nano.model import Denoiser, SampleSettings
from studio.nano.world import WorldSettings

FEW_STEPS = 10  # Turbo's own, and what the undistilled model is given for comparison


def judge_gates(
    alone: Denoiser,
    turbo: Denoiser | None,
    vae: nn.Module,
    world: WorldSettings,
    count: int,
    settings: SampleSettings,
    full: Mapping[str, Tally],
) -> dict[str, Any]:
    """Way -> marks per language, and `against_full`: points above (below: negative) the full run's tallies `full`.

    Ways: "int8"; "few" steps of the undistilled model, guided; "turbo", where there is one: few steps, no guidance.
    """
    few = dataclasses.replace(settings, infer_steps=FEW_STEPS)
    ways = {"int8": (int8_denoiser(alone), settings), "few": (alone, few)}
    if turbo is not None:
        ways["turbo"] = (turbo, dataclasses.replace(few, cfg_scale=1.0))
    out: dict[str, Any] = {}
    for name, (denoiser, how) in ways.items():
        tallies = judge_model(denoiser, vae, world, count, how, with_image=False)
        marks = {language: tally.summary() for language, tally in tallies.items()}
        against = difference(list(tallies.values()), [full[language] for language in tallies])
        out[name] = {**marks, "settings": vars(how), "against_full": against}
    return out


@torch.no_grad()
def int8_denoiser(denoiser: Denoiser) -> Denoiser:
    """A copy whose transformer blocks and LLM layers hold int8 weights, as `app.py quantize` makes them."""
    copied = copy.deepcopy(denoiser)
    int8_network(copied.transformer, "transformer")
    int8_network(copied.step_llm, "step_llm")
    return copied
