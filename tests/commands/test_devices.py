"""--device of the page: which workers it means, and how they share RAM and cores."""

import argparse
from pathlib import Path

import pytest

from studio.commands import devices
from studio.commands.cli import build_parser
from studio.commands.devices import WorkerDevice, cpu_threads, ram_share_gb, worker_commands, worker_devices
from studio.config import load_studio
from studio.errors import InputError
from studio.queue.worker import WORKER
from studio.units import GB


def test_what_a_value_means(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    meant = {
        "cpu": [(WORKER, "cpu")],
        "cuda": [(WORKER, "cuda:0")],
        "cuda:3": [(WORKER, "cuda:3")],
        "cuda:0,cuda:2": [("cuda:0", "cuda:0"), ("cuda:2", "cuda:2")],
        "cuda, cuda:1": [("cuda:0", "cuda:0"), ("cuda:1", "cuda:1")],
        "cpu:0,cpu:1": [("cpu:0", "cpu"), ("cpu:1", "cpu")],
        "cuda:1,cpu": [("cuda:1", "cuda:1"), ("cpu", "cpu")],
        "all": [(f"cuda:{index}", f"cuda:{index}") for index in range(4)],
    }
    assert {value: [(one.name, one.device) for one in worker_devices(value)] for value in meant} == meant
    refused = {
        "cuda:0,cuda": "cuda:0 is named twice",
        "cpu,cpu": "cpu is named twice",
        "cuda:0,cuda:4": "cuda:4 is not on",
        "cuda:0,": "no device ''",
        "gpu": "no device 'gpu'",
        "cpu:0": "no device 'cpu:0'",
        "all,cpu": "no device 'all'",
    }
    for value, said in refused.items():
        with pytest.raises(InputError, match=said):
            worker_devices(value)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(InputError, match="cuda:0 is not on this machine"):
        worker_devices("all")


def test_workers_share_ram_and_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "free_ram", lambda: 66 * GB)
    assert ram_share_gb(load_studio(), 4) == 16.0, "what is free less the reserve of 2 GB"
    assert ram_share_gb(load_studio(ram_gb=30.0), 3) == 10.0
    assert ram_share_gb(load_studio(ram_reserve_gb=100.0), 2) == 0.0
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    two = [WorkerDevice("cpu:0", "cpu"), WorkerDevice("cpu:1", "cpu")]
    assert cpu_threads(two, {}) == 3 and cpu_threads(two * 4, {}) == 1
    assert cpu_threads(two, {"OMP_NUM_THREADS": "2"}) is None and cpu_threads(two[:1], {}) is None


def test_each_worker_is_told_its_device_its_name_and_its_share(tmp_path: Path) -> None:
    options = build_parser().parse_args(["--device", "cuda:0,cuda:1", "--ram", "64", "--vram", "20"])
    two = [WorkerDevice("cuda:0", "cuda:0"), WorkerDevice("cuda:1", "cuda:1")]
    commands = worker_commands(options, tmp_path, two, load_studio(ram_gb=32.0))
    for name, command in commands.items():
        told = vars(build_parser().parse_args(command[command.index("worker") :]))
        assert told | {"queue": tmp_path, "name": name, "device": name, "ram": 32.0, "vram": 20.0} == told
    assert list(commands) == ["cuda:0", "cuda:1"] and "env" not in commands["cuda:0"]
    alone = argparse.Namespace(device="cpu")
    (command,) = worker_commands(alone, tmp_path, [WorkerDevice(WORKER, "cpu")], load_studio()).values()
    assert "--name" not in command and "--ram" not in command and command[-2:] == ["--device", "cpu"]
