"""Slow proofs: a model four times the RAM it may use, and twenty generations that leave nothing behind."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.bench.bench_disk import RAM_BYTES, measured_apart
from tests.memory.big_model import write_big
from tests.memory.tiny_model import write_model

ROOT = Path(__file__).resolve().parents[2]
WRITE_BYTES = 7 << 30
GENERATIONS, SETTLED = 20, 5

# Runs in a process of its own; prints RSS and the room's bytes after every generation.
REPEAT = """
import json, sys
from pathlib import Path
import torch
from studio.memory import usage as budget
from tests.memory.tiny_model import generate, open_manager
torch.set_num_threads(1)
rows = []
with torch.inference_mode():
    manager = open_manager(Path(sys.argv[1]), offload=sys.argv[2])
    for _ in range(int(sys.argv[3])):
        generate(manager, steps=3)
        usage = manager.usage()
        rows.append([budget.process_ram(), usage.resident_bytes, usage.slot_bytes, usage.pinned_bytes])
    manager.release()
print(json.dumps(rows))
"""


def slope(values: list[float]) -> float:
    """Least squares, per step."""
    x = torch.arange(len(values), dtype=torch.float64)
    y = torch.tensor(values, dtype=torch.float64)
    x, y = x - x.mean(), y - y.mean()
    return float((x @ y) / (x @ x))


@pytest.mark.slow
def test_six_gigabytes_run_within_one_and_a_half(tmp_path):
    """A whole generation in disk mode: VmHWM above the process's imports."""
    if shutil.disk_usage(tmp_path).free < WRITE_BYTES:
        pytest.skip(f"{WRITE_BYTES >> 30} GB of disk are needed at {tmp_path}")
    folder = tmp_path / "model"
    try:
        assert write_big(folder) >= 6 << 30
        row = measured_apart("ours", folder, steps=2)
    finally:
        shutil.rmtree(folder)
    assert "failed" not in row, row
    assert row["peak_mb"] << 20 <= RAM_BYTES


@pytest.mark.slow
@pytest.mark.parametrize("offload", ["none", "disk"])
def test_twenty_generations_leave_nothing_behind(tmp_path, offload):
    write_model(tmp_path)
    command = [sys.executable, "-c", REPEAT, str(tmp_path), offload, str(GENERATIONS)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    rows = json.loads(done.stdout.splitlines()[-1])[SETTLED - 1 :]
    assert slope([row[0] for row in rows]) <= 1 << 20
    assert len({tuple(row[1:]) for row in rows}) == 1, "the room's own bytes are exactly equal"


@pytest.mark.slow
def test_the_streaming_bench_runs(tmp_path):
    """Tiny and on the CPU, so that it works on the day a GPU is there; without one it says so."""
    bench = [sys.executable, "tests/bench/bench_stream.py", "--folder", str(tmp_path)]
    variants = ["ours_pinned", "ours_int8_pinned", "ti2v_24"]
    done = subprocess.run(
        [*bench, "--rehearse", "--frames", "17", "--variants", *variants], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0 and '"failed"' not in done.stdout, done.stdout + done.stderr
    assert done.stdout.count("17 frames") == len(variants)
    if not torch.cuda.is_available():
        assert "no GPU" in subprocess.run(bench, capture_output=True, text=True, cwd=ROOT, check=True).stdout
