"""`plan`, and the page's line before Generate: would it fit, how, and about how long would it take."""

import argparse
import json
from dataclasses import dataclass, replace
from typing import Any

import torch

from studio.commands.machine import engine_options, find_model, studio_config
from studio.config import COMPONENTS, ModelConfig, StudioConfig, load_camera_moves, part_folder
from studio.engine import CACHE_FOLDER, EngineOptions, compute_dtype, pick_device
from studio.memory.budget import budgets_for
from studio.memory.plan import GB, Budgets, Plan, VideoShape
from studio.memory.planner import phase_seconds
from studio.memory.plans import Plans
from studio.memory.speeds import ASSUMED, Speeds, given_speeds, known_speeds, load_speeds
from studio.pipeline import video_shape
from studio.settings import GenerationSettings


@dataclass(frozen=True)
class Estimate:
    """A plan and the seconds its phases take."""

    plan: Plan
    seconds: dict[str, float]

    def total(self, infer_steps: int) -> float:
        """A whole generation with a new prompt, in seconds."""
        later = (infer_steps - 1) * self.seconds["step"]
        return self.seconds["encode_text"] + self.seconds["first_step"] + later + self.seconds["decode"]


def run_plan(options: argparse.Namespace) -> int:
    """Print the plan; 1 when nothing fits."""
    config = studio_config(options)
    model = find_model(options.model, config)
    given = {name: getattr(options, name) for name in ("num_frames", "height", "width")}
    image = "given" if model.takes_image else None
    settings = GenerationSettings(model.name, "plan", first_image=image, **given).resolve(model)
    settings.check(model, load_camera_moves())
    device = _device(options)
    speeds = given_speeds(
        _speeds(config, device), tflops=options.tflops, link_gbps=options.link_gbps, disk_gbps=options.disk_gbps
    )
    engine = replace(engine_options(options), device=str(device))
    estimate = _estimate(model, video_shape(settings), config, engine, _budgets(device, config), speeds)
    data = {**estimate.plan.summary(), "seconds_total": round(estimate.total(settings.infer_steps), 1)}
    print(json.dumps(data, ensure_ascii=False) if options.json else "\n".join(_lines(settings, data)))
    return 0 if data["fits"] else 1


def page_plan(
    settings: GenerationSettings,
    model: ModelConfig,
    config: StudioConfig,
    options: EngineOptions,
    free_vram_gb: float | None,
) -> dict[str, Any]:
    """What the page shows of the plan of resolved settings. Never touches the GPU: a context would take its memory.

    free_vram_gb: what the driver's own program says is free there; None on a CPU.
    """
    device = pick_device(options.device)
    budgets = budgets_for(torch.device("cpu"), config)
    if device.type == "cuda":
        free = (free_vram_gb or 0.0) - config.vram_reserve_gb
        budgets = replace(budgets, vram_bytes=int((config.vram_gb or max(free, 0.0)) * GB))
    speeds = known_speeds(config.output_dir / CACHE_FOLDER, device.type)
    video = video_shape(settings)
    estimate = _estimate(model, video, config, replace(options, device=str(device)), budgets, speeds)
    total = estimate.total(settings.infer_steps) if estimate.plan.fits else None
    return {**estimate.plan.summary(), "seconds_total": total, "remedy": estimate.plan.reason}


def _estimate(
    model: ModelConfig,
    video: VideoShape,
    config: StudioConfig,
    options: EngineOptions,
    budgets: Budgets,
    speeds: Speeds,
) -> Estimate:
    variant, device = model.variant(model.takes_image), torch.device(options.device)
    found = {part: part_folder(variant, part, config.model_dir) for part in COMPONENTS}
    plans = Plans(
        {part: folder for part, folder in found.items() if folder is not None},
        device,
        compute_dtype(device),
        budgets,
        speeds=speeds,
        offload=options.offload,
        quantize=options.quantize,
        takes_image=model.takes_image,
    )
    plan = plans.of(video)
    return Estimate(plan, phase_seconds(plans.request(video), plan))


def _device(options: argparse.Namespace) -> torch.device:
    """--vram asks about a card, whether this machine has one or not."""
    asked = engine_options(options).device
    return torch.device("cuda") if asked == "auto" and "vram" in vars(options) else pick_device(asked)


def _budgets(device: torch.device, config: StudioConfig) -> Budgets:
    """The named budgets; a card that is not here needs --vram."""
    if device.type == "cuda" and not torch.cuda.is_available():
        ram = config.ram_gb * GB if config.ram_gb else budgets_for(torch.device("cpu"), config).ram_bytes
        return Budgets(int((config.vram_gb or 0) * GB), int(ram))
    return budgets_for(device, config)


def _speeds(config: StudioConfig, device: torch.device) -> Speeds:
    """Measured where the device is here, else assumed, as the output says."""
    if device.type == "cuda" and not torch.cuda.is_available():
        return ASSUMED["cuda"]
    return load_speeds(config.output_dir / CACHE_FOLDER, device)


def _lines(settings: GenerationSettings, data: dict[str, Any]) -> list[str]:
    video = f"{settings.num_frames} frames of {settings.height}x{settings.width}, {settings.infer_steps} steps"
    if not data["fits"]:
        return [f"{settings.model}, {video}: does not fit.", data["reason"]]
    sources = ", ".join(f"{count} {source}" for source, count in data["sources"].items())
    return [
        f"{settings.model}, {video}: fits.",
        f"  VRAM at most     {data['vram_peak_gb']:8.1f} GB",
        f"  RAM at most      {data['ram_peak_gb']:8.1f} GB",
        f"  blocks           {sources}; {data['slots']} slots",
        f"  seconds per step {data['seconds_per_step']:8.1f}",
        f"  in all about     {data['seconds_total'] / 60:8.1f} minutes",
        f"  assuming         {', '.join(f'{key} {_short(value)}' for key, value in data['assumptions'].items())}",
    ]


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
