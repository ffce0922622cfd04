"""The bench that waits for a GPU: everything of it but CUDA runs here, tiny."""

import json
import subprocess
import sys

import torch

from studio.memory.planning.speeds import ASSUMED
from tests.bench.bench_stream import FIRST, in_order, known, main, run_apart, table
from tests.bench.stream_variants import ALIGNMENT, LIBRARIES, VARIANTS, Setting


def test_a_variant_tells_all_its_columns(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.bench.stream_variants.load_speeds", lambda *_: ASSUMED["cpu"])
    ours = {"block_seconds", "predicted_block_seconds", "predicted_gb", "pinned_gb", "first_step_seconds"}
    bits = set()
    for name, wanted in (
        ("ours_resident", ours),
        ("ours_mixed", ours),
        ("ours_int8_pinned", ours),
        ("budget_16", {"predicted_vram_gb", "kept"}),
        ("ti2v_24", {"steps_seconds", "decode_seconds", "kept"}),
    ):
        with torch.inference_mode():
            parts = list(VARIANTS[name](Setting(tmp_path, rehearse=True), 17))
        row = {key: value for part in parts for key, value in part.items()}
        assert row.keys() >= wanted | {"peak_vram_gb", "ram_gb"}, name
        assert row.get("decoded_frames", 17) == 17 and row.get("notices", []) == [], name
        bits |= {row["bits"]} if name in ("ours_resident", "ours_mixed", "budget_16") else set()
    assert len(bits) == 1, "a plan changes the numbers"
    assert not list(tmp_path.rglob("*.tmp"))


def test_what_was_measured_is_kept_when_the_time_is_up(tmp_path, monkeypatch):
    child = tmp_path / "child.py"
    child.write_text("raise SystemExit('no such thing')")
    monkeypatch.setattr("tests.bench.bench_stream.__file__", str(child))
    assert run_apart(Setting(tmp_path, rehearse=True), "ours_pinned", 17, 60) == {"failed": "no such thing"}

    def run_too_long(command, stdout, stderr, timeout, cwd):
        stdout.write('{"block_seconds": 1.5}\n')
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr("tests.bench.gpu_facts.subprocess.run", run_too_long)
    row = run_apart(Setting(tmp_path, rehearse=True), "ours_pinned", 17, 1.0)
    assert row == {"block_seconds": 1.5, "failed": "the time was up"}
    monkeypatch.setitem(LIBRARIES, "mmgp", "no_such_library")
    assert run_apart(Setting(tmp_path, rehearse=True), "mmgp", 17, 60) == {"failed": "no_such_library is not installed"}


def test_blocks_that_are_holes_have_the_bytes_of_those_that_are_written(tmp_path):
    """In a file that is many times as long as what of it is written."""
    setting = Setting(tmp_path, rehearse=True)
    setting.layers = 24
    for int8 in (False, True):
        folder, machine = setting.files(int8=int8)
        (path,) = folder.rglob("*.safetensors")
        blocks, found = machine._blocks, set()
        with open(path, "rb") as file:
            for unit in range(setting.layers):
                memory = bytearray(blocks.step)
                assert machine.read(file.fileno(), [memoryview(memory)], blocks.start + unit * blocks.step) == len(
                    memory
                )
                found.add(bytes(memory))
        assert machine._distinct * blocks.step % ALIGNMENT == 0
        assert len(found) == 1 and any(found.pop()), f"int8 {int8}"
        assert path.stat().st_blocks * 512 < path.stat().st_size / 2


def test_whole_rows_of_a_commit_are_known_and_the_table_compares_them(tmp_path):
    results = tmp_path / "stream.jsonl"
    rows = [
        {"commit": "a", "variant": "ours_resident", "frames": 17, "block_seconds": 0.02},
        {"commit": "a", "variant": "ours_pinned", "frames": 17, "block_seconds": 0.021},
        {"commit": "a", "variant": "ours_disk", "frames": 17, "failed": "the time was up"},
        {"commit": "b", "variant": "ours_disk", "frames": 51},
    ]
    results.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = known(results, "a")
    assert found.keys() == {("ours_resident", 17), ("ours_pinned", 17)} and not known(results, None)
    asked = in_order(["ours_disk", "ours_pinned", "ours_resident"], [17, 51, 102])
    assert asked[:4] == list(FIRST[:4]) and [row[0] for row in asked[4:7]] == ["ours_disk"] * 3 and len(set(asked)) == 9
    lines = table((name, frames, row) for (name, frames), row in found.items()).splitlines()
    assert len(lines) == 3 and lines[2].startswith("17 | ours_pinned | 5.0 % | 0.021")


def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["bench_stream.py"])
    main()
    assert "no GPU" in capsys.readouterr().out
