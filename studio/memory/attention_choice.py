"""Which attention kernel a card uses: the one that is asked for, else the fastest, timed once and then fixed for card,
driver and PyTorch, so that bits stay."""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from time import perf_counter

import torch

from models.attention import OWN, REFUSED, attention, choose_kernel, installed_kernels, is_installed, run_kernel
from studio.errors import InputError
from studio.filenames import write_whole
from studio.memory.plan import AUTO
from studio.stored_json import load_object

FILE_NAME = "attention.json"
# Queries, keys: the video's tokens at 17 and 51 frames, both reduced for time, and the cross-attention to a text.
SHAPES = ((4096, 4096), (8192, 8192), (16384, 16384), (4096, 397))
TRIED = (256, 397)  # whether a kernel that is asked for serves at all
LIMIT_SECONDS = 2.0  # for the whole probe; kernels that were not timed by then are not chosen
DRIVER_FILE = Path("/sys/module/nvidia/version")  # of Linux; PyTorch does not tell it
WORTH = 0.97  # of the own choice's time: another kernel is taken from here on, so that noise chooses nothing

Shape = tuple[int, int]
Timer = Callable[[str, Shape], float | None]  # seconds of a kernel for a shape; None: it refuses
Clock = Callable[[], float]


def choose_attention(cache: Path, device: torch.device, dtype: torch.dtype, asked: str = AUTO) -> None:
    """Choose the device's kernel for this process.

    asked: of ATTENTIONS; AUTO: on a CUDA device as remembered in `cache` or timed now, on a CPU PyTorch's own. Raises
    InputError for a kernel that is not installed, needs a GPU, or does not serve this one.
    """
    if asked == AUTO and device.type == "cuda":
        timer = cuda_timer(device, dtype)
        choose_kernel(device, chosen_kernel(cache, machine_key(device), installed_kernels(), timer, perf_counter))
        return
    if asked not in (AUTO, OWN):
        require(asked, device, lambda kernel, shape: cuda_timer(device, dtype)(kernel, shape))
    choose_kernel(device, OWN if asked == AUTO else asked)


def require(asked: str, device: torch.device, seconds: Timer) -> None:
    """Raise InputError unless a kernel other than OWN serves this device."""
    if not is_installed(asked):
        raise InputError("attention_missing", value=asked)
    if device.type != "cuda":
        raise InputError("attention_needs_gpu", value=asked, device=str(device))
    if seconds(asked, TRIED) is None:
        raise InputError("attention_refused", value=asked, device=str(device))


def chosen_kernel(cache: Path, key: str, kernels: Sequence[str], seconds: Timer, clock: Clock) -> str:
    """The kernel for a machine: remembered in the folder `cache`, else timed now and remembered.

    key: names the card, the driver and PyTorch. kernels: the installed ones beside OWN; where a kernel is installed
    later or gone, they are timed anew. Where the folder cannot be written the choice is made again at the next start.
    """
    known = load_object(cache / FILE_NAME)
    name = f"{key}, kernels {' '.join(kernels)}"
    if (found := known.get(name)) in (OWN, *kernels):
        return str(found)
    known[name] = fastest(kernels, seconds, clock)
    with suppress(OSError):
        write_whole(cache / FILE_NAME, json.dumps(known, indent=1).encode())
    return str(known[name])


def fastest(kernels: Sequence[str], seconds: Timer, clock: Clock) -> str:
    """The kernel with the least time over all shapes, OWN unless another is worth it."""
    began = clock()
    totals: dict[str, float] = {}
    for kernel in (OWN, *kernels):
        times = []
        for shape in SHAPES:
            if kernel != OWN and clock() - began > LIMIT_SECONDS:
                break
            taken = seconds(kernel, shape)
            if taken is None:
                break
            times.append(taken)
        if len(times) == len(SHAPES):
            totals[kernel] = sum(times)
    if OWN not in totals:
        return OWN
    best = min(totals, key=lambda kernel: totals[kernel])
    return best if totals[best] < WORTH * totals[OWN] else OWN


def machine_key(device: torch.device) -> str:
    """Of a CUDA device: card, driver, PyTorch."""
    return f"{torch.cuda.get_device_name(device)}, driver {driver_version()}, torch {torch.__version__}"


def driver_version(file: Path = DRIVER_FILE) -> str:
    """The release of NVIDIA's driver, "580.95.05"; "unknown" where the system does not tell it in a file."""
    try:
        return file.read_text().strip() or "unknown"
    except (OSError, UnicodeDecodeError):
        return "unknown"


def cuda_timer(device: torch.device, dtype: torch.dtype, heads: int = 48, width: int = 128) -> Timer:
    """Times kernels by the GPU's events: the better of two runs after one to warm up."""

    def seconds(kernel: str, shape: Shape) -> float | None:
        q = torch.randn(1, shape[0], heads, width, device=device, dtype=dtype)
        k = torch.randn(1, shape[1], heads, width, device=device, dtype=dtype)
        took = []
        try:
            for _ in range(3):
                begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                begin.record()
                attention(q, k, k) if kernel == OWN else run_kernel(kernel, q, k, k)
                end.record()
                end.synchronize()
                took.append(begin.elapsed_time(end) / 1e3)
        except REFUSED:
            return None
        return min(took[1:])

    return seconds
