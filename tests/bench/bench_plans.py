"""The modes on nano: endpoint errors against the converged solution, the judge's marks, and the time they save.

    python tests/bench/bench_plans.py all [--quick] [--minutes 13] [--pause FILE]

calibrates nano at guidance 9 and at 4 (shift 13), measures error, judge, turbo and time, and writes the chart and the
tables of docs/performance.md; each part can be run alone by its name (with --calibrated). --quick: clips of 17 frames,
few prompts, a coarser calibration and reference. --minutes: of processor time for the parts after the calibration; a
part ends with the prompt in which its share is over, and every row says of how many prompts it is.

Every pass is the studio's own (pipeline.endpoints, pipeline.generate). Killed at any time, the same command goes on
from the endpoints in --work; it waits while the --pause file exists. Prompts are held-out scenes of nano's world from
FIRST on, Chinese and English in turn; none of them is a prompt of `calibrate`, whose choice is fixed before. Every part
appends a line to tests/bench/results/plans_modes.jsonl.

error: root mean square distance of the endpoint from the solution over the latents' standard deviation. The solution is
Runge-Kutta's on refined intervals, four evaluations each, which serves every shift; on the first prompts it is compared
with AB2 on many nodes. judge: points above the official 50 steps on the same clips and noise. time: seconds of the
denoising phase, exact and fast in turn.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from studio.config import load_camera_moves, load_models, load_studio  # noqa: E402
from studio.nano.captions import caption  # noqa: E402
from studio.nano.clips import to_frames  # noqa: E402
from studio.nano.evaluate import held_out  # noqa: E402
from studio.nano.render import render  # noqa: E402
from studio.nano.world import WORLDS, Scene  # noqa: E402
from studio.pipeline.calibration_file import known_calibrations  # noqa: E402
from studio.pipeline.endpoints import Endpoints, Subject, distance  # noqa: E402
from studio.pipeline.engine import CACHE_FOLDER, EngineOptions, open_engine  # noqa: E402
from studio.pipeline.evaluation_plan import Calibration, EvaluationPlan, Node, Rule, make_plan, refined_times  # noqa: E402
from studio.pipeline.run import Engine  # noqa: E402
from studio.pipeline.sampler import guide  # noqa: E402
from studio.settings import GenerationSettings, Speed  # noqa: E402
from tests.bench.bench_networks import keep_line, machine  # noqa: E402

RESULTS = ROOT / "tests" / "bench" / "results" / "plans_modes.jsonl"
WORLD = WORLDS["small"]
FIRST = 200  # the number of the first scene; those below belong to the judge and to earlier experiments
STEPS = 50
SHIFTS = (3.0, 13.0)
CALIBRATED_SHIFT = 13.0
RUNGE_KUTTA = 44  # intervals of four evaluations
SIZE = (128, 128)  # height, width: the smallest that nano was trained at
CURVE_STEPS, CURVE_NODES = (10, 20, 30, 75, 100), (10, 14, 20, 40)


@dataclass(frozen=True)
class Cell:
    """What a row of the table is about. kind: "text" or "image"."""

    kind: str
    cfg_scale: float
    frames: int

    def __str__(self) -> str:
        return f"{self.kind}, cfg {self.cfg_scale:g}, {self.frames} frames"


CELLS = [Cell(kind, cfg, frames) for frames in (17, 34) for kind in ("text", "image") for cfg in (9.0, 4.0)]
DRAWN = CELLS[0]  # of the chart


@dataclass(frozen=True)
class Extent:
    """How much is measured. prompts: by part. checks: prompts a cell on which the reference is checked, in `checked`.

    intervals: of the reference. dense: nodes of what it is checked with. curve: prompts of the chart's further points.
    """

    prompts: Mapping[str, int]
    cells: Sequence[Cell]
    intervals: int
    dense: int
    checks: int
    checked: Sequence[Cell]
    curve: int


FULL = Extent({"error": 64, "judge": 80, "turbo": 80, "time": 5}, CELLS, RUNGE_KUTTA, 400, 2, CELLS, 16)
QUICK = Extent({"error": 8, "judge": 8, "turbo": 4, "time": 1}, CELLS[:4], 15, 120, 1, [DRAWN], 3)
SHARES = {"error": 0.6, "judge": 0.2, "turbo": 0.1, "time": 0.1}  # of --minutes


@dataclass
class Bench:
    """Engines, opened once; endpoints in the work folder; the calibrations of --calibrated."""

    work: Path
    pause: Path | None = None
    calibrated: Path | None = None
    scenes: dict[int, Scene] = field(default_factory=dict)
    engines: dict[tuple[str, bool], Engine] = field(default_factory=dict)

    def engine(self, name: str, has_image: bool) -> Engine:
        """The shipped model on the CPU."""
        if (name, has_image) not in self.engines:
            config = load_studio(output_dir=self.work)
            engine = open_engine(load_models()[name], has_image, load_camera_moves(), config, EngineOptions("cpu"))
            self.engines[name, has_image] = replace(engine, calibrations=())
        return self.engines[name, has_image]

    def calibration(self, cell: Cell) -> Calibration | None:
        """What `calibrate` chose on nano at the cell's guidance, with its kind of request."""
        if self.calibrated is None:
            return None
        has_image = cell.kind == "image"
        fingerprint = self.engine("nano", has_image).provenance["model_fingerprint"]
        cache = guidance_folder(self.calibrated, cell.cfg_scale) / CACHE_FOLDER
        known = known_calibrations(cache, fingerprint, has_image=has_image)
        return next((found for found in known if found.cfg_scale == cell.cfg_scale), None)

    def scene(self, number: int) -> Scene:
        """The held-out scene of a number."""
        if number not in self.scenes:
            self.scenes = dict(enumerate(held_out(WORLD, number + 100)))
        return self.scenes[number]

    def subject(self, number: int, cell: Cell, name: str = "nano") -> Subject:
        """A scene as a request: its caption, its seed and, where the cell says so, its first frame and score."""
        scene, has_image = self.scene(number), cell.kind == "image"
        values: dict[str, Any] = {"num_frames": cell.frames, "cfg_scale": cell.cfg_scale, "seed": number}
        values |= {"height": SIZE[0], "width": SIZE[1]}
        picture = None
        engine = self.engine(name, has_image)
        if has_image:
            clip = render([scene], cell.frames, *SIZE)
            picture = Image.fromarray(to_frames(clip.video[:, :1])[0, 0])
            values |= {"first_image": "first frame", "motion_score": float(clip.motion_score.item())}
        asked = GenerationSettings(name, caption(scene, language(number), number), **values)
        endpoints = Endpoints(engine, self.work / "endpoints", on_passes=self._wait)
        return endpoints.of(asked.resolve(engine.model), picture)

    def _wait(self, count: int, known: bool) -> None:
        while self.pause is not None and self.pause.exists():
            time.sleep(5)


