"""Memory plan and seconds of a video before it is made, on this machine or on a card that is not here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any, Generic, TypeVar

import torch

from models.geometry import VideoShape
from models.layout import COMPONENTS, LAYOUT
from models.quantized import int8_compute_available
from studio.config import ModelConfig, StudioConfig, part_folder
from studio.memory.plan import Budgets, Plan, RuntimeConfig, Sharing, WeightMode
from studio.memory.planning.footprint import ModelSizes
from studio.memory.planning.plan_cache import PlanCache, SizeCache
from studio.memory.planning.planner import gathered_step_seconds, phase_seconds, step_seconds
from studio.memory.planning.speeds import ASSUMED, Speeds, given_speeds, known_speeds, load_speeds, remember
from studio.memory.usage import budgets_for
from studio.pipeline.calibrated import Calibrations
from studio.pipeline.engine import CACHE_FOLDER, EngineOptions, compute_dtype, named_device, weights_file
from studio.pipeline.evaluation_plan import Calibration, plan_of
from studio.pipeline.job_times import JobTimes, load_job_times, store_job_times
from studio.pipeline.rank_roles import check_count
from studio.pipeline.run import Engine, file_errors
from studio.settings import ResolvedSettings
from studio.units import GB

FREE_SECONDS = 2.0  # asking for free VRAM takes tens of milliseconds, and a person edits a form faster than this
Value = TypeVar("Value")


@dataclass(frozen=True)
class Estimate:
    """A plan, and the seconds of a job by phase (events.PHASES): of one with a new prompt that nothing interrupts.

    gathered_step: seconds of a step, were each block loaded in parts by several devices and gathered, which is not
    built; None for one device.
    """

    plan: Plan
    seconds: dict[str, float]
    gathered_step: float | None = None

    @property
    def total(self) -> float:
        """Seconds of the whole job."""
        return sum(self.seconds.values())


class Estimator:
    """Estimates for one machine and one set of flags. Keeps the sizes of models, the free memory for two seconds, and
    the plans of the model that was asked for last, which serve every speed of a video."""

    def __init__(
        self,
        config: StudioConfig,
        options: EngineOptions,
        *,
        free_vram_gb: Callable[[], float | None] = lambda: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """options.device need not be in this machine. free_vram_gb: asked for by `for_page` on a GPU; None: unknown.

        Where options.sharing says that devices share each video, the plan is that of each, with config.ram_gb for it
        alone.
        """
        self._config, self._options, self._device = config, options, named_device(options.device)
        self._cache = config.output_dir / CACHE_FOLDER
        self._free_vram_gb = Recent(free_vram_gb, FREE_SECONDS, clock)
        self._ram = Recent(lambda: budgets_for(torch.device("cpu"), config), FREE_SECONDS, clock)
        self._plans: tuple[tuple[SizeCache, RuntimeConfig], PlanCache] | None = None
        self._sizes: dict[tuple[Any, ...], SizeCache] = {}
        self._public: dict[bool, ModelSizes] = {}  # of the published model, by whether it takes a picture
        self.calibrations = Calibrations(config, options)

    @file_errors()
    def for_command(
        self, settings: ResolvedSettings, model: ModelConfig, speeds: Mapping[str, float | None]
    ) -> Estimate:
        """Of a process's first job.

        speeds: tflops, link_gbps, disk_gbps as given; None: measured here, or assumed for a device that is not here.
        """
        found = given_speeds(self.machine_speeds(model), **speeds)
        return self._predict(settings, model, machine_budgets(self._device, self._config), found).expected(first=True)

    @file_errors()
    def for_page(self, settings: ResolvedSettings, model: ModelConfig, *, first: bool = True) -> dict[str, Any]:
        """The plan as the page shows it. Never touches the GPU: a CUDA context would take its memory.

        first: whether the worker process has made no video yet. Raises StudioError for a config that is none,
        InputError where so many devices cannot share it.
        """
        folders = self._folders(model)
        speeds = known_speeds(self._cache, self._device.type, weights_file(folders))
        made = self._predict(settings, model, self._page_budgets(), speeds).expected(first=first)
        return {
            **made.plan.summary(),
            "seconds_total": made.total if made.plan.fits else None,
            "remedy": dict(made.plan.reason),
            "gpus": 1 if self._options.sharing is None else self._options.sharing.devices,
        }

    @file_errors()
    def check_sharing(self, settings: ResolvedSettings, model: ModelConfig) -> None:
        """Raise InputError where the devices that share each video cannot share this one; StudioError for a config that
        is none.
        """
        self._check_sharing(settings, model)

    @file_errors()
    def missing_bytes(self, model: ModelConfig) -> int:
        """Bytes on disk, about, of the parts of a model that no folder has: bfloat16 but for CLIP, as published."""
        if model.takes_image not in self._public:
            cache = SizeCache({}, torch.bfloat16, takes_image=model.takes_image)
            self._public[model.takes_image] = cache.sizes(WeightMode.NONE)
        sizes, folders = self._public[model.takes_image], self._folders(model)
        parts = {
            "transformer": sizes.transformer.units * sizes.transformer.unit_bytes + sizes.transformer.rest_bytes,
            "step_llm": sizes.step_llm.units * sizes.step_llm.unit_bytes + sizes.step_llm.rest_bytes,
            "clip": sizes.clip_bytes,
            "vae": sizes.vae_bytes,
        }
        return sum(size for part, size in parts.items() if not _holds_weights(folders[part], part))

    @file_errors()
    def learn(self, engine: Engine, settings: ResolvedSettings, seconds: Mapping[str, float], *, first: bool) -> None:
        """Store what a finished job measured: the speeds of its steps and the seconds of its phases.

        first: whether it was its process's first job.
        """
        model = engine.model
        remember(self._cache, self._device, engine.memory.speeds)
        budgets = budgets_for(self._device, self._config)
        known = self._predict(settings, model, budgets, self.machine_speeds(model))
        learned = known.times.after(known.seconds, seconds, first=first)
        store_job_times(self._cache, self._device.type, model.name, learned)

    def machine_speeds(self, model: ModelConfig) -> Speeds:
        """Speeds of the device and of the model's disk, measured; assumed ones for a device that is not here."""
        if self._device.type == "cuda" and not torch.cuda.is_available():
            return ASSUMED["cuda"]
        int8 = self._options.weights is WeightMode.INT8_COMPUTE and int8_compute_available()
        return load_speeds(self._cache, self._device, weights_file(self._folders(model)), int8=int8)

    def _predict(
        self,
        settings: ResolvedSettings,
        model: ModelConfig,
        budgets: Budgets,
        speeds: Speeds,
    ) -> "_Prediction":
        options, video = self._options, settings.video_shape
        sharing = options.sharing
        runtime = RuntimeConfig(
            self._device, compute_dtype(self._device), budgets, options.offload, options.weights, speeds, sharing
        )
        plans = self._plan_cache(self._size_cache(model), runtime)
        self._check_sharing(settings, model)
        # A plan leaves room for guidance, so that it holds for every request; an unguided node is one pass.
        plan, evaluated = plans.plan(video), plan_of(settings, self._calibrations(model, settings))
        request = plans.request(video, guided=evaluated.is_guided)
        halves = sharing is not None and evaluated.is_guided and request.conditions == 1
        passes = [1 if halves else node.passes for node in evaluated.nodes]
        steps = {n: step_seconds(replace(request, conditions=n), plan) for n in set(passes)}
        plan = replace(plan, seconds_per_step=max(steps.values()))
        first = step_seconds(replace(request, conditions=passes[0]), plan, cold=True)
        parts = phase_seconds(request, plan)
        times = load_job_times(self._cache, self._device.type, model.name)
        image = parts["encode_image"] if settings.first_image is not None else 0.0
        predicted = {
            "encode_text": parts["encode_text"],
            "encode_image": image,
            "denoise": first + sum(steps[n] for n in passes[1:]),
            "decode": parts["decode"] / _turns(video, sharing),
        }
        gathered = gathered_step_seconds(replace(request, conditions=max(passes)), plan)
        return _Prediction(plan, predicted, times, gathered)

    def _plan_cache(self, sizes: SizeCache, runtime: RuntimeConfig) -> PlanCache:
        """Plans of these sizes on this machine as it is: the last ones, where nothing is another."""
        last = self._plans
        if last is None or last[0] != (sizes, runtime):
            last = self._plans = (sizes, runtime), PlanCache(sizes, runtime)
        return last[1]

    def _check_sharing(self, settings: ResolvedSettings, model: ModelConfig) -> None:
        if (sharing := self._options.sharing) is not None:
            guided = plan_of(settings, self._calibrations(model, settings)).is_guided
            check_count(sharing.devices, self._size_cache(model).architecture.transformer.heads, guided=guided)

    def _calibrations(self, model: ModelConfig, settings: ResolvedSettings) -> tuple[Calibration, ...]:
        return self.calibrations.of(model, settings.first_image is not None)

    def _size_cache(self, model: ModelConfig) -> SizeCache:
        """The model's sizes; computed again after it was installed or its config files changed."""
        folders = {part: folder for part, folder in self._folders(model).items() if folder is not None}
        key = (model.name, *((part, folder, _config_state(folder, part)) for part, folder in folders.items()))
        if key not in self._sizes:
            dtype = compute_dtype(self._device)
            self._sizes[key] = SizeCache(folders, dtype, takes_image=model.takes_image)
        return self._sizes[key]

    def _folders(self, model: ModelConfig) -> dict[str, Path | None]:
        variant = model.variant(model.takes_image)
        return {part: part_folder(variant, part, self._config.model_dir) for part in COMPONENTS}

    def _page_budgets(self) -> Budgets:
        config, budgets = self._config, self._ram()
        if self._device.type == "cpu":
            return budgets
        free = (self._free_vram_gb() or 0.0) - config.vram_reserve_gb
        return replace(budgets, vram_bytes=int((config.vram_gb or max(free, 0.0)) * GB))


