"""The script for the first GPU: everything of it but CUDA runs here, tiny."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.bench.first_gpu import ORDER, PROGRAMS, known, main, stream_rows, table
from tests.bench.first_gpu_parts import PARTS, Sizes

ROOT = Path(__file__).resolve().parents[2]


def test_every_part_tells_its_rows_and_finds_what_it_expects():
    assert {*PARTS, *PROGRAMS} == set(ORDER)
    rows = {}
    with torch.inference_mode():
        for work in PARTS.values():
            rows |= {row["check"]: row for row in work(Sizes(rehearse=True))}
    json.dumps(list(rows.values()))
    assert [check for check, row in rows.items() if row["ok"] is False] == []
    error = rows["error of the update against plain operators, 17 frames"]
    assert 0 < error["value"] and error["ok"], "the plain block is the program's, in other roundings"
    assert {"s/GB to register", "s to decode 17 frames, compact", "ms of it by rows of a matrix product"} <= set(rows)


def test_whole_parts_of_a_commit_are_known_and_the_table_tells_the_verdicts(tmp_path, monkeypatch, capsys):
    rows = [
        {"commit": "a", "part": "gemm", "check": "speed", "value": 1.5, "expected": "at least 2", "ok": False},
        {"commit": "a", "part": "vae", "check": "time", "value": 3},
        {"commit": "a", "part": "vae", "check": "vae", "value": "", "failed": "the time was up"},
        {"commit": "b", "part": "block", "check": "time", "value": 4},
    ]
    results = tmp_path / "first_gpu.jsonl"
    results.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert list(known(results, "a")) == ["gemm"] and not known(results, None)
    streamed = {
        ("ours_resident", 102): {"block_seconds": 0.2, "peak_vram_gb": 60.0, "predicted_gb": 61.0, "bits": "a"},
        ("ours_pinned", 102): {"block_seconds": 0.203, "peak_vram_gb": 5.0, "predicted_gb": 5.4, "bits": "a"},
        ("ours_mixed", 102): {"block_seconds": 0.201, "bits": "b"},
    }
    verdicts = {row["check"]: row.get("ok") for row in stream_rows(streamed)}
    asked = ("overhead, ours_{}, 102 frames", "bits of resident, ours_{}, 102 frames")
    assert [verdicts[words.format(name)] for name in ("pinned", "mixed") for words in asked] == [
        False,
        True,
        True,
        False,
    ]
    assert verdicts["planned GB of reserved, ours_resident, 102 frames"]
    assert verdicts["planned GB of reserved, ours_pinned, 102 frames"] is False
    lines = table(rows[:3]).splitlines()
    assert lines[1] == "gemm | speed | 1.5 | at least 2 | NO" and "failed: the time was up" in lines[3]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["first_gpu.py"])
    main()
    assert "no GPU" in capsys.readouterr().out


@pytest.mark.slow
def test_one_call_goes_through_all_kinds_of_parts(tmp_path):
    command = [sys.executable, "tests/bench/first_gpu.py", "--rehearse", "--folder", str(tmp_path)]
    command += ["--parts", "context", "tests", "gemm", "stream"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr[-2000:]
    begin = lines.index("part | check | value | expected | as expected")
    assert "tests | the GPU tests | skipped |  | " in lines[begin:]
    assert sum(line.startswith("gemm | ") for line in lines[begin:]) == 3
    assert not any("failed" in line for line in lines[begin:])
