"""The real Streamer on a virtual clock: plans take the longest of computing, copying and reading, and the planner's
seconds are the streamer's."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
import torch

from studio.memory.plan import ComponentPlan, WeightMode
from studio.memory.planning import timing
from studio.memory.planning.footprint import Architecture, ModelSizes
from studio.memory.planning.planner import evenly
from studio.memory.planning.speeds import ASSUMED, Speeds
from tests.bench.bench_plan_table import plan_table
from tests.memory.streaming.virtual import UnitSeconds, pass_seconds

UNIT_BYTES = 1_208_000_000  # of a block in bfloat16
REGISTER_SECONDS = 0.7
# Seconds of a block's computation, copy and read: the README's assumed card, an A100, an H100 with a disk of 6 GB/s.
CARDS = {
    "51 frames, assumed": UnitSeconds(0.43, 0.048, 0.40, REGISTER_SECONDS),
    "51 frames, A100": UnitSeconds(0.27, 0.048, 0.40, REGISTER_SECONDS),
    "51 frames, H100": UnitSeconds(0.11, 0.048, 0.20, REGISTER_SECONDS),
    "51 frames, H100, 50 GB/s": UnitSeconds(0.11, 0.024, 0.20, REGISTER_SECONDS),
    "102 frames, H100": UnitSeconds(0.26, 0.048, 0.20, REGISTER_SECONDS),
    "102 frames, H100, 3 GB/s disk": UnitSeconds(0.26, 0.048, 0.40, REGISTER_SECONDS),
}
PATTERNS = {
    "pinned": ["pinned"] * 24,
    "direct": ["direct"] * 24,
    "two residents, pinned, direct": ["resident", "resident", "pinned", "direct"] * 6,
    "direct and pinned between residents": ["resident", "direct", "pinned", "resident"] * 6,
    "pinned, direct": ["pinned", "direct"] * 12,
    "direct, pinned": ["direct", "pinned"] * 12,
    "two pinned, direct": ["pinned", "pinned", "direct"] * 8,
    "two direct, pinned": ["direct", "direct", "pinned"] * 8,
}


@dataclass(frozen=True)
class Found:
    """Seconds of a pass: the streamer's in steady state and of the first one, the planner's, the longest queue's."""

    name: str
    steady: float
    cold: float
    planned: float
    planned_cold: float
    longest: float


def component(source: list[str]) -> ComponentPlan:
    resident = tuple(unit for unit, kind in enumerate(source) if kind == "resident")
    return ComponentPlan(resident, 2, tuple(source), UNIT_BYTES, rest_bytes=0)


def speeds_of(plan: ComponentPlan, seconds: UnitSeconds) -> Speeds:
    gigabytes = plan.unit_bytes / 1e9
    return replace(
        ASSUMED["cuda"],
        link_gbps=gigabytes / seconds.copy,
        disk_gbps=gigabytes / seconds.read,
        register_gbps=gigabytes / seconds.register,
    )


def run(name: str, plan: ComponentPlan, seconds: UnitSeconds) -> Found:
    passes = pass_seconds(plan, seconds)
    speeds, from_disk = speeds_of(plan, seconds), len(plan.streamed) - plan.source.count("pinned")
    queues = plan.units * seconds.compute, len(plan.streamed) * seconds.copy, from_disk * seconds.read
    planned, planned_cold = (
        timing.pass_seconds(plan, seconds.compute, speeds, on_cpu=False, cold=cold) for cold in (False, True)
    )
    return Found(name, passes[-1], passes[0], planned, planned_cold, max(queues))


def check(found: list[Found]) -> None:
    assert not [each for each in found if each.steady > 1.05 * each.longest], "slower than the longest queue"
    assert not [each for each in found if each.planned != pytest.approx(each.steady, rel=0.02)], "not as planned"
    assert not [each for each in found if each.planned_cold != pytest.approx(each.cold, rel=0.05)], "first pass"


def test_alternating_sources_stall_no_card() -> None:
    check(
        [
            run(f"{pattern}; {card}", component(source), seconds)
            for pattern, source in PATTERNS.items()
            for card, seconds in CARDS.items()
        ]
    )


def test_a_plan_that_is_short_of_ram_takes_its_computation() -> None:
    """12 GB of VRAM and 32 GB of RAM, 51 frames: 5 blocks resident, 25 in RAM, 18 on disk."""
    resident = evenly(5, 48)
    streamed = [unit for unit in range(48) if unit not in resident]
    from_disk = {streamed[turn] for turn in evenly(18, 43)}
    kinds = ["resident" if unit in resident else "direct" if unit in from_disk else "pinned" for unit in range(48)]
    check([run(card, component(kinds), seconds) for card, seconds in CARDS.items()])


def table_plans() -> Iterator[tuple[str, ComponentPlan, UnitSeconds]]:
    """The plans of docs/performance.md, each once, with what their units take on the assumed card."""
    speeds = ASSUMED["cuda"]
    for mode in (WeightMode.NONE, WeightMode.INT8):
        sizes, known = ModelSizes.of(Architecture(), torch.bfloat16, mode), set()
        for key, made in plan_table(sizes, speeds).items():
            plan = made.transformer
            if (plan, made.video) in known:
                continue
            known.add((plan, made.video))
            gigabytes = plan.unit_bytes / 1e9
            yield (
                f"{mode.value} {key}",
                plan,
                UnitSeconds(
                    timing.block_seconds(sizes, made.video, 2, speeds, kernels=False),
                    gigabytes / speeds.link_gbps,
                    gigabytes / speeds.disk_gbps,
                    gigabytes / speeds.register_gbps,
                ),
            )


def test_every_plan_of_the_table_takes_the_longest_queue_and_what_was_planned() -> None:
    found = [run(*each) for each in table_plans()]
    assert len(found) > 40
    check(found)


def test_the_first_pass_registers_ahead_of_the_disk() -> None:
    """Registering and reading take the longer of the two, not their sum."""
    seconds = UnitSeconds(compute=0.1, copy=0.05, read=0.4, register=0.7)
    cold, *_ = pass_seconds(component(["pinned"] * 24), seconds)
    assert 24 * 0.7 < cold < 24 * 0.7 + 1.0