def language(number: int) -> str:
    """Chinese and English in turn."""
    return ("zh", "en")[number % 2]


def guidance_folder(folder: Path, cfg_scale: float) -> Path:
    """The output folder of a `calibrate` at this guidance."""
    return folder / f"guidance-{cfg_scale:g}"


def modes(cell: Cell, calibration: Calibration | None) -> dict[str, EvaluationPlan]:
    """The plans of a row by name, for every shift."""
    plans = {}
    for shift in SHIFTS:
        for speed in Speed:
            plans[f"{speed} {STEPS} k{shift:g}"] = make_plan(STEPS, shift, cell.cfg_scale, speed)
    if calibration is not None:
        known = partial(make_plan, STEPS, CALIBRATED_SHIFT, cell.cfg_scale, calibration=calibration)
        plans |= {"calibrated fast": known(Speed.FAST), "calibrated draft": known(Speed.DRAFT)}
    return plans


def own_steps(cfg_scale: float) -> dict[str, EvaluationPlan]:
    """nano's own 20 steps."""
    return {f"{speed} 20 k3": make_plan(20, 3.0, cfg_scale, speed) for speed in Speed}


def curve(cfg_scale: float) -> dict[str, EvaluationPlan]:
    """More plans of the official shift, for the chart, and what lost: second order on the official grid."""
    plans = {f"exact {steps} k13": make_plan(steps, 13.0, cfg_scale) for steps in CURVE_STEPS}
    plans |= {f"rule {nodes} k13": Rule(nodes, 13.0, 0.8).plan(cfg_scale) for nodes in CURVE_NODES}
    official = make_plan(STEPS, 13.0, cfg_scale)
    return plans | {"second order on the official grid": EvaluationPlan(Speed.FAST, official.nodes, 1.0)}


