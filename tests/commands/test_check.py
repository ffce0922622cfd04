"""`check` on the machine that runs the tests: its table, its file, its exit code."""

import json

import pytest

from studio.commands import check, machine
from studio.commands.cli import main
from studio.memory.check import LOOK, OK, Finding
from studio.messages import message


def test_a_row_and_its_record_have_both_languages(tmp_path):
    finding = Finding("disk", LOOK, "check_disk_small", {"folder": "models", "free_gb": 1.5, "need_gb": 80})
    assert check.line(finding, "en").startswith("LOOK  disk") and "--model-dir" in check.line(finding, "zh")
    check.store(tmp_path / "new" / "check.json", [finding])
    (row,) = json.loads((tmp_path / "new" / "check.json").read_text())
    assert row["state"] == LOOK and row["values"]["free_gb"] == 1.5
    assert {row["en"], row["zh"]} == {message(finding.code, finding.values, name) for name in ("en", "zh")}


@pytest.mark.slow
def test_the_command_checks_what_there_is(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(machine, "runtime_folder", lambda: tmp_path)  # another job here may hold the device
    arguments = ["--output-dir", str(tmp_path / "out"), "--model-dir", str(tmp_path), "--device", "cpu"]
    code = main(["check", *arguments, "--language", "zh"])
    rows = json.loads((tmp_path / "out" / ".cache" / check.FILE_NAME).read_text())
    found = {row["name"]: row["state"] for row in rows}
    assert all(found[name] == OK for name in ("blocks", "decoder", "int8 weights", "streaming", "speeds", "ffmpeg"))
    assert code == (LOOK in [row["state"] for row in rows])
    told = capsys.readouterr().out
    assert "逐位相同" in told and str(tmp_path / "out") in told
    assert (tmp_path / "out" / ".cache" / "speeds.json").exists()  # plans are timed with them
    assert [path.name for path in (tmp_path / "out" / ".cache").glob("check.*")] == [check.FILE_NAME]
