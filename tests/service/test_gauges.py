"""What the page tells of its machine and its worker."""

import os
import time
from types import SimpleNamespace

import psutil
import pytest

from studio.events import Finished
from studio.queue.job import JobState
from studio.queue.jobs import JobQueue
from studio.service.gauges import worker_is_fresh
from tests.queue.test_jobs import SETTINGS


@pytest.fixture
def queue(tmp_path):
    return JobQueue(tmp_path / "queue")


def test_a_worker_is_fresh_until_it_has_made_a_video(queue):
    worker = SimpleNamespace(pid=os.getpid())
    assert worker_is_fresh(queue, SimpleNamespace(pid=None)) and worker_is_fresh(queue, worker)
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
    assert worker_is_fresh(queue, SimpleNamespace(pid=os.getpid()))
