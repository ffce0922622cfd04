"""What the first GPU has to tell, in one call: everything of the CUDA path that was reasoned about and never run.

    python tests/bench/first_gpu.py [--minutes 9] [--parts ...] [--folder DIR] [--commit HASH] [--rehearse]

Parts run in processes of their own, the important ones first; rows go to tests/bench/results/first_gpu.jsonl as they
come, those of the streaming bench to stream.jsonl. Call it again where the time was up: parts that are whole for this
commit are not repeated. The table of all rows comes last. Needs torch, numpy, safetensors, psutil and, for the part
"tests", pytest. `--rehearse` runs everything tiny on the CPU and keeps nothing. Without a GPU it says so.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.bench import bench_stream  # noqa: E402
from tests.bench.bench_networks import keep_line, machine  # noqa: E402
from tests.bench.first_gpu_parts import PARTS, Sizes  # noqa: E402
from tests.bench.gpu_facts import run_child  # noqa: E402

RESULTS = ROOT / "tests" / "bench" / "results" / "first_gpu.jsonl"
# Parts that are programs of their own: the GPU tests, and rows of the streaming bench (three steps back to back).
PROGRAMS = {
    "tests": [
        "-m",
        "pytest",
        "tests/memory/test_gpu.py",
        "-q",
        "-m",
        "gpu",
        "-o",
        "addopts=",
        "-p",
        "no:cacheprovider",
    ],
    "stream": ["tests/bench/bench_stream.py", "--frames", "51", "102"]
    + ["--variants", "ours_resident", "ours_pinned", "ours_mixed"],
}
ORDER = ("context", "register", "tests", "triton", "attention", "block", "gemm", "stream", "vae")
PLAN_WITHIN = 0.05
LEAST_SECONDS = 20  # a part is not begun with less


def known(results: Path, commit: str | None) -> dict[str, list[dict[str, Any]]]:
    """Part -> its rows, of parts that earlier calls finished for this commit."""
    if commit is None or not results.exists():
        return {}
    found: dict[str, list[dict[str, Any]]] = {}
    for line in results.read_text().splitlines():
        row = json.loads(line)
        if row["commit"] == commit and row["part"] in ORDER:
            found.setdefault(row["part"], []).append(row)
    return {part: rows for part, rows in found.items() if not any(row.get("failed") for row in rows)}


def run_part(part: str, options: argparse.Namespace, seconds: float) -> list[dict[str, Any]]:
    """The rows of a part. One that failed, or whose time was up, ends with a row that says so."""
    command = [sys.executable, __file__, "--child", part]
    if part in PROGRAMS:
        command = [sys.executable, *PROGRAMS[part]]
    if part == "stream":
        command += ["--minutes", f"{seconds / 60:.2f}", "--folder", str(options.folder)]
        command += ["--commit", options.commit] if options.commit else []
    if options.rehearse and part != "tests":
        command += ["--rehearse", *(["--frames", "17"] if part == "stream" else [])]
    rows, failed = run_child(command, seconds + LEAST_SECONDS)
    if part == "tests" and not failed:
        passed = None if options.rehearse else True
        rows = [{"check": "the GPU tests", "value": "passed" if passed else "skipped", "ok": passed}]
    if part == "stream":
        rows = stream_rows(bench_stream.known(bench_stream.RESULTS, options.commit or machine()["commit"]))
    return rows + ([{"check": part, "value": "", "failed": failed}] if failed else [])


def stream_rows(found: dict[tuple[str, int], dict[str, Any]]) -> list[dict[str, Any]]:
    """What the streaming bench measured, against the aims: overhead over resident, plan against peak, equal bits."""
    rows = []
    for (name, frames), measured in found.items():
        what, resident = f"{name}, {frames} frames", found.get(("ours_resident", frames))
        seconds, peak, planned = (measured.get(key) for key in ("block_seconds", "peak_vram_gb", "predicted_gb"))
        rows.append({"check": f"ms of a block, {what}", "value": seconds and round(1e3 * seconds, 2)})
        if peak and planned:
            ok = abs(planned / peak - 1) <= PLAN_WITHIN
            rows.append({"check": f"planned GB of reserved, {what}", "value": f"{planned} of {peak}", "ok": ok})
        if resident and name != "ours_resident" and seconds and resident.get("block_seconds"):
            over, most = seconds / resident["block_seconds"] - 1, 0.01 if frames >= 102 else 0.03
            expected = f"at most {100 * most:.0f} %"
            rows.append({"check": f"overhead, {what}", "value": f"{100 * over:.1f} %", "expected": expected})
            rows[-1]["ok"] = over <= most
            same = measured.get("bits") == resident.get("bits")
            rows.append({"check": f"bits of resident, {what}", "value": measured.get("bits"), "ok": same})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """One line per row: what was asked, found and expected; the last column says yes, no, or nothing."""
    lines = ["part | check | value | expected | as expected"]
    for row in rows:
        verdict = {True: "yes", False: "NO", None: ""}[row.get("ok")]
        value = row.get("failed") and f"failed: {row['failed']}" or row.get("value", "")
        lines.append(f"{row['part']} | {row['check']} | {value} | {row.get('expected', '')} | {verdict}")
    return "\n".join(lines)


def run_all(options: argparse.Namespace) -> None:
    """Every part there is time for, then the table. This process itself takes nothing of the device."""
    end = time.monotonic() + options.minutes * 60
    facts = machine()
    if options.commit:  # the tree is a copy: what git says of it, if anything, is of another time
        facts |= {"commit": options.commit, "uncommitted_models": False}
    done = {} if options.rehearse else known(options.results, facts["commit"])
    for part in options.parts:
        left = end - time.monotonic()
        if part in done or left < LEAST_SECONDS:
            continue
        began = time.monotonic()
        done[part] = [{"part": part} | row for row in run_part(part, options, min(left, options.each))]
        print(f"{part}: {len(done[part])} rows in {time.monotonic() - began:.0f} s", flush=True)
        for row in done[part]:
            if not options.rehearse:
                keep_line(options.results, facts | row)
    print(table([row for part in options.parts for row in done.get(part, [])]))
    if missing := [part for part in options.parts if part not in done]:
        print(f"not begun, call again: {', '.join(missing)}")


def main() -> None:
    """Parse, then run all parts, or be one of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parts", nargs="+", choices=ORDER, default=list(ORDER))
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--each", type=float, default=240.0, help="seconds that one part may take")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "bench-stream")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--commit")
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--child", choices=PARTS)
    options = parser.parse_args()
    if not options.rehearse and not torch.cuda.is_available():
        print("There is no GPU here: nothing was measured.")
        return
    if options.child:
        with torch.inference_mode():
            for row in PARTS[options.child](Sizes(options.rehearse)):
                print(json.dumps(row), flush=True)
        return
    run_all(options)


if __name__ == "__main__":
    main()
