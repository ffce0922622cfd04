"""`plan`: would a video fit a card, how, and about how long would it take."""

import argparse
import json
from dataclasses import replace
from typing import Any

from studio.commands import plan_speech
from studio.commands.gpus import planned_sharing, shared_config
from studio.commands.machine import card_options, find_model
from studio.config import load_camera_moves, load_speech
from studio.pipeline.estimate import Estimator
from studio.pipeline.evaluation_plan import plan_of
from studio.settings import GenerationSettings, ResolvedSettings, Speed


def run(options: argparse.Namespace) -> int:
    """Print the plan; 1 when nothing fits."""
    if options.model in load_speech():
        return plan_speech.run(options)
    sharing = planned_sharing(options)
    config = shared_config(options, 1 if sharing is None else sharing.devices)
    model = find_model(options.model, config)
    given = {name: getattr(options, name) for name in ("num_frames", "height", "width")}
    image = "given" if model.takes_image else None
    settings = GenerationSettings(model.name, "plan", first_image=image, **given).resolve(model)
    settings.check(model, load_camera_moves())
    speeds = {name: getattr(options, name) for name in ("tflops", "link_gbps", "disk_gbps")}
    estimator = Estimator(config, replace(card_options(options), sharing=sharing))
    calibrations = estimator.calibrations.of(model, model.takes_image)
    calibrated = estimator.calibrations.serve(model, model.takes_image, settings.cfg_scale, settings.time_shift)
    totals, passes = {}, {}
    for speed in (Speed.EXACT,) if model.turbo else Speed:
        asked = replace(settings, speed=str(speed))
        made = estimator.for_command(asked, model, speeds)
        totals[str(speed)] = round(made.total, 1)
        passes[str(speed)] = sum(plan_of(asked, calibrations).forwards.values())
    data = {**made.plan.summary(), "seconds_total": totals[Speed.EXACT], "seconds_by_speed": totals}
    data |= {"passes_by_speed": passes, "calibrated": calibrated, "gpus": 1}
    if sharing is not None and made.gathered_step is not None:
        data |= {"gpus": sharing.devices, "seconds_per_step_gathered": round(made.gathered_step, 4)}
    print(json.dumps(data, ensure_ascii=False) if options.json else "\n".join(_lines(settings, data)))
    return 0 if data["fits"] else 1


def _gathered(data: dict[str, Any]) -> str:
    """What loading each block in parts would change; no run does it."""
    seconds, now = data["seconds_per_step_gathered"], data["seconds_per_step"]
    verdict = "would be faster; not built" if seconds < 0.99 * now else "no faster"
    return f"  with 1/{data['gpus']} each    {seconds:8.1f} if each GPU loaded 1/{data['gpus']} of a block: {verdict}"


def _lines(settings: ResolvedSettings, data: dict[str, Any]) -> list[str]:
    video = f"{settings.num_frames} frames of {settings.height}x{settings.width}, {settings.infer_steps} steps"
    if not data["fits"]:
        return [f"{settings.model}, {video}: does not fit.", data["reason"]]
    gpus = data["gpus"]
    alone = gpus == 1
    sources = ", ".join(f"{count} {source}" for source, count in data["sources"].items())
    return [
        f"{settings.model}, {video}: fits{'' if alone else f' each of {gpus} GPUs'}.",
        f"  VRAM at most     {data['vram_peak_gb']:8.1f} GB",
        f"  RAM at most      {data['ram_peak_gb']:8.1f} GB{'' if alone else ' for each'}",
        f"  blocks           {sources}; {data['slots']} slots",
        *([f"  texts kept       {data['texts_kept_gb']:8.1f} GB"] if data["texts_kept_gb"] else []),
        f"  seconds per step {data['seconds_per_step']:8.1f}",
        *([] if alone else [_gathered(data)]),
        *(f"  {speed:16s} {_time(seconds)}{_note(speed, data)}" for speed, seconds in data["seconds_by_speed"].items()),
        f"  assuming         {', '.join(f'{key} {_short(value)}' for key, value in data['assumptions'].items())}",
    ]


def _note(speed: str, data: dict[str, Any]) -> str:
    """What a speed is, beside its time; Turbo has one only."""
    if len(data["seconds_by_speed"]) == 1:
        return " in all"
    fast = ", calibrated for this model" if data["calibrated"] else ""
    more = {"exact": "", "fast": fast, "draft": ", a preview"}[speed]
    return f" in all, {data['passes_by_speed'][speed]} passes{more}"


def _time(seconds: float) -> str:
    return f"{seconds:8.0f} seconds" if seconds < 120 else f"{seconds / 60:8.1f} minutes"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
