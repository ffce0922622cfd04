"""Streaming on a GPU: the full-size transformer with random weights, each variant in a process of its own.

    python tests/bench/bench_stream.py [--frames 17 51 102 204] [--variants ...] [--minutes 9] [--folder DIR]
        [--results FILE] [--commit HASH, where the tree is a copy without git]

First the floor, in the same way: bytes over link speed and FLOP over matrix speed, both measured here. Then one row per
variant and length, the important ones first, appended to tests/bench/results/stream.jsonl as soon as it is measured,
with whatever was measured when its time was up; a table last. Calls may be short: what the file has whole for this
commit is not measured again. Seconds per block are of three steps back to back through 48 blocks, two conditions, by
events of the device, after two steps that load; peaks are of all of them, without the CUDA context, which `outside_gb`
is if nothing else runs on the device. `bits` are equal where every plan gives the same velocities. Variants: ours
resident, from pinned RAM, pinned and from disk in turn, from disk past the page cache, int8 from pinned RAM; under a
named budget (budget_80, _24, _16), and ti2v_24: two steps and the decoding within 24 GB; diffusers' group offloading
with streams, accelerate's cpu offload, mmgp, which run both conditions as one batch through 12 blocks, where they are
installed. `--rehearse` runs everything tiny on the CPU. Without a GPU it says so.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.bench.bench_networks import keep_line, machine  # noqa: E402
from tests.bench.gpu_facts import run_child  # noqa: E402
from tests.bench.stream_variants import LIBRARIES, VARIANTS, Setting, floor  # noqa: E402
from tests.memory.big_model import drop_page_cache  # noqa: E402

RESULTS = ROOT / "tests" / "bench" / "results" / "stream.jsonl"
COLUMNS = (
    "block_seconds", "predicted_block_seconds", "peak_vram_gb", "predicted_gb", "outside_gb", "pinned_gb", "ram_gb",
    "alloc_retries", "kept", "bits", "failed",
)  # fmt: skip
# What matters most: a call of nine minutes may not come further.
FIRST = (
    ("ours_resident", 51), ("ours_resident", 102), ("ours_pinned", 102), ("ours_pinned", 51), ("ours_mixed", 102),
    ("ours_resident", 204), ("budget_24", 204), ("ti2v_24", 102),
)  # fmt: skip


def known(results: Path, commit: str | None) -> dict[tuple[str, int], dict[str, Any]]:
    """Rows of this commit that earlier calls measured whole."""
    if commit is None or not results.exists():
        return {}
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    whole = [line for line in lines if line["commit"] == commit and "failed" not in line]
    return {(line["variant"], line["frames"]): line for line in whole}


def in_order(variants: Iterable[str], frames: Iterable[int]) -> list[tuple[str, int]]:
    """Rows in the order they are measured: of those asked for the important ones, then variant by variant."""
    asked = [(name, length) for name in variants for length in frames]
    return [row for row in FIRST if row in asked] + [row for row in asked if row not in FIRST]


def run_apart(setting: Setting, name: str, frames: int, seconds: float) -> dict[str, Any]:
    """One row, in a process of its own that is ended when the time is up; what it had measured by then is kept."""
    if find_spec(LIBRARIES.get(name, "torch")) is None:
        return {"failed": f"{LIBRARIES[name]} is not installed"}
    if name == "ours_disk":
        drop_page_cache(setting.folder)
    command = [sys.executable, __file__, "--child", name, "--frames", str(frames), "--folder", str(setting.folder)]
    if setting.device.type == "cpu":
        command.append("--rehearse")
    lines, failed = run_child(command, seconds)
    row = {name: value for line in lines for name, value in line.items()}
    return row | ({"failed": failed} if failed else {})


def table(rows: Iterable[tuple[str, int, dict[str, Any]]]) -> str:
    """One line per row; overhead is over the resident row of the same length."""
    rows = list(rows)
    resident = {frames: row.get("block_seconds") for name, frames, row in rows if name == "ours_resident"}
    lines = [" | ".join(("frames", "variant", "overhead", *COLUMNS))]
    for name, frames, row in sorted(rows, key=lambda entry: entry[1]):
        seconds, base = row.get("block_seconds"), resident.get(frames)
        overhead = f"{100 * (seconds / base - 1):.1f} %" if seconds and base else ""
        lines.append(" | ".join((str(frames), name, overhead, *(str(row.get(column, "")) for column in COLUMNS))))
    return "\n".join(lines)


def measure_all(options: argparse.Namespace, setting: Setting) -> None:
    """Every row there is time for, then the table. This process itself takes nothing of the device."""
    end = time.monotonic() + options.minutes * 60
    least = run_apart(setting, "floor", options.frames[0], 120)
    print("floor", json.dumps(least), flush=True)
    facts = machine() | {"gpu": least.get("gpu"), "allocator": os.environ.get("PYTORCH_ALLOC_CONF")}
    if options.commit:  # the tree is a copy: what git says of it, if anything, is of another time
        facts |= {"commit": options.commit, "uncommitted_models": False}
    rows = {} if options.rehearse else known(options.results, facts["commit"])
    for name, frames in in_order(options.variants, options.frames):
        left = end - time.monotonic()
        if (name, frames) in rows or left < 10:
            continue
        row = run_apart(setting, name, frames, min(left, options.each))
        print(f"{frames} frames {name}: {json.dumps(row)}", flush=True)
        rows[name, frames] = row
        if not options.rehearse:
            keep_line(options.results, facts | {"variant": name, "frames": frames} | row)
    print(table((name, frames, row) for (name, frames), row in rows.items()))


def main() -> None:
    """Parse, then measure, or be one of the processes that do."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", nargs="+", type=int, default=[17, 51, 102, 204])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--each", type=float, default=240.0, help="seconds that one row may take")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "bench-stream")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--commit")
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--child", choices=[*VARIANTS, "floor"])
    options = parser.parse_args()
    if not options.rehearse and not torch.cuda.is_available():
        print("There is no GPU here: nothing was measured.")
        return
    if options.child:
        with torch.inference_mode():
            for part in (VARIANTS | {"floor": floor})[options.child](
                Setting(options.folder, options.rehearse), options.frames[0]
            ):
                print(json.dumps(part), flush=True)
        return
    measure_all(options, Setting(options.folder / ("tiny" if options.rehearse else "full"), options.rehearse))


if __name__ == "__main__":
    main()
