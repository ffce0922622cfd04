"""Machine speeds: measured once, remembered, and never an error where nothing can be remembered."""

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from itertools import count
from pathlib import Path

import pytest
import torch

from studio.memory.planning import speeds
from studio.memory.planning.speeds import (
    ASSUMED,
    DISK_BYTES,
    FILE_NAME,
    PIECE_BYTES,
    DiskSpeed,
    given_speeds,
    known_speeds,
    load_speeds,
    remember,
)

CPU = torch.device("cpu")
NUMBERS = ("tflops", "attention_tflops", "memory_gbps", "link_gbps", "disk_gbps")


def ticking(seconds: float = 1.0) -> Callable[[], float]:
    """A clock on which each look takes so long: the first repetition of a measurement is the last one."""
    looks = count()
    return lambda: next(looks) * seconds


@pytest.fixture(autouse=True)
def short_file(monkeypatch):
    monkeypatch.setattr(speeds, "DISK_BYTES", PIECE_BYTES)


def test_speeds_are_work_by_the_clock(tmp_path):
    found = load_speeds(tmp_path, CPU, clock=ticking(0.5))
    assert found.tflops == pytest.approx(2 * 256 * 1024 * 1024 / 0.5 / 1e12)
    assert found.attention_tflops == pytest.approx(4 * 1024**2 * 128 / 0.5 / 1e12)
    assert found.memory_gbps == found.link_gbps == pytest.approx(2 * (32 << 20) / 0.5 / 1e9)
    assert found.disk_gbps == pytest.approx(PIECE_BYTES / 0.5 / 1e9)
    assert found.origin == "measured on this machine" and found.correction == 1
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME], "the file that was read is gone"


def test_a_measurement_is_the_best_repetition_of_its_time(monkeypatch):
    """Repeated for PART_SECONDS: what interrupted one repetition does not count."""
    times: Iterator[float] = iter([0.0, 0.0, 3.0, 3.1, 3.1, 4.1, 9.9, 9.9, 12.9, 12.9])  # three of 3, 1 and 3 seconds
    monkeypatch.setattr(speeds, "PART_SECONDS", 10.0)
    runs: list[int] = []
    watch = speeds._Stopwatch(CPU, lambda: next(times))
    assert watch.best_seconds(lambda: runs.append(1)) == pytest.approx(1.0)
    assert len(runs) == 4 and next(times, None) is None, "one to warm up and three"


def test_real_clocks_measure_something(tmp_path, monkeypatch):
    monkeypatch.setattr(speeds, "PART_SECONDS", 0.01)
    found = load_speeds(tmp_path, CPU)
    assert all(getattr(found, name) > 0 for name in NUMBERS)


def test_a_gpu_is_timed_by_its_own_events(monkeypatch):
    """What the calling thread waits for is not counted."""
    milliseconds = count(step=250)

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self, stream) -> None:
            self.at = next(milliseconds)

        def synchronize(self) -> None:
            assert self.at

        def elapsed_time(self, end: "Event") -> int:
            return end.at - self.at

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    watch = speeds._Stopwatch(torch.device("cuda"), ticking(9.0))
    assert watch.best_seconds(lambda: None) == 0.25


def test_measured_once_then_remembered(tmp_path, monkeypatch):
    first = load_speeds(tmp_path / "cache", CPU, clock=ticking())
    for name in ("_measure_device", "_disk_speed"):
        monkeypatch.setattr(speeds, name, lambda *_: pytest.fail("measured again"))
    assert load_speeds(tmp_path / "cache", CPU) == first
    corrected = replace(first, correction=1.7, disk_gbps=first.disk_gbps / 2)
    remember(tmp_path / "cache", CPU, corrected)
    assert load_speeds(tmp_path / "cache", CPU) == corrected


def test_what_cannot_be_read_or_written_is_measured_anew(tmp_path):
    for content in ("", "[1]", '{"a": {"tflops": 1}}', '{"a": 3}'):
        (tmp_path / FILE_NAME).write_text(content)
        assert load_speeds(tmp_path, CPU, clock=ticking()).origin == "measured on this machine", content
    (tmp_path / "file").write_text("in the way")
    found = load_speeds(tmp_path / "file", CPU, clock=ticking())
    assert found.tflops > 0 and found.disk_gbps == ASSUMED["cuda"].disk_gbps


def test_the_disk_of_the_weights_is_what_is_read(tmp_path):
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(bytes(5_000_001))
    assert load_speeds(tmp_path / "cache", CPU, weights, clock=ticking()).disk_gbps > 0
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [FILE_NAME]
    assert weights.stat().st_size == 5_000_001


def test_products_in_int8_are_measured_when_asked_for_and_once(tmp_path, monkeypatch):
    pytest.importorskip("bitsandbytes", reason="it computes them")
    assert load_speeds(tmp_path, CPU, clock=ticking()).int8_tflops is None
    found = load_speeds(tmp_path, CPU, int8=True, clock=ticking())
    assert found.int8_tflops == pytest.approx(found.tflops)
    monkeypatch.setattr(speeds, "_int8_speed", lambda *_: pytest.fail("measured again"))
    assert load_speeds(tmp_path, CPU, int8=True) == found == load_speeds(tmp_path, CPU)


@pytest.fixture
def disks(tmp_path, monkeypatch) -> list[Path | None]:
    """Folders stand for disks: "slow", "fast" and the one of the cache. What was read, in order."""
    reads: list[Path | None] = []

    def read(cache, weights, clock):
        reads.append(weights)
        gbps = {"slow": 0.1, "fast": 7.0}.get(weights.parent.name, 1.0) if weights else 1.0
        return DiskSpeed(gbps, weights.stat().st_size if weights else DISK_BYTES)

    monkeypatch.setattr(speeds, "_measure_device", lambda *_: ASSUMED["cpu"])
    monkeypatch.setattr(speeds, "_disk_speed", read)
    monkeypatch.setattr(speeds, "_disk_key", lambda path: path.parent.name)
    for name in ("slow", "fast"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_bytes(bytes(1000))
    return reads


def test_each_disk_has_its_speed_and_is_read_once_unless_for_a_longer_file(tmp_path, disks):
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
    longer = fast.with_name("more")
    longer.write_bytes(bytes(100_000))
    for weights in (fast, longer, fast):
        load_speeds(cache, CPU, weights)
    assert disks == [slow, fast, None, longer]


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