def solution(bench: Bench, subject: Subject, cfg_scale: float, intervals: int) -> torch.Tensor:
    """The endpoint that all are compared with, kept like the others'."""
    kept = bench.work / "solutions" / f"{subject.key(Rule(intervals, 3.0, 1.0).plan(cfg_scale))}.pt"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        found = runge_kutta(subject, cfg_scale, intervals)
        part = kept.with_suffix(".part")
        torch.save(found, part)
        part.rename(kept)
    loaded: torch.Tensor = torch.load(kept)
    return loaded


@torch.no_grad()
def runge_kutta(subject: Subject, cfg_scale: float, intervals: int) -> torch.Tensor:
    """The endpoint by the classical fourth-order method on refined intervals."""
    times = (*refined_times(intervals, 3.0), 1.0)
    with subject.opened() as (latents, passes):

        def velocity(latents: torch.Tensor, moment: float) -> torch.Tensor:
            subject.endpoints.on_passes(0, False)
            return guide(passes(latents, Node(moment, cfg_scale)), cfg_scale)

        for begin, end in pairwise(times):
            h, middle = end - begin, (begin + end) / 2
            one = velocity(latents, begin)
            two = velocity(latents + h / 2 * one, middle)
            three = velocity(latents + h / 2 * two, middle)
            four = velocity(latents + h * three, end)
            latents = latents + h / 6 * (one + 2 * two + 2 * three + four)
    return latents


def numbers(what: str, options: argparse.Namespace) -> Iterator[int]:
    """The scenes of a part, in order; no more begins once its share of --minutes is over."""
    began = time.process_time()
    count = options.prompts or options.extent.prompts[what]
    for index in range(count):
        yield FIRST + index
        spent = time.process_time() - began
        print(f"{what}: {index + 1} of {count} prompts, {spent:.0f} s of processor time", file=sys.stderr, flush=True)
        if options.minutes is not None and spent > 60 * SHARES[what] * options.minutes:
            break


def errors(bench: Bench, options: argparse.Namespace) -> dict[str, Any]:
    """Rows of endpoint errors, a cell and a plan each, and how well the reference is known."""
    extent, checks = options.extent, dict[str, list[float]]()
    chosen = {cell: bench.calibration(cell) for cell in extent.cells}
    plans = {cell: modes(cell, chosen[cell]) for cell in extent.cells}
    found: dict[tuple[Cell, str], list[tuple[int, float, int]]] = {}
    for number in numbers("error", options):
        for cell in extent.cells:
            subject, here = bench.subject(number, cell), plans[cell]
            if number - FIRST < extent.curve:
                here = here | own_steps(cell.cfg_scale) | (curve(cell.cfg_scale) if cell == DRAWN else {})
            reference = solution(bench, subject, cell.cfg_scale, extent.intervals)
            if cell in extent.checked and number - FIRST < extent.checks:
                dense = subject.end(Rule(extent.dense, 3.0, 1.0).plan(cell.cfg_scale)).latents
                apart = distance(dense, reference)
                checks.setdefault(str(cell), []).append(round(apart, 5))
            for name, plan in here.items():
                state = subject.end(plan)
                found.setdefault((cell, name), []).append((number, distance(state.latents, reference), state.growths))
    rows = [
        error_row(cell, name, (plans[cell] | own_steps(cell.cfg_scale) | curve(cell.cfg_scale))[name], values)
        | {"above_official": above_official(values, {shift: found[cell, official(shift)] for shift in SHIFTS})}
        for (cell, name), values in found.items()
    ]
    return {
        "rows": rows,
        "size": SIZE,
        "reference_evaluations": 4 * extent.intervals,
        "reference_against_second_order": {"nodes": extent.dense, "distance": checks},
        "not_below_official": below_official(rows),
        "calibrations": {
            f"{cell.kind}, cfg {cell.cfg_scale:g}": asdict(found) for cell, found in chosen.items() if found is not None
        },
    }


def official(shift: float) -> str:
    """The name of the official 50 steps."""
    return f"exact {STEPS} k{shift:g}"


def above_official(
    values: list[tuple[int, float, int]], officials: Mapping[float, list[tuple[int, float, int]]]
) -> dict[str, int]:
    """By shift: on how many prompts a plan's error is above the official steps'."""
    counts = {}
    for shift, those in officials.items():
        known = {number: error for number, error, _ in those}
        counts[f"k{shift:g}"] = sum(error > known[number] for number, error, _ in values)
    return counts


