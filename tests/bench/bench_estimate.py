"""What an estimate costs at each edit of the form, and how true it is for nano's first jobs on this machine.

    python tests/bench/bench_estimate.py [--repeats 20] [--jobs 3]

ms_per_edit: processor milliseconds of Estimator.for_page at public sizes, the best of the repeats (other work on the
machine only makes a repeat slower): "kept" by one estimator, as the page does it, and "anew" by a new one at each edit,
which builds the networks' sizes each time. Of cards that need not be here; asking for the free VRAM is not in it.
jobs: seconds foretold by `plan` and taken by `generate`, each in a process of its own, on a machine that knows nothing
yet. A line is appended to tests/bench/results/estimate.jsonl.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from studio.config import ModelConfig, StudioConfig, load_models, load_studio  # noqa: E402
from studio.memory.planning.speeds import load_speeds  # noqa: E402
from studio.pipeline.engine import CACHE_FOLDER, EngineOptions  # noqa: E402
from studio.pipeline.estimate import Estimator  # noqa: E402
from studio.settings import GenerationSettings, ResolvedSettings  # noqa: E402
from tests.bench.bench_networks import keep_line, machine  # noqa: E402

RESULTS = ROOT / "tests" / "bench" / "results" / "estimate.jsonl"
APP = [sys.executable, str(ROOT / "app.py")]
# name: model, device, VRAM in GB, RAM in GB
EDITS = {
    "t2v, 24 GB card": ("step-video-t2v", "cuda", 24, 64),
    "t2v, 4 GB card, does not fit": ("step-video-t2v", "cuda", 4, 64),
    "ti2v, 24 GB card": ("step-video-ti2v", "cuda", 24, 64),
    "t2v, CPU": ("step-video-t2v", "cpu", None, 64),
    "t2v, CPU, does not fit": ("step-video-t2v", "cpu", None, 2),
}


def edit_costs(folder: Path, repeats: int) -> dict[str, dict[str, float]]:
    """Case -> processor milliseconds per edit, "kept" and "anew"."""
    load_speeds(folder / CACHE_FOLDER, torch.device("cpu"))
    costs = {}
    for case, (name, device, vram, ram) in EDITS.items():
        model = load_models()[name]
        config = load_studio(model_dir=str(folder), output_dir=str(folder), vram_gb=vram, ram_gb=ram)
        image = "given" if model.takes_image else None
        settings = GenerationSettings(name, "x", first_image=image).resolve(model)
        options = EngineOptions(device)
        kept = Estimator(config, options)
        kept.for_page(settings, model)
        costs[case] = {
            "kept": best_ms(partial(kept.for_page, settings, model), repeats),
            "anew": best_ms(partial(estimate_anew, config, options, settings, model), repeats),
        }
    return costs


def estimate_anew(
    config: StudioConfig, options: EngineOptions, settings: ResolvedSettings, model: ModelConfig
) -> dict[str, object]:
    """As it is with an estimator that knows nothing yet."""
    return Estimator(config, options).for_page(settings, model)


def best_ms(call: Callable[[], object], repeats: int) -> float:
    """Processor milliseconds of the fastest call."""
    best = float("inf")
    for _ in range(repeats):
        began = time.process_time()
        call()
        best = min(best, time.process_time() - began)
    return round(best * 1e3, 2)


def job_times(folder: Path, count: int) -> Iterator[dict[str, float]]:
    """Seconds foretold and taken by nano's jobs, each with a new prompt."""
    flags = ["--model", "nano", "--output-dir", str(folder)]
    for number in range(count):
        asked = subprocess.run([*APP, "plan", *flags, "--json"], capture_output=True, text=True, check=True)
        words = ["--prompt", f"a red circle, {number}", "--seed", "1"]
        made = subprocess.run([*APP, "generate", *flags, *words], capture_output=True, text=True, check=True)
        took = sum(float(seconds) for seconds in re.findall(r" ([\d.]+) s", made.stdout.splitlines()[-1]))
        yield {"foretold": json.loads(asked.stdout)["seconds_total"], "took": round(took, 1)}


def main() -> None:
    """Measure, print, append."""
    parser = argparse.ArgumentParser(description="Estimates: their cost and their truth")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        costs = edit_costs(Path(folder) / "edits", options.repeats)
        jobs = list(job_times(Path(folder) / "jobs", options.jobs))
    print(keep_line(RESULTS, machine() | {"ms_per_edit": costs, "jobs": jobs}))


if __name__ == "__main__":
    main()
