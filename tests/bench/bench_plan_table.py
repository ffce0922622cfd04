"""The table of docs/performance.md: what the planner says for cards and RAM that need not be here, from sizes alone.

    python tests/bench/bench_plan_table.py [--quantize int8] [--tflops N --link-gbps N --disk-gbps N]

Prints markdown, states the speeds that the seconds follow from, and appends a line to tests/bench/results/plans.jsonl.
"""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from models.geometry import VideoShape  # noqa: E402
from studio.memory.plan import Budgets, Plan, WeightMode  # noqa: E402
from studio.memory.planning.footprint import Architecture, ModelSizes  # noqa: E402
from studio.memory.planning.peaks import PlanRequest  # noqa: E402
from studio.memory.planning.planner import plan_run  # noqa: E402
from studio.memory.planning.speeds import ASSUMED, Speeds, given_speeds  # noqa: E402
from studio.units import GB  # noqa: E402
from tests.bench.bench_networks import keep_line, machine  # noqa: E402

RESULTS = ROOT / "tests" / "bench" / "results" / "plans.jsonl"
VRAM = (12, 16, 24, 32, 48, 80)
RAM = (32, 64, 128)
FRAMES = (51, 102, 204)
HEIGHT, WIDTH = 544, 992


def plan_table(sizes: ModelSizes, speeds: Speeds) -> dict[tuple[int, int, int], Plan]:
    """(VRAM GB, RAM GB, frames) -> plan."""
    return {
        (vram, ram, frames): plan_run(
            PlanRequest(sizes, VideoShape(frames, HEIGHT, WIDTH), Budgets(vram * GB, ram * GB), speeds)
        )
        for vram in VRAM
        for ram in RAM
        for frames in FRAMES
    }


def markdown(plans: dict[tuple[int, int, int], Plan]) -> list[str]:
    """One row per VRAM and RAM; a cell says seconds per step, and where the 48 blocks are."""
    head = ["VRAM", "RAM", *(f"{frames} frames" for frames in FRAMES)]
    lines = [f"| {' | '.join(head)} |", "|-" * len(head) + "|"]
    for vram in VRAM:
        for ram in RAM:
            cells = [_cell(plans[vram, ram, frames]) for frames in FRAMES]
            lines.append(f"| {vram} GB | {ram} GB | {' | '.join(cells)} |")
    return lines


def _cell(plan: Plan) -> str:
    if not plan.fits:
        return "does not fit"
    sources = plan.summary()["sources"]
    names = {"resident": "on the card", "pinned": "in RAM", "cached": "from disk", "direct": "from disk"}
    where = ", ".join(f"{count} {names[source]}" for source, count in sources.items())
    return f"{plan.seconds_per_step:.0f} s; {where}"


def main() -> None:
    """Plan, print, append."""
    parser = argparse.ArgumentParser(description="What the planner says of every card")
    parser.add_argument(
        "--quantize", type=WeightMode, choices=(WeightMode.NONE, WeightMode.INT8), default=WeightMode.NONE
    )
    for name in ("tflops", "link-gbps", "disk-gbps"):
        parser.add_argument(f"--{name}", type=float)
    options = vars(parser.parse_args())
    quantize = options.pop("quantize")
    speeds = given_speeds(ASSUMED["cuda"], **options)
    plans = plan_table(ModelSizes.of(Architecture(), torch.bfloat16, quantize), speeds)
    print("\n".join(markdown(plans)))
    rows = {" ".join(map(str, key)): _row(plan) for key, plan in plans.items()}
    keep_line(RESULTS, machine() | {"quantize": quantize, "speeds": asdict(speeds), "vram_ram_frames": rows})
    print(f"\nSeconds follow from: {speeds}", file=sys.stderr)


def _row(plan: Plan) -> dict[str, object]:
    summary = plan.summary()
    names = ("fits", "vram_peak_gb", "ram_peak_gb", "seconds_per_step", "sources", "compact_decode")
    return {name: summary[name] for name in names}


if __name__ == "__main__":
    main()
