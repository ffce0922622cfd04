"""The judge as a gate: what int8 weights and fewer steps cost, on the same captions and the same noise."""

from collections.abc import Mapping
from typing import Any

from studio.nano.clips import NanoFolder
from studio.nano.evaluate import Tally, difference, judge_model
from studio.nano.world import WorldSettings

FEW_STEPS = 10  # Turbo's own, and what the undistilled model is given for comparison


def judge_gates(
    folder: NanoFolder, world: WorldSettings, count: int, overrides: Mapping[str, Any], full: Mapping[str, Tally]
) -> dict[str, Any]:
    """Way -> marks per language, `computed`, and `against_full`: points above (below: negative) the full run's `full`.

    Ways: "int8" weights; "few" steps of the undistilled model, guided; "turbo", where there is one: with its own
    defaults, few steps without guidance. overrides: settings of the full run that are not the model's defaults.
    """
    ways: dict[str, dict[str, Any]] = {
        "int8": {"name": "nano", "int8": True, "overrides": overrides},
        "few": {"name": "nano", "overrides": {**overrides, "infer_steps": FEW_STEPS}},
        "turbo": {"name": "nano-turbo", "overrides": {k: overrides[k] for k in ("height", "width") if k in overrides}},
    }
    if not folder.has("nano-turbo"):
        del ways["turbo"]
    out: dict[str, Any] = {}
    for way, how in ways.items():
        with folder.open(**how) as maker:
            tallies = judge_model(maker, world, count, with_image=False)
            computed = maker.computed
        marks = {language: tally.summary() for language, tally in tallies.items()}
        against = difference(list(tallies.values()), [full[language] for language in tallies])
        out[way] = {**marks, "computed": computed, "against_full": against}
    return out
