"""Machine speeds: measured once, remembered, never in the way when nothing can be remembered."""

import time
from dataclasses import fields, replace

import pytest
import torch

from studio.memory.planning import speeds
from studio.memory.planning.speeds import (
    ASSUMED,
    FILE_NAME,
    DiskSpeed,
    given_speeds,
    known_speeds,
    load_speeds,
    measure,
    remember,
)

CPU = torch.device("cpu")
NUMBERS = ("tflops", "attention_tflops", "memory_gbps", "link_gbps", "disk_gbps")


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(speeds, "PART_SECONDS", 0.01)
    monkeypatch.setattr(speeds, "DISK_BYTES", speeds.PIECE_BYTES)


def test_measuring_everything_takes_few_seconds_of_processor(tmp_path):
    began = time.process_time()
    found = measure(tmp_path, CPU)
    # About 1.1 s on a quiet machine; on a crowded host, whose memory is five times slower, over 3 s were seen.
    assert time.process_time() - began < 10
    assert all(getattr(found, name) > 0 for name in NUMBERS)
    assert found.origin == "measured on this machine" and found.correction == 1
    assert not list(tmp_path.iterdir()), "its file is gone"


def test_measured_once_then_remembered(tmp_path, quick, monkeypatch):
    first = load_speeds(tmp_path / "cache", CPU)
    for name in ("_measure_device", "_disk_speed"):
        monkeypatch.setattr(speeds, name, lambda *_: pytest.fail("measured again"))
    assert load_speeds(tmp_path / "cache", CPU) == first
    corrected = replace(first, correction=1.7, disk_gbps=first.disk_gbps / 2)
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


def test_products_in_int8_are_measured_when_asked_for_and_once(tmp_path, quick, monkeypatch):
    pytest.importorskip("bitsandbytes", reason="it computes them")
    assert load_speeds(tmp_path, CPU).int8_tflops is None
    found = load_speeds(tmp_path, CPU, int8=True)
    assert found.int8_tflops > 0
    monkeypatch.setattr(speeds, "_int8_speed", lambda *_: pytest.fail("measured again"))
    assert load_speeds(tmp_path, CPU, int8=True) == found == load_speeds(tmp_path, CPU)


@pytest.fixture
def disks(tmp_path, quick, monkeypatch):
    """Folders stand for disks: "slow", "fast" and the one of the cache; reads are counted."""
    reads = []

    def read(cache, weights):
        reads.append(weights)
        gbps = {"slow": 0.1, "fast": 7.0}.get(weights.parent.name, 1.0) if weights else 1.0
        return DiskSpeed(gbps, weights.stat().st_size if weights else speeds.DISK_BYTES)

    monkeypatch.setattr(speeds, "_disk_speed", read)
    monkeypatch.setattr(speeds, "_disk_key", lambda path: path.parent.name)
    for name in ("slow", "fast"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_bytes(bytes(1000))
    return reads


def test_each_disk_has_its_speed_and_is_read_once(tmp_path, disks):
    cache, slow, fast = tmp_path / "cache", tmp_path / "slow" / "weights", tmp_path / "fast" / "weights"
    for _ in range(2):
        assert load_speeds(cache, CPU, slow).disk_gbps == 0.1
        assert load_speeds(cache, CPU, fast).disk_gbps == 7.0
        assert load_speeds(cache, CPU).disk_gbps == 1.0
    assert disks == [slow, fast, None]
    assert known_speeds(cache, "cpu", slow) == load_speeds(cache, CPU, slow)
    remember(cache, CPU, replace(load_speeds(cache, CPU, fast), disk_gbps=5.0))
    assert [load_speeds(cache, CPU, weights).disk_gbps for weights in (slow, fast)] == [0.1, 5.0]
    assert len(disks) == 3


def test_a_longer_file_is_worth_another_measurement_and_a_shorter_one_is_not(tmp_path, disks):
    short, long = tmp_path / "fast" / "weights", tmp_path / "fast" / "more"
    long.write_bytes(bytes(100_000))
    for weights in (short, long, short):
        load_speeds(tmp_path / "cache", CPU, weights)
    assert disks == [short, long]


def test_an_unknown_device_is_assumed_but_its_disk_is_measured(tmp_path, disks):
    found = known_speeds(tmp_path / "cache", "cuda", tmp_path / "slow" / "weights")
    assert found == replace(ASSUMED["cuda"], disk_gbps=0.1, disk="slow")


def test_numbers_of_the_command_line_replace_measured_ones():
    found = given_speeds(ASSUMED["cuda"], tflops=200.0, link_gbps=None, disk_gbps=7.0)
    assert (found.tflops, found.attention_tflops, found.disk_gbps) == (200.0, 200.0, 7.0)
    assert found.link_gbps == ASSUMED["cuda"].link_gbps and found.origin == "assumed, with tflops, disk_gbps as given"
    assert given_speeds(ASSUMED["cpu"], tflops=None) is ASSUMED["cpu"]


def test_every_kind_of_device_has_stated_assumptions():
    assert set(ASSUMED) == {"cuda", "cpu"}
    stated = [field.name for field in fields(speeds.Speeds) if field.name != "int8_tflops"]  # asked for, never assumed
    assert all(getattr(known, name) for known in ASSUMED.values() for name in stated)
