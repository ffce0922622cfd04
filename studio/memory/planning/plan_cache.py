"""The plans of one model on this machine: made when asked for, smaller once memory ran out, corrected by timing."""

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch

from models.agreement import config_path, read_params
from models.geometry import VideoShape
from models.kernels import TRITON
from models.transformer import TransformerParams
from studio.errors import DoesNotFit
from studio.memory.plan import Budgets, Plan, RuntimeConfig, WeightMode
from studio.memory.planning import planner
from studio.memory.planning.footprint import Architecture, ModelSizes
from studio.memory.planning.peaks import HOST_BASE_BYTES, PlanRequest
from studio.memory.planning.speeds import ASSUMED
from studio.memory.streaming.reader import BOUNCE_BYTES
from studio.memory.usage import CAP_SLACK_BYTES, CUDA_CONTEXT_BYTES


class SizeCache:
    """The sizes of one model by weight mode, each computed once: that builds networks on the meta device."""

    def __init__(self, parts: Mapping[str, Path], dtype: torch.dtype, *, takes_image: bool = False) -> None:
        """parts: component -> checkpoint folder, of which config files alone are read. It may be empty: a model that is
        not installed has the public sizes, and `takes_image` tells TI2V's.
        """
        self._parts, self._dtype, self._takes_image = parts, dtype, takes_image
        self._sizes: dict[WeightMode, ModelSizes] = {}

    def sizes(self, weights: WeightMode) -> ModelSizes:
        """The model's sizes with its weights stored this way. Raises CheckpointError for a config that is none."""
        if weights not in self._sizes:
            self._sizes[weights] = ModelSizes.of(self.architecture, self._dtype, weights)
        return self._sizes[weights]

    @cached_property
    def architecture(self) -> Architecture:
        """Of the four networks. Raises as `sizes`."""
        here = {name: folder for name, folder in self._parts.items() if os.path.lexists(config_path(folder, name))}
        params = {name: read_params(folder, name) for name, folder in here.items()}
        return Architecture.of_parts(params, takes_image=self._takes_image)


class PlanCache:
    """The plans of one model by video."""

    def __init__(self, sizes: SizeCache, config: RuntimeConfig) -> None:
        """sizes: in config.dtype."""
        self._sizes, self._config = sizes, config
        self.speeds = config.speeds or ASSUMED[config.device.type]
        self._planned: dict[VideoShape, Plan] = {}
        self._set: dict[VideoShape, Plan] = {}

    def plan(self, video: VideoShape) -> Plan:
        """The current plan for a video; it may say that it does not fit."""
        if video in self._set:
            return self._set[video]
        if video not in self._planned:
            self._planned[video] = planner.plan_run(self.request(video))
        return self._planned[video]

    def fitting_plan(self, video: VideoShape) -> Plan:
        """As `plan`. Raises DoesNotFit, with what would fit."""
        plan = self.plan(video)
        if not plan.fits:
            raise DoesNotFit("no_plan", reason=dict(plan.reason))
        return plan

    def set_plan(self, plan: Plan) -> None:
        """Use this plan for its video."""
        self._set[plan.video] = plan

    def limit(self, budgets: Budgets) -> None:
        """Keep these budgets too, from here on: plans that were made for larger ones are made anew."""
        now = self._config.budgets
        least = Budgets(min(now.vram_bytes, budgets.vram_bytes), min(now.ram_bytes, budgets.ram_bytes))
        if least != now:
            self._config = replace(self._config, budgets=least)
            self.clear()

    def step_down(self, video: VideoShape, phase: str) -> Plan | None:
        """Make the next smaller plan for a phase the current one; None where there is none."""
        smaller = planner.step_down(self.request(video), self.plan(video), phase)
        if smaller is not None:
            self.set_plan(smaller)
        return smaller

    def phase_bytes(self, video: VideoShape, phase: str) -> int:
        """Bytes that a phase takes on the device."""
        return planner.phase_bytes(self.request(video), self.plan(video)).get(phase, 0)

    @property
    def device_limit(self) -> int:
        """Bytes that all networks and activations together may take on the device."""
        device, budgets = self._config.device.type, self._config.budgets
        if device == "cuda":
            return budgets.vram_bytes - CUDA_CONTEXT_BYTES - CAP_SLACK_BYTES
        return budgets.ram_bytes - HOST_BASE_BYTES[device] - BOUNCE_BYTES

    @property
    def transformer(self) -> TransformerParams:
        """The sizes of the transformer, as its config tells them."""
        return self._sizes.sizes(self._config.weights).architecture.transformer

    def calibrate(self, video: VideoShape, conditions: int, seconds: float) -> None:
        """Correct the speeds by the seconds that a step took in steady state; plans are made anew.

        Not where devices share videos: their steps wait for each other.
        """
        if self._config.sharing is not None:
            return
        request = replace(self.request(video), conditions=conditions)
        self.speeds = planner.calibrate(request, self.plan(video), seconds)
        self._planned.clear()

    def clear(self) -> None:
        """Drop every plan, those that were set too; speeds stay."""
        self._planned.clear()
        self._set.clear()

    def request(self, video: VideoShape, *, guided: bool = True) -> PlanRequest:
        """What the plan of a video depends on. guided: a plan has room for two passes a step, so that it holds for one
        too.
        """
        config, speeds, sharing = self._config, self.speeds, self._config.sharing
        if sharing is not None:  # all of them read one disk
            speeds = replace(speeds, disk_gbps=speeds.disk_gbps / sharing.devices)
        return PlanRequest(
            sizes=self._sizes.sizes(config.weights),
            video=video,
            budgets=config.budgets,
            speeds=speeds,
            device=config.device.type,
            offload=config.offload,
            conditions=1 + guided if sharing is None else sharing.conditions(guided=guided),
            int8_sizes=None if config.weights.is_int8 else self._sizes.sizes(WeightMode.INT8),
            sharing=sharing,
            guided=guided,
            kernels=TRITON and config.device.type == "cuda",
        )
