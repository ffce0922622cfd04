"""Files that this program wrote for itself, in another shape: they count as absent, and no number of them is odd."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from studio.memory.planning import speeds
from studio.pipeline.job_times import FILE_NAME, load_job_times, store_job_times

ODD = (None, [], {}, "x", -1, 0, math.nan, math.inf, True, [[]], {"a": 1}, 1e308, 10**400)
NO_JSON = (b"", b"\xff\xfe", b"[" * 100_000, b"{" * 10, b" " * (2 << 20))
CPU = torch.device("cpu")
TIMES = {"cpu nano": {"first": {"load": 1.0, "encode_text": 2.0}, "later": {"load": 1.0}}}


def variants(data: Any) -> Iterator[bytes]:
    """The data with each part of it replaced by something odd, left out, or with something beside it."""
    yield from (json.dumps(found).encode() for found in _variants(data))
    yield from NO_JSON


def _variants(data: Any) -> Iterator[Any]:
    yield from ODD
    if isinstance(data, dict):
        for key in data:
            yield from ({**data, key: inner} for inner in _variants(data[key]))
            yield {name: value for name, value in data.items() if name != key}
        yield {**data, "extra": 1}


def test_speeds_of_another_shape_are_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speeds, "_measure_device", lambda device, *_: speeds.ASSUMED[device.type])
    monkeypatch.setattr(speeds, "_disk_speed", lambda *_: speeds.DiskSpeed(1.0, speeds.DISK_BYTES))
    speeds.load_speeds(tmp_path, CPU)
    path, count = tmp_path / speeds.FILE_NAME, 0
    for data in variants(json.loads(path.read_text())):
        for read in (lambda: speeds.load_speeds(tmp_path, CPU), lambda: speeds.known_speeds(tmp_path, "cpu")):
            path.write_bytes(data)
            numbers = [value for value in asdict(read()).values() if not isinstance(value, str | None)]
            assert all(isinstance(value, float) and 0 < value < 1e7 for value in numbers), data[:200]
            count += 1
    assert count > 200


def test_job_times_of_another_shape_are_forgotten(tmp_path: Path) -> None:
    for data in variants(TIMES):
        (tmp_path / FILE_NAME).write_bytes(data)
        times = load_job_times(tmp_path, "cpu", "nano")
        expected = times.expected({"denoise": 1.0}, first=True)
        assert all(0 < seconds < 1e6 for seconds in expected.values()), data[:200]
        store_job_times(tmp_path, "cpu", "nano", times.after({"load": 1.0}, {"load": 2.0}, first=True))
        assert load_job_times(tmp_path, "cpu", "nano").factors


def test_a_file_in_the_place_of_the_folder_costs_speed_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speeds, "_measure_device", lambda device, *_: speeds.ASSUMED[device.type])
    cache = tmp_path / ".cache"
    cache.write_bytes(b"")
    assert speeds.load_speeds(cache, CPU).tflops == speeds.ASSUMED["cpu"].tflops
    assert speeds.known_speeds(cache, "cpu").tflops == speeds.ASSUMED["cpu"].tflops
    store_job_times(cache, "cpu", "nano", load_job_times(cache, "cpu", "nano"))
    assert cache.read_bytes() == b""
