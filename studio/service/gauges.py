"""What the page shows of this machine: memory in use and in all, without loading anything onto the GPU itself."""

import shutil
import subprocess

import psutil

from studio.queue.job import JobState
from studio.queue.jobs import JobQueue
from studio.queue.kinds import JobKind
from studio.queue.supervisor import Supervisor
from studio.queue.worker import WORKER
from studio.units import GB

LATEST = 20  # jobs among which the newest video is looked for


def memory_gauges(queue: JobQueue, supervisor: Supervisor, device: str) -> dict[str, float | None]:
    """GB of the workers' RAM and of the first GPU's memory in use by all programs, and what the machine has."""
    pids = [*supervisor.pids, *(worker.pid for worker in supervisor.beside if worker.pid is not None)]
    gauges: dict[str, float | None] = {"ram_gb": sum(map(_worker_ram, pids)) / GB}
    gauges["ram_total_gb"] = psutil.virtual_memory().total / GB
    if device.startswith("cuda") and (found := gpu_memory(device)):
        gauges["vram_gb"], gauges["vram_total_gb"] = (value / GB for value in found)
    if (own := _running_vram(queue, device)) and "vram_gb" in gauges:
        gauges["vram_gb"] = own / GB
    return gauges


def free_vram_gb(queue: JobQueue, device: str) -> float | None:
    """GB of the GPU that a job could have: what is free, and what the running job will release."""
    if not device.startswith("cuda") or (found := gpu_memory(device)) is None:
        return None
    used, total = found
    return (total - max(used - _running_vram(queue, device), 0)) / GB


def worker_is_fresh(queue: JobQueue, supervisor: Supervisor) -> bool:
    """Whether the next job is the first that its worker process makes, which takes longer; of several, the oldest's."""
    if not (pids := supervisor.pids):
        return True
    try:
        began = min(psutil.Process(pid).create_time() for pid in pids)
    except psutil.Error:
        return True
    latest = queue.list([JobState.RUNNING, JobState.FINISHED], limit=LATEST)
    newest = [job for job in latest if job.kind is JobKind.VIDEO]
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


def _running_vram(queue: JobQueue, device: str) -> int:
    """Bytes of the GPU that the job on it holds; 0 where none runs there."""
    held = [job.progress.vram_bytes for job in queue.list([JobState.RUNNING]) if job.progress and job.worker in (
        "", WORKER, device)]  # fmt: skip
    return held[0] if held else 0


def _worker_ram(pid: int) -> int:
    """What the worker has for itself; pages it shares with files are the kernel's to take back."""
    try:
        memory = psutil.Process(pid).memory_info()
    except psutil.Error:
        return 0
    return memory.rss - getattr(memory, "shared", 0)