def machine_budgets(device: torch.device, config: StudioConfig) -> Budgets:
    """The budgets of the config, else what is free; a card that is not here needs --vram."""
    if device.type == "cuda" and not torch.cuda.is_available():
        ram = config.ram_gb * GB if config.ram_gb else budgets_for(torch.device("cpu"), config).ram_bytes
        return Budgets(int((config.vram_gb or 0) * GB), int(ram))
    return budgets_for(device, config)


@dataclass(frozen=True)
class _Prediction:
    """A plan, the planner's seconds by phase, the factors learned from finished jobs, Estimate.gathered_step."""

    plan: Plan
    seconds: dict[str, float]
    times: JobTimes
    gathered: float | None

    def expected(self, *, first: bool) -> Estimate:
        return Estimate(self.plan, self.times.expected(self.seconds, first=first), self.gathered)


class Recent(Generic[Value]):
    """A value that is read again once it is `seconds` old."""

    def __init__(self, read: Callable[[], Value], seconds: float, clock: Callable[[], float]) -> None:
        self._read, self._seconds, self._clock = read, seconds, clock
        self._known: tuple[float, Value] | None = None

    def __call__(self) -> Value:
        """The value, at most `seconds` old."""
        now = self._clock()
        if self._known is None or now - self._known[0] > self._seconds:
            self._known = now, self._read()
        return self._known[1]


def _holds_weights(folder: Path | None, part: str) -> bool:
    """Whether a folder has more of a part than its tokenizer and config, which may come alone."""
    kinds = {Path(name).suffix for name in LAYOUT[part].weights}
    return folder is not None and any(path.suffix in kinds for path in (folder / LAYOUT[part].folder).glob("*"))


def _turns(video: VideoShape, sharing: Sharing | None) -> float:
    """How many times as fast chunks are decoded by several devices in turns."""
    return 1.0 if sharing is None else video.chunks / -(-video.chunks // sharing.devices)


def _config_state(folder: Path, part: str) -> tuple[int, int] | None:
    """Length and modification time of a component's config.json; None where it has none."""
    try:
        state = (folder / LAYOUT[part].folder / "config.json").stat()
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns
