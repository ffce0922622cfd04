"""--device of the page: one device, or several with a worker on each."""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from studio.commands.worker_process import worker_command
from studio.config import StudioConfig
from studio.errors import InputError
from studio.host_memory import free_ram
from studio.pipeline.engine import gpu_count, pick_device
from studio.queue.worker import WORKER
from studio.units import GB

EVERY = "all"  # GPUs of this machine
CLUSTER = "cluster"  # the name of the worker that has jobs made by the machines of a cluster


@dataclass(frozen=True)
class WorkerDevice:
    """name: by which its worker takes jobs; device: what PyTorch calls it. "cpu:0" and "cpu:1" are both the CPU."""

    name: str
    device: str


def worker_devices(given: str) -> list[WorkerDevice]:
    """The devices of a --device value, checked. A single one has the name of a queue's only worker.

    Raises InputError for one that is unknown, not here or named twice.
    """
    parts = [part.strip() for part in given.split(",")]
    if parts == [EVERY]:
        parts = [f"cuda:{index}" for index in range(max(gpu_count(), 1))]
    found = []
    for part in parts:
        kind, _, number = part.partition(":")
        device = str(pick_device(kind if kind == "cpu" and number.isdecimal() and len(parts) > 1 else part))
        found.append(WorkerDevice(part if kind == "cpu" else device, device))
    if len(found) == 1:
        return [WorkerDevice(WORKER, found[0].device)]
    names = [one.name for one in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError("device_twice", value=twice[0])
    return found


def ram_share_gb(config: StudioConfig, workers: int) -> float:
    """GB of RAM for each of several workers: equal parts of --ram, or of what is free now less the reserve."""
    whole = config.ram_gb if config.ram_gb is not None else free_ram() / GB - config.ram_reserve_gb
    return max(whole, 0.0) / workers


def worker_commands(
    options: argparse.Namespace, queue: Path, devices: Sequence[WorkerDevice], config: StudioConfig, **others: object
) -> dict[str, list[str]]:
    """Name -> command line of each worker. config.ram_gb: of each where several. others: as worker_command has them."""
    if address := vars(options).get("cluster"):
        return {CLUSTER: worker_command(options, queue, name=CLUSTER, cluster=address, **others)}
    if len(devices) == 1:
        return {devices[0].name: worker_command(options, queue, gpus=vars(options).get("gpus"), **others)}
    threads = cpu_threads(devices)
    shared = [] if threads is None else ["env", f"OMP_NUM_THREADS={threads}"]
    return {
        one.name: shared + worker_command(options, queue, name=one.name, device=one.device, ram=config.ram_gb, **others)
        for one in devices
    }


def cpu_threads(devices: Sequence[WorkerDevice], environment: Mapping[str, str] = os.environ) -> int | None:
    """Threads of each worker where several share the CPU; None: as PyTorch chooses, or as the user has said."""
    sharing = [one for one in devices if one.device == "cpu"]
    if len(sharing) < 2 or "OMP_NUM_THREADS" in environment:
        return None
    return max((os.cpu_count() or 1) // len(sharing), 1)
