"""Speeds of this machine: measured once, in under three seconds, and remembered as JSON.

Plans are timed with them; whether a video fits does not depend on them. GB/s count 10^9 bytes, as vendors do. Devices
and disks are remembered apart: a model may lie on another disk than the results.
"""

import json
import os
import platform
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from models.attention import attention
from models.quantized import int8_product, quantize_rows
from models.weight_files import TensorEntry
from studio.errors import StudioError
from studio.filenames import write_whole
from studio.memory.allocator import Allocator, BufferKind, Machine
from studio.memory.streaming.layout import UnitLayout
from studio.memory.streaming.reader import UnitReader
from studio.stored_json import load_object, number

FILE_NAME = "speeds.json"
VERSION = 3  # of the measurements; speeds of another version are measured again
PART_SECONDS = 0.35  # a measurement is repeated for this long
DISK_BYTES = 128 << 20
SLOWEST, FASTEST = 1e-6, 1e6  # TFLOP/s and GB/s that a machine can have; a stored file may hold anything
PIECE_BYTES = 32 << 20  # a "unit" of the disk's measurement
LINK_BYTES = 256 << 20
MEMORY_COPIES = {"cuda": 8, "cpu": 1}  # in one repetition: a single copy within a GPU takes less than its launch

Clock = Callable[[], float]  # seconds; tests pass one of their own


@dataclass(frozen=True)
class Speeds:
    """tflops, attention_tflops: matrix products and attention in the compute dtype. memory_gbps: what element-wise
    operators read and write on the device. link_gbps: from RAM to the device. disk_gbps: reads without the page cache.

    int8_tflops: products as in the mode int8-compute, rounding included; None: not measured yet.
    register_gbps: page-locking of RAM for copies to the device, the first writing of its pages included.
    correction: measured by predicted computation time, 1 before a step was timed (planner.calibrate).
    origin: where the numbers come from, for people. disk: the number of the file system.
    """

    tflops: float
    attention_tflops: float
    memory_gbps: float
    link_gbps: float
    disk_gbps: float
    correction: float = 1.0
    origin: str = "assumed"
    disk: str = "none in particular"
    int8_tflops: float | None = None
    register_gbps: float = 1.7  # about 0.6 s/GB of kernel time


@dataclass(frozen=True)
class DiskSpeed:
    """Measured by reading `nbytes`. A longer file is worth another measurement."""

    gbps: float
    nbytes: int


@dataclass(frozen=True)
class _Known:
    """The content of the JSON file: speeds by device, and by disk."""

    devices: dict[str, Speeds]
    disks: dict[str, DiskSpeed]


# Used before anything is measured; a plan lists them as its assumptions. GPU: dense bfloat16 of a large consumer card
# of 2022, PCIe 4 x16, an NVMe disk.
ASSUMED = {
    "cuda": Speeds(tflops=150.0, attention_tflops=150.0, memory_gbps=900.0, link_gbps=25.0, disk_gbps=3.0),
    "cpu": Speeds(tflops=0.3, attention_tflops=0.15, memory_gbps=15.0, link_gbps=15.0, disk_gbps=1.0),
}


def given_speeds(base: Speeds, **values: float | None) -> Speeds:
    """`base` with the numbers of the command line; None: not given. tflops is taken for attention too."""
    given: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
    if not given:
        return base
    origin = f"{base.origin}, with {', '.join(given)} as given"
    if "tflops" in given:
        given |= {"attention_tflops": given["tflops"], "int8_tflops": None}
    return replace(base, **given, origin=origin)


def load_speeds(
    cache: Path, device: torch.device, weights: Path | None = None, *, int8: bool = False, clock: Clock = perf_counter
) -> Speeds:
    """This machine's speeds, remembered in the folder `cache`; what is not known yet is measured and remembered.

    weights: a file on the model's disk; None: the disk of `cache` is measured. int8: products in int8 too, which needs
    bitsandbytes. Where the folder cannot be written or the file is damaged, speeds are measured again next time.
    """
    known, key = _read(cache), _device_key(device)
    if key not in known.devices:
        known.devices[key] = _measure_device(device, clock)
        _write(cache, known)
    if int8 and known.devices[key].int8_tflops is None:
        int8_tflops = _int8_speed(_Stopwatch(device, clock)) / 1e12
        known.devices[key] = replace(known.devices[key], int8_tflops=int8_tflops)
        _write(cache, known)
    return _with_disk(known.devices[key], cache, weights, clock)


