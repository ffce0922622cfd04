"""What a video would take before it is made: the plan and its seconds, for a card that is here or for any other."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from models.layout import COMPONENTS
from models.quantized import int8_compute_available
from studio.config import ModelConfig, StudioConfig, part_folder
from studio.memory.plan import Budgets, Plan, RuntimeConfig, WeightMode
from studio.memory.planning.plan_cache import PlanCache
from studio.memory.planning.planner import phase_seconds, step_seconds
from studio.memory.planning.speeds import ASSUMED, Speeds, given_speeds, known_speeds, load_speeds
from studio.memory.usage import budgets_for
from studio.pipeline.engine import CACHE_FOLDER, EngineOptions, compute_dtype, named_device, pick_device, weights_file
from studio.pipeline.job_times import JobTimes, load_job_times, store_job_times
from studio.pipeline.preview import PICTURE_SIDE, PICTURES
from studio.settings import ResolvedSettings
from studio.units import GB


@dataclass(frozen=True)
class Estimate:
    """A plan, and the seconds of a job by phase (events.PHASES): of one with a new prompt that nothing interrupts."""

    plan: Plan
    seconds: dict[str, float]

    @property
    def total(self) -> float:
        """Seconds of the whole job."""
        return sum(self.seconds.values())


def estimate(
    settings: ResolvedSettings,
    model: ModelConfig,
    config: StudioConfig,
    options: EngineOptions,
    speeds: dict[str, float | None],
) -> Estimate:
    """For the command line: settings on `options.device`, which need not be here.

    speeds: tflops, link_gbps, disk_gbps that were given (None: this machine's, else assumed).
    """
    device = named_device(options.device)
    found = given_speeds(machine_speeds(model, config, options), **speeds)
    options = replace(options, device=str(device))
    return _foretell(settings, model, config, options, _budgets(device, config), found).expected(first=True)


def page_estimate(
    settings: ResolvedSettings,
    model: ModelConfig,
    config: StudioConfig,
    options: EngineOptions,
    free_vram_gb: float | None,
    *,
    first: bool = True,
) -> dict[str, Any]:
    """What the page shows of the plan of these settings. Never touches the GPU: a context would take its memory.

    free_vram_gb: what the driver's own program says is free there; None on a CPU. first: whether the worker process
    has made no video yet.
    """
    device = pick_device(options.device)
    budgets = budgets_for(torch.device("cpu"), config)
    if device.type == "cuda":
        free = (free_vram_gb or 0.0) - config.vram_reserve_gb
        budgets = replace(budgets, vram_bytes=int((config.vram_gb or max(free, 0.0)) * GB))
    speeds = known_speeds(config.output_dir / CACHE_FOLDER, device.type, weights_file(_folders(model, config)))
    options = replace(options, device=str(device))
    made = _foretell(settings, model, config, options, budgets, speeds).expected(first=first)
    return {
        **made.plan.summary(),
        "seconds_total": made.total if made.plan.fits else None,
        "remedy": dict(made.plan.reason),
    }


def machine_speeds(model: ModelConfig, config: StudioConfig, options: EngineOptions) -> Speeds:
    """Measured where the device is here, on the disk where the model is; else assumed, as the output says."""
    device = named_device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        return ASSUMED["cuda"]
    int8 = options.weights is WeightMode.INT8_COMPUTE and int8_compute_available()
    return load_speeds(config.output_dir / CACHE_FOLDER, device, weights_file(_folders(model, config)), int8=int8)


def learn(
    settings: ResolvedSettings,
    model: ModelConfig,
    config: StudioConfig,
    options: EngineOptions,
    seconds: Mapping[str, float],
    *,
    first: bool,
) -> None:
    """Remember what the phases of a finished job took. first: whether it was its process's first."""
    device = pick_device(options.device)
    cache, options = config.output_dir / CACHE_FOLDER, replace(options, device=str(device))
    speeds = machine_speeds(model, config, options)
    known = _foretell(settings, model, config, options, budgets_for(device, config), speeds)
    store_job_times(cache, device.type, model.name, known.times.after(known.seconds, seconds, first=first))


@dataclass(frozen=True)
class _Foretold:
    """A plan, its seconds by phase as far as the planner knows, and what jobs before taught."""

    plan: Plan
    seconds: dict[str, float]
    times: JobTimes

    def expected(self, *, first: bool) -> Estimate:
        return Estimate(self.plan, self.times.expected(self.seconds, first=first))


def _foretell(
    settings: ResolvedSettings,
    model: ModelConfig,
    config: StudioConfig,
    options: EngineOptions,
    budgets: Budgets,
    speeds: Speeds,
) -> _Foretold:
    device = torch.device(options.device)
    runtime = RuntimeConfig(device, compute_dtype(device), budgets, options.offload, options.weights, speeds)
    folders = {part: folder for part, folder in _folders(model, config).items() if folder is not None}
    plans = PlanCache(folders, runtime, takes_image=model.takes_image)
    video = settings.video_shape
    # A plan leaves room for guidance, so that it holds for every request; without guidance a step is one pass.
    request, plan = replace(plans.request(video), conditions=1 if settings.cfg_scale == 1 else 2), plans.plan(video)
    plan = replace(plan, seconds_per_step=step_seconds(request, plan))
    parts = phase_seconds(request, plan, colour_clips=(PICTURES, PICTURE_SIDE))
    times = load_job_times(config.output_dir / CACHE_FOLDER, device.type, model.name)
    image = parts["encode_image"] if settings.first_image is not None else 0.0
    foretold = {
        "encode_text": parts["encode_text"],
        "encode_image": image + (0.0 if times.ran_before else parts["colours"]),
        "denoise": parts["first_step"] + (settings.infer_steps - 1) * parts["step"],
        "decode": parts["decode"],
    }
    return _Foretold(plan, foretold, times)


def _folders(model: ModelConfig, config: StudioConfig) -> dict[str, Path | None]:
    variant = model.variant(model.takes_image)
    return {part: part_folder(variant, part, config.model_dir) for part in COMPONENTS}


def _budgets(device: torch.device, config: StudioConfig) -> Budgets:
    """The named budgets; a card that is not here needs --vram."""
    if device.type == "cuda" and not torch.cuda.is_available():
        ram = config.ram_gb * GB if config.ram_gb else budgets_for(torch.device("cpu"), config).ram_bytes
        return Budgets(int((config.vram_gb or 0) * GB), int(ram))
    return budgets_for(device, config)
