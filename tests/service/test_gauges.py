"""What the page shows of its machine and its worker."""

import os
import time
from types import SimpleNamespace

import psutil
import pytest

from studio.events import Finished, Progress
from studio.queue.job import JobState
from studio.queue.jobs import JobQueue
from studio.service.gauges import free_vram_gb, memory_gauges, worker_is_fresh
from studio.units import GB
from tests.queue.test_jobs import SETTINGS


@pytest.fixture
def queue(tmp_path):
    return JobQueue(tmp_path / "queue")


def test_a_worker_is_fresh_until_it_has_made_a_video(queue):
    worker = SimpleNamespace(pids=[os.getpid()], beside=[])
    assert worker_is_fresh(queue, SimpleNamespace(pids=[], beside=[])) and worker_is_fresh(queue, worker)
    job = queue.submit(SETTINGS)
    assert worker_is_fresh(queue, worker), "it waits"
    queue.claim()
    assert not worker_is_fresh(queue, worker), "by the time of the next job it will have made one"
    queue.finish(job.id, JobState.FINISHED, result=Finished("a.png", 1, {}, 0, 0))
    assert not worker_is_fresh(queue, worker)


def test_a_worker_that_was_started_after_the_last_video_is_fresh(queue, monkeypatch):
    queue.submit(SETTINGS)
    queue.claim()
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: time.time() + 1)
    assert worker_is_fresh(queue, SimpleNamespace(pids=[os.getpid()], beside=[]))


def test_memory_of_the_gpu_and_of_the_worker(queue, tmp_path, monkeypatch):
    """The driver's own program is asked; what the running job holds will be free for the next one."""
    worker = SimpleNamespace(pids=[os.getpid()], beside=[])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert free_vram_gb(queue, "cuda:0") is None and "vram_gb" not in memory_gauges(queue, worker, "cuda:0")
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\n[ "$1" = --id=1 ] && echo "61440, 81920"\n')
    program.chmod(0o755)
    assert free_vram_gb(queue, "cuda:1") == 20.0 and free_vram_gb(queue, "cpu") is None
    assert free_vram_gb(queue, "cuda:0") is None, "an answer that is none"
    id = queue.submit(SETTINGS).id
    queue.claim()
    queue.record(id, Progress("denoise", 1, 2, 1.0, vram_bytes=50 * GB, ram_bytes=GB))
    assert free_vram_gb(queue, "cuda:1") == 70.0
    gauges = memory_gauges(queue, worker, "cuda:1")
    assert (gauges["vram_gb"], gauges["vram_total_gb"]) == (50.0, 80.0) and 0 < gauges["ram_gb"] < gauges[
        "ram_total_gb"
    ]
    assert memory_gauges(queue, SimpleNamespace(pids=[], beside=[]), "cpu")["ram_gb"] == 0.0