def known_speeds(cache: Path, kind: str, weights: Path | None = None, *, clock: Clock = perf_counter) -> Speeds:
    """The last remembered speeds of a device of this kind ("cuda", "cpu"), else assumed ones. Never uses the device.

    weights: as in `load_speeds`; its disk is measured where it is not known yet.
    """
    known = [speeds for key, speeds in _read(cache).devices.items() if key.startswith(f"{VERSION} {kind} ")]
    return _with_disk(known[-1] if known else ASSUMED[kind], cache, weights, clock)


def remember(cache: Path, device: torch.device, speeds: Speeds) -> None:
    """Store corrected speeds for the next start."""
    known = _read(cache)
    known.devices[_device_key(device)] = speeds
    if speeds.disk in known.disks:
        known.disks[speeds.disk] = replace(known.disks[speeds.disk], gbps=speeds.disk_gbps)
    _write(cache, known)


@dataclass(frozen=True)
class _Stopwatch:
    """Times work on a device: on a GPU by its own events, elsewhere by the clock."""

    device: torch.device
    clock: Clock

    def best_seconds(self, work: Callable[[], object]) -> float:
        """Seconds of the fastest of several repetitions, after one to warm up."""
        seconds = self._by_events if self.device.type == "cuda" else self._by_clock
        best, end = float("inf"), self.clock() + PART_SECONDS
        work()
        while best == float("inf") or self.clock() < end:
            best = min(best, seconds(work))
        return best

    def _by_clock(self, work: Callable[[], object]) -> float:
        began = self.clock()
        work()
        return self.clock() - began

    def _by_events(self, work: Callable[[], object]) -> float:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        stream = torch.cuda.current_stream(self.device)
        begin.record(stream)
        work()
        end.record(stream)
        end.synchronize()
        return begin.elapsed_time(end) / 1e3  # it says milliseconds


def _measure_device(device: torch.device, clock: Clock) -> Speeds:
    watch = _Stopwatch(device, clock)
    memory = _memory_speed(watch)
    link, registering = _host_speeds(watch) if device.type == "cuda" else (memory, ASSUMED["cpu"].register_gbps * 1e9)
    speeds = Speeds(
        tflops=_matrix_speed(watch) / 1e12,
        attention_tflops=_attention_speed(watch) / 1e12,
        memory_gbps=memory / 1e9,
        link_gbps=link / 1e9,
        register_gbps=registering / 1e9,
        disk_gbps=ASSUMED["cuda"].disk_gbps,
        origin="measured on this machine",
    )
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return speeds


def _with_disk(speeds: Speeds, cache: Path, weights: Path | None, clock: Clock) -> Speeds:
    """The device's speeds with the disk's, which is measured where it is unknown or this file is twice as long."""
    known, key = _read(cache), _disk_key(weights or cache)
    offered = min(weights.stat().st_size, DISK_BYTES) if weights is not None and weights.exists() else DISK_BYTES
    if key not in known.disks or known.disks[key].nbytes < offered // 2:
        known.disks[key] = _disk_speed(cache, weights, clock)
        _write(cache, known)
    return replace(speeds, disk_gbps=known.disks[key].gbps, disk=key)


def _matrix_speed(watch: _Stopwatch) -> float:
    """FLOP per second of a matrix product, as all speeds below per second."""
    tokens, width, out = _product_shape(watch.device)
    x, weight = _operand(watch.device, tokens, width), _operand(watch.device, out, width)
    return 2 * tokens * width * out / watch.best_seconds(lambda: torch.nn.functional.linear(x, weight))


def _int8_speed(watch: _Stopwatch) -> float:
    tokens, width, out = _product_shape(watch.device)
    x = _operand(watch.device, tokens, width)
    codes, scale = quantize_rows(torch.randn(out, width, device=watch.device))
    return 2 * tokens * width * out / watch.best_seconds(lambda: int8_product(x, codes, scale))


def _product_shape(device: torch.device) -> tuple[int, int, int]:
    # A few milliseconds on a CPU, here and below, so that the best repetition is one that nothing interrupted.
    return (4096, 6144, 12288) if device.type == "cuda" else (256, 1024, 1024)


def _operand(device: torch.device, *shape: int) -> torch.Tensor:
    """Random numbers in the device's compute dtype."""
    return torch.randn(shape, device=device).to(torch.bfloat16 if device.type == "cuda" else torch.float32)


def _attention_speed(watch: _Stopwatch) -> float:
    tokens, heads = (8192, 24) if watch.device.type == "cuda" else (1024, 1)
    q, k, v = _operand(watch.device, 3, 1, tokens, heads, 128)
    return 4 * tokens**2 * heads * 128 / watch.best_seconds(lambda: attention(q, k, v))


def _memory_speed(watch: _Stopwatch) -> float:
    """Bytes read and written by a copy within the device's memory."""
    nbytes, copies = 256 << 20 if watch.device.type == "cuda" else 32 << 20, MEMORY_COPIES[watch.device.type]
    source = torch.zeros(nbytes, dtype=torch.uint8, device=watch.device)
    target = torch.empty_like(source)

    def copy() -> None:
        for _ in range(copies):
            target.copy_(source)

    return 2 * copies * source.nbytes / watch.best_seconds(copy)


def _host_speeds(watch: _Stopwatch) -> tuple[float, float]:
    """Copies from registered RAM to the device, and registering, in memory as the streamer has it."""
    machine = Machine(watch.device)
    source, target = machine.host_memory(LINK_BYTES), machine.device_memory(LINK_BYTES)
    began = watch.clock()
    registered = machine.register(source)
    registering = LINK_BYTES / (watch.clock() - began) if registered else ASSUMED["cuda"].register_gbps * 1e9
    try:
        return LINK_BYTES / watch.best_seconds(lambda: target.copy_(source, non_blocking=True)), registering
    finally:
        if registered:
            machine.unregister(source)


def _disk_speed(cache: Path, weights: Path | None, clock: Clock) -> DiskSpeed:
    """Measured on `weights`, or on a temporary file in `cache`."""
    path = weights or cache / f"speed.{os.getpid()}.tmp"
    try:
        if weights is None:
            cache.mkdir(parents=True, exist_ok=True)
            with open(path, "wb") as file:
                piece = os.urandom(PIECE_BYTES)
                for _ in range(DISK_BYTES // PIECE_BYTES):
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
        return _read_speed(path, clock)
    except (OSError, StudioError):
        return DiskSpeed(ASSUMED["cuda"].disk_gbps, DISK_BYTES)
    finally:
        if weights is None:
            _remove(path)


def _read_speed(path: Path, clock: Clock) -> DiskSpeed:
    """Pieces of a file read as the streamer reads units: past the page cache, and copied to their places."""
    size = path.stat().st_size
    piece = min(PIECE_BYTES, size)
    if not piece:
        raise OSError(f"{path} is empty")
    offsets = range(0, min(size, DISK_BYTES) - piece + 1, piece)
    entries = [[TensorEntry("piece", path, torch.uint8, (piece,), offset, piece)] for offset in offsets]
    layout = UnitLayout.of({"piece": torch.empty(piece, dtype=torch.uint8, device="meta")})
    allocator = Allocator(Machine(torch.device("cpu")))
    buffer = allocator.allocate(BufferKind.STAGING, layout.nbytes)
    buffer.memory.fill_(0)  # the first touch of its pages is not the disk's work
    reader = UnitReader(layout, entries, allocator)
    try:
        _drop_pages(path)
        done, began = 0, clock()
        while not done or (done < len(entries) and clock() - began < 2 * PART_SECONDS):
            reader.read(done, buffer.memory, direct=True)
            done += 1
        seconds = clock() - began
    finally:
        reader.close()
        buffer.release()
    return DiskSpeed(done * piece / seconds / 1e9, done * piece)


def _drop_pages(path: Path) -> None:
    """Drop the file from the page cache: some file systems have no reads past it."""
    if hasattr(os, "posix_fadvise"):
        file = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(file)


def _device_key(device: torch.device) -> str:
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{platform.machine()} {os.cpu_count()} processors {torch.get_num_threads()} threads"
    return f"{VERSION} {device.type} {name} torch {torch.__version__}"


def _disk_key(path: Path) -> str:
    while not path.exists():
        path = path.parent
    return str(path.stat().st_dev)


def _read(cache: Path) -> _Known:
    data = load_object(cache / FILE_NAME)
    try:
        devices = {key: _speeds(values) for key, values in data["devices"].items()}
        return _Known(devices, {key: _disk(values) for key, values in data["disks"].items()})
    except (ValueError, TypeError, KeyError, AttributeError):
        return _Known({}, {})


def _speeds(values: dict[str, Any]) -> Speeds:
    """Raises ValueError or TypeError for values that are no speeds."""
    texts = {"origin", "disk"} & values.keys()
    absent = {"int8_tflops"} if values.get("int8_tflops") is None else set()
    read: dict[str, Any] = {name: number(values[name], SLOWEST, FASTEST) for name in values.keys() - texts - absent}
    read |= {name: str(values[name]) for name in texts}
    return Speeds(**read)


def _disk(values: dict[str, Any]) -> DiskSpeed:
    return DiskSpeed(number(values["gbps"], SLOWEST, FASTEST), int(number(values["nbytes"], 0, 1 << 62)))


def _write(cache: Path, known: _Known) -> None:
    with suppress(OSError):
        write_whole(cache / FILE_NAME, json.dumps(asdict(known), indent=1).encode())


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