def error_row(cell: Cell, name: str, plan: EvaluationPlan, values: list[tuple[int, float, int]]) -> dict[str, Any]:
    """A row of the table."""
    by_language = {
        key: round(float(np.mean([error for number, error, _ in values if language(number) == key])), 5)
        for key in ("zh", "en")
        if any(language(number) == key for number, *_ in values)
    }
    found = [error for _, error, _ in values]
    return {
        **vars_of(cell),
        "plan": name,
        "passes": sum(plan.forwards.values()),
        "mean": round(float(np.mean(found)), 5),
        "max": round(max(found), 5),
        **by_language,
        "n": len(found),
        "grown": sum(growths > 0 for *_, growths in values),
    }


def vars_of(cell: Cell) -> dict[str, Any]:
    """The cell as plain data."""
    return {"kind": cell.kind, "cfg": cell.cfg_scale, "frames": cell.frames}


def below_official(rows: list[Mapping[str, Any]]) -> list[str]:
    """What is to hold in every row and does not: fast and calibrated with mean and maximum below the official 50."""
    wrong = []
    for cell in dict.fromkeys(Cell(row["kind"], row["cfg"], row["frames"]) for row in rows):
        here = {row["plan"]: row for row in rows if Cell(row["kind"], row["cfg"], row["frames"]) == cell}
        for shift in SHIFTS:
            best = here[official(shift)]
            for name in (f"fast {STEPS} k{shift:g}", "calibrated fast"):
                served = name in here and (shift == CALIBRATED_SHIFT or not name.startswith("calibrated"))
                for measure in ("mean", "max"):
                    if served and here[name][measure] >= best[measure]:
                        wrong.append(
                            f"{cell}, shift {shift:g}: {name.partition(f' {STEPS}')[0]} {measure} "
                            f"{here[name][measure]}, official {best[measure]}"
                        )
    return wrong


@contextmanager
def kept(bench: Bench, what: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A results line: filled inside, appended and printed at the end."""
    line: dict[str, Any] = {}
    yield line
    prints = {
        f"{name}{' with image' if image else ''}": engine.provenance["model_fingerprint"]
        for (name, image), engine in bench.engines.items()
    }
    quick = options.extent is QUICK
    told = {"what": what, "quick": quick, **machine(), "fingerprints": prints}
    print(keep_line(RESULTS, told | line))


def calibrate(work: Path, quick: bool) -> Path:
    """Run `calibrate` as a user does, at every guidance; where the choices are."""
    folder = work / "calibrated"
    for cfg_scale in dict.fromkeys(cell.cfg_scale for cell in CELLS):
        asked = ["--cfg-scale", f"{cfg_scale:g}", "--time-shift", f"{CALIBRATED_SHIFT:g}", "--device", "cpu"]
        where = ["--output-dir", str(guidance_folder(folder, cfg_scale))]
        command = [sys.executable, str(ROOT / "app.py"), "calibrate", "nano", *asked, *where]
        subprocess.run([*command, *(["--quick"] if quick else [])], check=True)
    return folder


def main() -> None:
    """Measure, print, append."""
    from tests.bench import chart_plans
    from tests.bench.plans_judged import judged, timed, turbo

    runs: dict[str, Callable[[Bench, argparse.Namespace], dict[str, Any]]] = {
        "error": errors, "judge": judged, "turbo": turbo, "time": timed,
    }  # fmt: skip
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("all", *runs))
    parser.add_argument("--quick", action="store_const", dest="extent", const=QUICK, default=FULL)
    parser.add_argument("--prompts", type=int, help="instead of each part's own number")
    parser.add_argument("--minutes", type=float, help="of processor time, the calibration aside; no end without it")
    parser.add_argument("--work", type=Path, default=ROOT / "outputs" / "bench_plans")
    parser.add_argument("--calibrated", type=Path, help="the folder in which `all` calibrated")
    parser.add_argument("--pause", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    everything = options.what == "all"
    calibrated = calibrate(options.work, options.extent is QUICK) if everything else options.calibrated
    bench = Bench(options.work, options.pause, calibrated)
    for what in runs if everything else (options.what,):
        with kept(bench, what, options) as line:
            line |= runs[what](bench, options)
    if everything:
        chart_plans.main()


if __name__ == "__main__":
    main()
