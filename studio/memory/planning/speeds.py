"""How fast this machine multiplies, moves and reads: measured once in under three seconds, remembered as json.

A speed is what plans are timed with; none decides whether a video fits. GB/s count 10^9 bytes, as vendors do. What a
device does and what a disk does are remembered apart: models may lie on another disk than results.
"""

import json
import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from models.attention import attention
from models.quantized import int8_product, quantize_rows
from studio.memory.streaming.backends import device_backend

FILE_NAME = "speeds.json"
VERSION = 2  # of what is measured; older files are measured anew
PART_SECONDS = 0.35  # each measurement repeats until so much time has passed
DISK_BYTES = 128 << 20
PIECE_BYTES = 16 << 20
PAGE = 4096


@dataclass(frozen=True)
class Speeds:
    """tflops and attention_tflops: matrix products and attention in the compute dtype. memory_gbps: what element-wise
    work moves in the memory that is computed from. link_gbps: RAM to device. disk_gbps: past the page cache.

    int8_tflops: products as the mode int8-compute makes them, rounding included; None: not asked for yet.
    correction: measured over predicted computation time, 1 until a run has been timed (planner.calibrate).
    origin: where the numbers come from, for people. disk: which disk it is (the file system's number).
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


@dataclass(frozen=True)
class DiskSpeed:
    """What reading `nbytes` told of a disk. A short file tells little, so a longer one is worth another measurement."""

    gbps: float
    nbytes: int


@dataclass(frozen=True)
class _Known:
    """What is remembered: by device, and by disk."""

    devices: dict[str, Speeds]
    disks: dict[str, DiskSpeed]


# Stated wherever they are used. GPU: dense bfloat16 of a large consumer card of 2022, PCIe 4 x16, an NVMe disk.
ASSUMED = {
    "cuda": Speeds(tflops=150.0, attention_tflops=150.0, memory_gbps=900.0, link_gbps=25.0, disk_gbps=3.0),
    "cpu": Speeds(tflops=0.3, attention_tflops=0.15, memory_gbps=15.0, link_gbps=15.0, disk_gbps=1.0),
}


def given_speeds(base: Speeds, **values: float | None) -> Speeds:
    """`base` with the command line's numbers (None: not given) in it; tflops stands for attention too."""
    given = {name: value for name, value in values.items() if value is not None}
    if not given:
        return base
    origin = f"{base.origin}, with {', '.join(given)} as given"
    if "tflops" in given:
        given |= {"attention_tflops": given["tflops"], "int8_tflops": None}
    return replace(base, **given, origin=origin)


def load_speeds(cache: Path, device: torch.device, weights: Path | None = None, *, int8: bool = False) -> Speeds:
    """This machine's speeds: as remembered in the folder `cache`, else measured now and remembered there.

    weights: a file of the disk that the model lies on (None: the disk of `cache`). int8: also how fast products in int8
    are, which needs bitsandbytes. A folder that cannot be written or
    a damaged file only means that speeds are measured again next time.
    """
    known, key = _read(cache), _device_key(device)
    if key not in known.devices:
        known.devices[key] = _measure_device(device)
        _write(cache, known)
    if int8 and known.devices[key].int8_tflops is None:
        known.devices[key] = replace(known.devices[key], int8_tflops=_int8_speed(device) / 1e12)
        _write(cache, known)
    return _with_disk(known.devices[key], cache, weights)


def known_speeds(cache: Path, kind: str, weights: Path | None = None) -> Speeds:
    """What was last measured or corrected on a device of this kind, else assumed. Never touches the device.

    weights: as in `load_speeds`; its disk is measured where it is not known yet.
    """
    known = [speeds for key, speeds in _read(cache).devices.items() if key.startswith(f"{VERSION} {kind} ")]
    return _with_disk(known[-1] if known else ASSUMED[kind], cache, weights)


def remember(cache: Path, device: torch.device, speeds: Speeds) -> None:
    """Keep corrected speeds for the next start."""
    known = _read(cache)
    known.devices[_device_key(device)] = speeds
    if speeds.disk in known.disks:
        known.disks[speeds.disk] = replace(known.disks[speeds.disk], gbps=speeds.disk_gbps)
    _write(cache, known)


def measure(cache: Path, device: torch.device, weights: Path | None = None) -> Speeds:
    """Measure everything; uses at most 0.5 GB of the device, and a temporary file in `cache` without `weights`."""
    return replace(
        _measure_device(device), disk_gbps=_disk_speed(cache, weights).gbps, disk=_disk_key(weights or cache)
    )


def _measure_device(device: torch.device) -> Speeds:
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    memory = _memory_speed(device)
    speeds = Speeds(
        tflops=_matrix_speed(device, dtype) / 1e12,
        attention_tflops=_attention_speed(device, dtype) / 1e12,
        memory_gbps=memory / 1e9,
        link_gbps=(_link_speed(device) if device.type == "cuda" else memory) / 1e9,
        disk_gbps=ASSUMED["cuda"].disk_gbps,
        origin="measured on this machine",
    )
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return speeds


def _with_disk(speeds: Speeds, cache: Path, weights: Path | None) -> Speeds:
    """The device's speeds with those of the disk, which is read where a file tells more than what is known of it."""
    known, key = _read(cache), _disk_key(weights or cache)
    offered = min(weights.stat().st_size, DISK_BYTES) if weights is not None and weights.exists() else DISK_BYTES
    if key not in known.disks or known.disks[key].nbytes < offered // 2:
        known.disks[key] = _disk_speed(cache, weights)
        _write(cache, known)
    return replace(speeds, disk_gbps=known.disks[key].gbps, disk=key)


def _matrix_speed(device: torch.device, dtype: torch.dtype) -> float:
    tokens, width, out = _product_shape(device)
    x, weight = torch.randn(tokens, width, device=device).to(dtype), torch.randn(out, width, device=device).to(dtype)
    return 2 * tokens * width * out / _seconds(device, lambda: torch.nn.functional.linear(x, weight))


def _int8_speed(device: torch.device) -> float:
    tokens, width, out = _product_shape(device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    x = torch.randn(tokens, width, device=device).to(dtype)
    codes, scale = quantize_rows(torch.randn(out, width, device=device))
    return 2 * tokens * width * out / _seconds(device, lambda: int8_product(x, codes, scale))


def _product_shape(device: torch.device) -> tuple[int, int, int]:
    # On a CPU a few milliseconds each, here and below: the best repetition is then one that nothing interrupted.
    return (4096, 6144, 12288) if device.type == "cuda" else (256, 1024, 1024)


def _attention_speed(device: torch.device, dtype: torch.dtype) -> float:
    tokens, heads = (8192, 24) if device.type == "cuda" else (1024, 1)
    q, k, v = torch.randn(3, 1, tokens, heads, 128, device=device).to(dtype)
    return 4 * tokens**2 * heads * 128 / _seconds(device, lambda: attention(q, k, v))


def _memory_speed(device: torch.device) -> float:
    """Bytes read and written, of a copy inside the memory."""
    source = torch.zeros(128 << 20 if device.type == "cuda" else 32 << 20, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _seconds(device, lambda: target.copy_(source))


def _link_speed(device: torch.device) -> float:
    source = torch.zeros(128 << 20, dtype=torch.uint8, pin_memory=True)
    target = torch.empty_like(source, device=device)
    return source.nbytes / _seconds(device, lambda: target.copy_(source, non_blocking=True))


def _disk_speed(cache: Path, weights: Path | None) -> DiskSpeed:
    """Reads past the page cache; a file system without such reads is asked to forget the file first."""
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
        return _read_speed(path)
    except OSError:
        return DiskSpeed(ASSUMED["cuda"].disk_gbps, DISK_BYTES)
    finally:
        if weights is None:
            _remove(path)


def _read_speed(path: Path) -> DiskSpeed:
    try:
        file = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECT", 0))
    except OSError:
        file = os.open(path, os.O_RDONLY)
    try:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        aligned = _aligned_buffer()
        done, began = 0, time.perf_counter()
        while done < DISK_BYTES and time.perf_counter() - began < 2 * PART_SECONDS:
            count = os.preadv(file, [aligned], done)
            if not count:
                break
            done += count
        seconds = time.perf_counter() - began
    finally:
        os.close(file)
    if not done:
        raise OSError(f"{path} is empty")
    return DiskSpeed(done / seconds / 1e9, done)


def _aligned_buffer() -> memoryview:
    """Direct reads need an address that is a multiple of the disk's block."""
    memory = torch.empty(PIECE_BYTES + PAGE, dtype=torch.uint8)
    start = -memory.data_ptr() % PAGE
    return memoryview(memory.numpy())[start : start + PIECE_BYTES]


def _seconds(device: torch.device, work: Callable[[], object]) -> float:
    """The fastest of several repetitions after one to warm up."""
    backend = device_backend(device)
    best, end = float("inf"), time.perf_counter() + PART_SECONDS
    work()
    while best == float("inf") or time.perf_counter() < end:
        backend.finish(backend.mark())
        began = time.perf_counter()
        work()
        backend.finish(backend.mark())
        best = min(best, time.perf_counter() - began)
    return best


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
    try:
        data = json.loads((cache / FILE_NAME).read_text())
        devices = {key: Speeds(**values) for key, values in data["devices"].items()}
        return _Known(devices, {key: DiskSpeed(**values) for key, values in data["disks"].items()})
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return _Known({}, {})


def _write(cache: Path, known: _Known) -> None:
    unfinished = cache / f"{FILE_NAME}.{os.getpid()}.tmp"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(json.dumps(asdict(known), indent=1))
        unfinished.replace(cache / FILE_NAME)
    except OSError:
        _remove(unfinished)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
