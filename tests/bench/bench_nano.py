"""The shipped nano's marks, kept: `python -m studio.nano judge`, and a line for tests/bench/results/nano.jsonl.

    python tests/bench/bench_nano.py [-n 40]

Prints the tables of assets/nano/README.md and of docs/performance.md.
"""

import argparse
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from models.checkpoint import load_vae  # noqa: E402
from studio.config import load_models  # noqa: E402
from studio.nano.model import SampleSettings, load_denoiser  # noqa: E402
from studio.nano.report import gates_table, marks_table, report  # noqa: E402
from studio.nano.world import WORLDS  # noqa: E402
from tests.bench.bench_networks import keep_line, machine  # noqa: E402

RESULTS = ROOT / "tests" / "bench" / "results" / "nano.jsonl"
ASSETS = ROOT / "assets" / "nano"
FIELDS = ("infer_steps", "cfg_scale", "time_shift", "num_frames", "height", "width")


def main() -> None:
    """Judge, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=40, help="held-out captions per language")
    count = parser.parse_args().n
    torch.set_num_threads(1)
    defaults = load_models()["nano"].defaults
    settings = SampleSettings(**{name: defaults[name] for name in FIELDS})
    names = [name for name in ("t2v", "ti2v", "turbo") if (ASSETS / name).is_dir()]
    networks = {name: load_denoiser(ASSETS / name, ASSETS / "t2v", "cpu") for name in names}
    began = time.perf_counter()
    told = report(
        networks["t2v"], networks["ti2v"], networks.get("turbo"), load_vae(ASSETS / "t2v", torch.float32),
        WORLDS["small"], count, settings,
    )  # fmt: skip
    row = {**machine(), "world": "small", "seconds": round(time.perf_counter() - began, 1), **told}
    keep_line(RESULTS, row)
    print(marks_table(told), gates_table(told), told["chinese_above_english"], f"{row['seconds']} s", sep="\n\n")


if __name__ == "__main__":
    main()
