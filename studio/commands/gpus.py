"""--gpus of `generate`, `plan`, the page and its worker: the devices that share a video, and the processes on them."""

import argparse
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import cast

from models.agreement import read_params
from models.transformer import TransformerParams
from studio.commands.devices import WorkerDevice, cpu_threads, ram_share_gb, worker_devices
from studio.commands.machine import engine_options, hold_device, studio_config
from studio.config import ModelConfig, StudioConfig, load_camera_moves
from studio.errors import InputError
from studio.memory.plan import Sharing
from studio.pipeline.engine import EngineOptions, named_device, part_folders, pick_device
from studio.pipeline.rank_process import Opening
from studio.pipeline.rank_roles import MOST_RANKS, check_count
from studio.pipeline.ranks import Ranks
from studio.pipeline.run import file_errors
from studio.queue.worker import WORKER


def gpu_devices(options: argparse.Namespace) -> list[str]:
    """The devices of --gpus and --device; without --gpus the one of --device.

    --gpus 2 are the first two, --gpus 1,3 those. Raises InputError for a value that is none, a device that is not here
    or named twice.
    """
    given, asked = vars(options).get("gpus"), engine_options(options).device
    if given is None:
        return [asked]
    device, wrong, numbers = named_device(asked), InputError("gpus_invalid", value=given), _numbers(given)
    if ":" in asked:
        raise wrong
    if device.type == "cpu":
        if len(numbers) > 1:
            raise wrong
        return ["cpu"] * numbers[0]
    names = [f"cuda:{number}" for number in (numbers if len(numbers) > 1 else range(numbers[0]))]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError("device_twice", value=twice[0])
    return [str(pick_device(name)) for name in names]


def page_devices(options: argparse.Namespace) -> list[WorkerDevice]:
    """The page's workers: one per device of --device; with --gpus one, whose device is the first of those that share.

    Raises InputError as `gpu_devices` and `worker_devices`, and for --gpus beside --cluster, whose cards share nothing.
    """
    if vars(options).get("gpus") is None:
        return worker_devices(engine_options(options).device)
    if vars(options).get("cluster"):
        raise InputError("gpus_cluster")
    return [WorkerDevice(WORKER, gpu_devices(options)[0])]


def planned_sharing(options: argparse.Namespace) -> Sharing | None:
    """How many devices share a video by --gpus, here or not; None for one. Raises InputError for a bad value."""
    if (given := vars(options).get("gpus")) is None:
        return None
    numbers = _numbers(given)
    count = numbers[0] if len(numbers) == 1 else len(numbers)
    return sharing_of(count, vars(options).get("peer_gbps"))


def sharing_of(count: int, peer_gbps: float | None = None) -> Sharing | None:
    """Of so many devices; None for one. peer_gbps: None: as is assumed."""
    if count == 1:
        return None
    return Sharing(count) if peer_gbps is None else Sharing(count, peer_gbps)


def shared_config(options: argparse.Namespace, count: int) -> StudioConfig:
    """The machine's config, where `count` devices share a video with each one's part of RAM."""
    config = studio_config(options)
    return config if count == 1 else replace(config, ram_gb=ram_share_gb(config, count))


def _numbers(given: str) -> list[int]:
    """How many (one number), or which. Raises InputError."""
    if not re.fullmatch(r"\d{1,2}(,\d{1,2})*", given):
        raise InputError("gpus_invalid", value=given)
    numbers = [int(number) for number in given.split(",")]
    if len(numbers) == 1 and not 0 < numbers[0] <= MOST_RANKS:
        raise InputError("gpus_invalid", value=given)
    return numbers


def ranks_for(
    model: ModelConfig, has_image: bool, config: StudioConfig, options: EngineOptions, devices: list[str]
) -> Ranks | None:
    """The processes that share a video, not started yet; None for one device.

    Raises InputError for a number that cannot share it, StudioError for a config that is none.
    """
    if len(devices) == 1:
        return None
    folders = part_folders(model, has_image, config.model_dir)
    with file_errors():
        params = cast(TransformerParams, read_params(folders["transformer"], "transformer"))
    check_count(len(devices), params.heads)
    threads = cpu_threads([WorkerDevice(f"{name}:{rank}", name) for rank, name in enumerate(devices)])
    return Ranks(Opening(model, has_image, load_camera_moves(), config, options, tuple(devices), threads))


@contextmanager
def hold_devices(options: EngineOptions, devices: list[str], stop: threading.Event) -> Iterator[None]:
    """As `hold_device`, of each of them; in one order, so that two commands cannot wait for each other."""
    with ExitStack() as held:
        for device in sorted(set(devices)):
            held.enter_context(hold_device(replace(options, device=device), stop))
        yield


@contextmanager
def running(ranks: Ranks | None) -> Iterator[None]:
    """Start the other processes, if there are to be any; end them afterwards."""
    try:
        if ranks is not None:
            ranks.start()
        yield
    finally:
        if ranks is not None:
            ranks.close()
