"""What the judge says of the modes, what becomes of Turbo under falling guidance, and the time that fast saves."""

import argparse
import json
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from studio.events import Event, PhaseStarted
from studio.nano.evaluate import Tally, difference
from studio.nano.judge import psnr
from studio.nano.world import Scene
from studio.pipeline.endpoints import Subject
from studio.pipeline.evaluation_plan import EvaluationPlan, make_plan
from studio.pipeline.frames import decode_frames
from studio.pipeline.generate import generate
from studio.pipeline.run import Request
from studio.settings import GuidanceSchedule, Speed
from tests.bench.bench_plans import CELLS, FIRST, STEPS, WORLD, Bench, Cell, modes, numbers, own_steps

JUDGED = CELLS[:4]
OFFICIAL = f"exact {STEPS} k13"
ROWS = (OFFICIAL, "exact 20 k3", f"fast {STEPS} k13", f"draft {STEPS} k13", "calibrated fast", "calibrated draft")
TURBO_SHIFT, TURBO_STEPS = 3.0, 10
KEPT_CLIPS = 2 * len(ROWS)


def judged(bench: Bench, options: argparse.Namespace) -> dict[str, Any]:
    """Per cell and plan: points above the official 50 steps, marks, and PSNR of the frames against them."""
    asked = {}
    for cell in JUDGED:
        plans = modes(cell, bench.calibration(cell)) | own_steps(cell.cfg_scale)
        asked[cell] = {name: plans[name] for name in ROWS if name in plans}
    return {"rows": _rows(bench, asked, OFFICIAL, numbers("judge", options))}


def turbo(bench: Bench, options: argparse.Namespace) -> dict[str, Any]:
    """nano-turbo, distilled at guidance 1: with more guidance, held and falling (paper, eq. 11), against its own."""
    plans = {}
    for guidance in (1.0, 2.0, 4.0):
        for schedule in GuidanceSchedule:
            plan = make_plan(TURBO_STEPS, TURBO_SHIFT, guidance, schedule=schedule)
            plans[f"guidance {guidance:g}, {schedule}"] = plan
    own = "guidance 1, constant"
    same = plans[own] == plans["guidance 1, falling"]
    rows = _rows(bench, {Cell("text", 1.0, 17): plans}, own, numbers("turbo", options), name="nano-turbo")
    return {"rows": rows, "falling is constant at guidance 1": same}


def _rows(
    bench: Bench,
    asked: Mapping[Cell, Mapping[str, EvaluationPlan]],
    official: str,
    scenes: Iterable[int],
    name: str = "nano",
) -> list[dict[str, Any]]:
    """Judge every plan's clip of every prompt."""
    tallies = {(cell, plan): Tally() for cell, plans in asked.items() for plan in plans}
    decibels: dict[tuple[Cell, str], list[float]] = {row: [] for row in tallies}
    known = Judgements(bench.work / "judged.jsonl")
    for number in scenes:
        subjects = {cell: bench.subject(number, cell, name) for cell in asked}
        for (cell, plan), tally in tallies.items():
            subject = subjects[cell]
            told = known.of(subject, asked[cell][plan], asked[cell][official], bench.scene(number))
            tally.marks.append(told["marks"])
            tally.asked.append(subject.settings.motion_score or 0.0)
            tally.measured.append(told["measured"])
            tally.roughness.append(told["roughness"])
            decibels[cell, plan].append(told["psnr"])
    return [
        {
            "model": name,
            "kind": cell.kind,
            "cfg": cell.cfg_scale,
            "plan": plan,
            "passes": sum(asked[cell][plan].forwards.values()),
            "n": len(tally.marks),
            "against_official": difference([tally], [tallies[cell, official]]),
            "psnr_to_official": round(float(np.median(decibels[cell, plan])), 2),
            "marks": {key: value["share"] for key, value in tally.summary().items() if isinstance(value, dict)},
        }
        for (cell, plan), tally in tallies.items()
    ]


