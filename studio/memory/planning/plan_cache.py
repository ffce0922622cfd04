"""The plans of one model on this machine: made when asked for, smaller once memory ran out, corrected by timing."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch

from models.checkpoint import LAYOUT
from models.weight_files import read_json
from studio.errors import DoesNotFit
from studio.memory.plan import Budgets, Plan, VideoShape
from studio.memory.planning import planner
from studio.memory.planning.footprint import Architecture, ModelSizes
from studio.memory.planning.planner import HOST_BASE_BYTES, PlanRequest
from studio.memory.planning.speeds import ASSUMED, Speeds
from studio.memory.streaming.sources import BOUNCE_BYTES
from studio.memory.usage import CUDA_CONTEXT_BYTES


class Plans:
    """Plans by video. Nothing but config files is read."""

    def __init__(
        self,
        parts: Mapping[str, Path],
        device: torch.device,
        dtype: torch.dtype,
        budgets: Budgets,
        *,
        speeds: Speeds | None,
        offload: str,
        quantize: str,
        takes_image: bool = False,
    ) -> None:
        """parts may be empty: a model that is not installed has the public sizes, and `takes_image` tells TI2V's."""
        self._parts, self._device, self._dtype, self._takes_image = parts, device, dtype, takes_image
        self._budgets, self._offload, self._quantize = budgets, offload, quantize
        self.speeds = speeds or ASSUMED[device.type]
        self._made: dict[VideoShape, Plan] = {}
        self._settled: dict[VideoShape, Plan] = {}

    def of(self, video: VideoShape) -> Plan:
        """The plan in force for a video; it may say that it does not fit."""
        if video in self._settled:
            return self._settled[video]
        if video not in self._made:
            self._made[video] = planner.plan_run(self.request(video))
        return self._made[video]

    def fitting(self, video: VideoShape) -> Plan:
        """As `of`. Raises DoesNotFit, with what would fit."""
        plan = self.of(video)
        if not plan.fits:
            raise DoesNotFit("no_plan", reason=dict(plan.reason))
        return plan

    def settle(self, plan: Plan) -> None:
        """Make this the plan in force for its video."""
        self._settled[plan.video] = plan

    def step_down(self, video: VideoShape, phase: str) -> Plan | None:
        """The next smaller plan for a phase, in force from now on; None where there is none."""
        smaller = planner.step_down(self.request(video), self.of(video), phase)
        if smaller is not None:
            self.settle(smaller)
        return smaller

    def needs(self, video: VideoShape, phase: str) -> int:
        """Bytes that a phase takes on the device."""
        return planner.phase_bytes(self.request(video), self.of(video)).get(phase, 0)

    @property
    def device_limit(self) -> int:
        """Bytes that all networks and activations together may take on the device."""
        if self._device.type == "cuda":
            return self._budgets.vram_bytes - CUDA_CONTEXT_BYTES
        return self._budgets.ram_bytes - HOST_BASE_BYTES[self._device.type] - BOUNCE_BYTES

    def correct(self, video: VideoShape, conditions: int, seconds: float) -> None:
        """Learn from the time a step took in steady state."""
        request = replace(self.request(video), conditions=conditions)
        self.speeds = planner.calibrate(request, self.of(video), seconds)
        self._made.clear()

    def forget(self) -> None:
        """Plan anew from here on."""
        self._made.clear()
        self._settled.clear()

    def request(self, video: VideoShape) -> PlanRequest:
        """What the plan of a video follows from."""
        is_int8 = self._quantize != "none"
        return PlanRequest(
            sizes=self._int8_sizes if is_int8 else self._sizes,
            video=video,
            budgets=self._budgets,
            speeds=self.speeds,
            device=self._device.type,
            offload=self._offload,
            int8_sizes=None if is_int8 else self._int8_sizes,
        )

    @cached_property
    def _architecture(self) -> Architecture:
        places = {name: folder / LAYOUT[name].folder / "config.json" for name, folder in self._parts.items()}
        configs = {name: read_json(path) for name, path in places.items() if path.is_file()}
        return Architecture.from_configs(configs, takes_image=self._takes_image)

    @cached_property
    def _sizes(self) -> ModelSizes:
        return ModelSizes.of(self._architecture, self._dtype)

    @cached_property
    def _int8_sizes(self) -> ModelSizes:
        return ModelSizes.of(self._architecture, self._dtype, "int8" if self._quantize == "none" else self._quantize)
