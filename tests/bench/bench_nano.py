"""The shipped nano's marks, kept: `python -m studio.nano judge`, and a line for tests/bench/results/nano.jsonl.

    python tests/bench/bench_nano.py [-n 40] [--gates 40]

Prints the tables of assets/nano/README.md and of docs/performance.md.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from studio.nano.clips import NanoFolder  # noqa: E402
from studio.nano.report import conditions_line, gates_table, marks_table, report  # noqa: E402
from studio.nano.world import WORLDS  # noqa: E402
from tests.bench.bench_networks import keep_line, machine  # noqa: E402

RESULTS = ROOT / "tests" / "bench" / "results" / "nano.jsonl"


def main() -> None:
    """Judge, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=40, help="held-out captions per language")
    parser.add_argument("--gates", type=int, help="of those, the first that the gates are judged on; all by default")
    options = parser.parse_args()
    torch.set_num_threads(1)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as work:
        told = report(
            NanoFolder(ROOT / "assets" / "nano", Path(work), "cpu"), WORLDS["small"], options.n, {}, options.gates
        )
    row = {**machine(), "world": "small", "seconds": round(time.perf_counter() - began, 1), **told}
    keep_line(RESULTS, row)
    print(conditions_line(told), marks_table(told), gates_table(told), told["chinese_above_english"], sep="\n\n")
    print(f"{row['seconds']} s")


if __name__ == "__main__":
    main()