class Judgements:
    """What the judge said of clips, by the keys of their endpoints, in a file that grows."""

    def __init__(self, path: Path) -> None:
        self._path, self._known, self._decoded = path, dict[str, dict[str, Any]](), dict[str, np.ndarray]()
        if path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
            rows = [json.loads(line) for line in lines if line.endswith("}")]  # the last one may be half a line
            self._known = {row["key"]: row for row in rows}

    def of(self, subject: Subject, plan: EvaluationPlan, official: EvaluationPlan, scene: Scene) -> dict[str, Any]:
        """marks, measured motion score and roughness of a plan's clip, and its PSNR against the official plan's."""
        key = f"{subject.key(plan)} {subject.key(official)}"
        if key not in self._known:
            frames, best = self._frames(subject, plan), self._frames(subject, official)
            tally = Tally()
            tally.add(scene, frames, 0.0, WORLD)
            row = {"key": key, "marks": tally.marks[0], "measured": tally.measured[0], "roughness": tally.roughness[0]}
            self._known[key] = row | {"psnr": round(psnr(frames, best), 2)}
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(self._known[key]) + "\n")
        return self._known[key]

    def _frames(self, subject: Subject, plan: EvaluationPlan) -> np.ndarray:
        """The clip as `generate` would write it. The last ones are kept: the official plan's serves its whole row."""
        key = subject.key(plan)
        if key not in self._decoded:
            while len(self._decoded) >= KEPT_CLIPS:
                self._decoded.pop(next(iter(self._decoded)))
            self._decoded[key] = decode_frames(subject.end(plan).latents, subject.settings, subject.endpoints.engine)
        return self._decoded[key]


def timed(bench: Bench, options: argparse.Namespace) -> dict[str, Any]:
    """Exact and fast in turn, pairs of both kinds: seconds of the denoising phase and of the whole, per video."""
    took: dict[str, list[dict[str, dict[str, float]]]] = {"text": [], "image": []}

    def pair(number: int, kind: str) -> dict[str, dict[str, float]]:
        subject = bench.subject(number, Cell(kind, 9.0, 17))
        return {str(speed): _time(subject, bench.work / "timed", str(speed)) for speed in (Speed.EXACT, Speed.FAST)}

    for kind in took:
        pair(FIRST - 1, kind)  # loads the networks
    for number in numbers("time", options):
        for kind, pairs in took.items():
            pairs.append(pair(number, kind))
    return {kind: _ratios(pairs) for kind, pairs in took.items()}


def _ratios(pairs: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """By clock and by processor time: fast over exact, the median over pairs, beside the ratio of their passes."""
    named = ("passes", "denoise", "denoise_processor", "whole", "whole_processor")
    ratios = {
        name: round(float(np.median([pair["fast"][name] / pair["exact"][name] for pair in pairs])), 4) for name in named
    }
    means = {
        speed: {name: round(float(np.mean([pair[speed][name] for pair in pairs])), 4) for name in named}
        for speed in ("exact", "fast")
    }
    return {
        "fast_over_exact": {name: round(ratio, 4) for name, ratio in ratios.items()},
        "means": means,
        "n": len(pairs),
    }


def _time(subject: Subject, folder: Path, speed: str) -> dict[str, float]:
    """One whole video; its prompt is encoded before."""
    settings = replace(subject.settings, infer_steps=STEPS, time_shift=13.0, speed=speed)
    if subject.picture is not None:
        settings = replace(settings, first_image="first frame")
    shutil.rmtree(folder, ignore_errors=True)
    began: dict[str, tuple[float, float]] = {}

    def emit(event: Event) -> None:
        if isinstance(event, PhaseStarted):
            began[event.phase] = time.perf_counter(), time.process_time()

    engine = subject.endpoints.engine
    with subject.opened():  # encoded and loaded, so that the phases are compared warm
        pass
    start = time.perf_counter(), time.process_time()
    generate(Request(settings, folder / "video", folder / "work", subject.picture), engine, emit, lambda: False)
    end = time.perf_counter(), time.process_time()
    (from_wall, from_cpu), (to_wall, to_cpu) = began["denoise"], began["decode"]
    told = json.loads((folder / "video.json").read_text(encoding="utf-8"))
    return {
        "passes": float(sum(told["forwards"].values())),
        "denoise": to_wall - from_wall,
        "denoise_processor": to_cpu - from_cpu,
        "whole": end[0] - start[0],
        "whole_processor": end[1] - start[1],
    }
