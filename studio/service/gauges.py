"""What the page shows of this machine: memory in use and in all, without loading anything onto the GPU itself."""

import shutil
import subprocess

import psutil

from studio.queue.job import JobState
from studio.queue.jobs import JobQueue
from studio.queue.supervisor import Supervisor
from studio.units import GB


def memory_gauges(queue: JobQueue, supervisor: Supervisor, device: str) -> dict[str, float | None]:
    """GB of the worker's RAM and of the GPU's memory in use by all programs, and what the machine has."""
    gauges: dict[str, float | None] = {"ram_gb": _worker_ram(supervisor.pid) / GB}
    gauges["ram_total_gb"] = psutil.virtual_memory().total / GB
    if device.startswith("cuda") and (found := gpu_memory(device)):
        gauges["vram_gb"], gauges["vram_total_gb"] = (value / GB for value in found)
    running = queue.list([JobState.RUNNING], limit=1)
    if running and running[0].progress and "vram_gb" in gauges:
        gauges["vram_gb"] = running[0].progress.vram_bytes / GB
    return gauges


def free_vram_gb(queue: JobQueue, device: str) -> float | None:
    """GB of the GPU that a job could have: what is free, and what the running job will release."""
    if not device.startswith("cuda") or (found := gpu_memory(device)) is None:
        return None
    used, total = found
    running = queue.list([JobState.RUNNING], limit=1)
    own = running[0].progress.vram_bytes if running and running[0].progress else 0
    return (total - max(used - own, 0)) / GB


def worker_is_fresh(queue: JobQueue, supervisor: Supervisor) -> bool:
    """Whether the next job is the first that its worker process makes, which takes longer."""
    if supervisor.pid is None:
        return True
    try:
        began = psutil.Process(supervisor.pid).create_time()
    except psutil.Error:
        return True
    newest = queue.list([JobState.RUNNING, JobState.FINISHED], limit=1)
    return not newest or (newest[0].started or 0.0) < began


def gpu_memory(device: str) -> tuple[int, int] | None:
    """(used, total) bytes of "cuda:N" by the driver's own program: a context in the page's process would cost VRAM."""
    if (program := shutil.which("nvidia-smi")) is None:
        return None
    index = device.partition(":")[2] or "0"
    command = [program, f"--id={index}", "--query-gpu=memory.used,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout
        used, total = (int(part) << 20 for part in answer.strip().split(","))
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return used, total


def _worker_ram(pid: int | None) -> int:
    """What the worker has for itself; pages it shares with files are the kernel's to take back."""
    if pid is None:
        return 0
    try:
        memory = psutil.Process(pid).memory_info()
    except psutil.Error:
        return 0
    return memory.rss - getattr(memory, "shared", 0)
