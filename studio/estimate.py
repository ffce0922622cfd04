"""What a video would take before it is made: the plan and its seconds, for a card that is here or for any other."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from studio.config import COMPONENTS, ModelConfig, StudioConfig, part_folder
from studio.engine import CACHE_FOLDER, EngineOptions, compute_dtype, named_device, pick_device, weights_file
from studio.memory.budget import budgets_for
from studio.memory.plan import GB, Budgets, Plan
from studio.memory.planner import phase_seconds, step_seconds
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


def estimate(
    settings: GenerationSettings,
    model: ModelConfig,
    config: StudioConfig,
    options: EngineOptions,
    speeds: dict[str, float | None],
) -> Estimate:
    """For the command line: resolved settings on `options.device`, which need not be here.

    speeds: tflops, link_gbps, disk_gbps that were given (None: this machine's, else assumed).
    """
    device = named_device(options.device)
    found = given_speeds(machine_speeds(model, config, device), **speeds)
    return _estimate(model, settings, config, replace(options, device=str(device)), _budgets(device, config), found)


def page_estimate(
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
    speeds = known_speeds(config.output_dir / CACHE_FOLDER, device.type, weights_file(_folders(model, config)))
    made = _estimate(model, settings, config, replace(options, device=str(device)), budgets, speeds)
    total = made.total(settings.infer_steps) if made.plan.fits else None
    return {**made.plan.summary(), "seconds_total": total, "remedy": dict(made.plan.reason)}


def machine_speeds(model: ModelConfig, config: StudioConfig, device: torch.device) -> Speeds:
    """Measured where the device is here, on the disk where the model is; else assumed, as the output says."""
    if device.type == "cuda" and not torch.cuda.is_available():
        return ASSUMED["cuda"]
    return load_speeds(config.output_dir / CACHE_FOLDER, device, weights_file(_folders(model, config)))


def _estimate(
    model: ModelConfig,
    settings: GenerationSettings,
    config: StudioConfig,
    options: EngineOptions,
    budgets: Budgets,
    speeds: Speeds,
) -> Estimate:
    device = torch.device(options.device)
    plans = Plans(
        {part: folder for part, folder in _folders(model, config).items() if folder is not None},
        device,
        compute_dtype(device),
        budgets,
        speeds=speeds,
        offload=options.offload,
        quantize=options.quantize,
        takes_image=model.takes_image,
    )
    video = video_shape(settings)
    # A plan leaves room for guidance, so that it holds for every request; without guidance a step is one pass.
    request, plan = replace(plans.request(video), conditions=1 if settings.cfg_scale == 1 else 2), plans.of(video)
    plan = replace(plan, seconds_per_step=step_seconds(request, plan))
    return Estimate(plan, phase_seconds(request, plan))


def _folders(model: ModelConfig, config: StudioConfig) -> dict[str, Path | None]:
    variant = model.variant(model.takes_image)
    return {part: part_folder(variant, part, config.model_dir) for part in COMPONENTS}


def _budgets(device: torch.device, config: StudioConfig) -> Budgets:
    """The named budgets; a card that is not here needs --vram."""
    if device.type == "cuda" and not torch.cuda.is_available():
        ram = config.ram_gb * GB if config.ram_gb else budgets_for(torch.device("cpu"), config).ram_bytes
        return Budgets(int((config.vram_gb or 0) * GB), int(ram))
    return budgets_for(device, config)
