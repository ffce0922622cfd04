"""Machine speeds: measured once, remembered, never in the way when nothing can be remembered."""

import time
from dataclasses import fields, replace

import pytest
import torch

from studio.memory import speeds
from studio.memory.speeds import ASSUMED, FILE_NAME, given_speeds, load_speeds, measure, remember

CPU = torch.device("cpu")
NUMBERS = ("tflops", "attention_tflops", "memory_gbps", "link_gbps", "disk_gbps")


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(speeds, "PART_SECONDS", 0.01)
    monkeypatch.setattr(speeds, "DISK_BYTES", speeds.PIECE_BYTES)


def test_measuring_everything_takes_under_three_seconds_of_processor(tmp_path):
    began = time.process_time()
    found = measure(tmp_path, CPU)
    assert time.process_time() - began < 3
    assert all(getattr(found, name) > 0 for name in NUMBERS)
    assert found.origin == "measured on this machine" and found.correction == 1
    assert not list(tmp_path.iterdir()), "its file is gone"


def test_measured_once_then_remembered(tmp_path, quick, monkeypatch):
    first = load_speeds(tmp_path / "cache", CPU)
    monkeypatch.setattr(speeds, "measure", lambda *_: pytest.fail("measured again"))
    assert load_speeds(tmp_path / "cache", CPU) == first
    corrected = replace(first, correction=1.7)
    remember(tmp_path / "cache", CPU, corrected)
    assert load_speeds(tmp_path / "cache", CPU) == corrected


@pytest.mark.parametrize("content", ["", "[1]", '{"a": {"tflops": 1}}', '{"a": 3}'])
def test_a_damaged_file_is_measured_anew(tmp_path, quick, content):
    (tmp_path / FILE_NAME).write_text(content)
    assert load_speeds(tmp_path, CPU).tflops > 0


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path, quick):
    (tmp_path / "file").write_text("in the way")
    found = load_speeds(tmp_path / "file", CPU)
    assert found.tflops > 0 and found.disk_gbps == ASSUMED["cuda"].disk_gbps


def test_the_disk_of_the_weights_is_what_is_read(tmp_path, quick):
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(bytes(5_000_001))
    assert measure(tmp_path / "cache", CPU, weights).disk_gbps > 0
    assert not (tmp_path / "cache").exists() and weights.stat().st_size == 5_000_001


def test_numbers_of_the_command_line_replace_measured_ones():
    found = given_speeds(ASSUMED["cuda"], tflops=200.0, link_gbps=None, disk_gbps=7.0)
    assert (found.tflops, found.attention_tflops, found.disk_gbps) == (200.0, 200.0, 7.0)
    assert found.link_gbps == ASSUMED["cuda"].link_gbps and found.origin == "assumed, with tflops, disk_gbps as given"
    assert given_speeds(ASSUMED["cpu"], tflops=None) is ASSUMED["cpu"]


def test_every_kind_of_device_has_stated_assumptions():
    assert set(ASSUMED) == {"cuda", "cpu"}
    assert all(getattr(known, field.name) for known in ASSUMED.values() for field in fields(known))
