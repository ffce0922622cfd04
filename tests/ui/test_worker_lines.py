"""The page names every worker where there are several: its device, its job, its pace, or why it cannot start."""

import time
from dataclasses import replace
from pathlib import Path

from studio.events import Failed, Progress
from studio.messages import message
from studio.queue.jobs import JobQueue
from studio.service.workers import WorkerView
from studio.ui.system_bar import SystemBar
from studio.ui.worker_lines import worker_lines
from tests.queue.test_jobs import SETTINGS
from tests.ui.fake_backend import FakeBackend


def test_a_line_for_each_of_several_workers(tmp_path: Path) -> None:
    queue = JobQueue(tmp_path / "queue")
    queue.submit(replace(SETTINGS, prompt="<b>a boat</b> " + "x" * 80))
    job = queue.claim("cuda:0")
    queue.record(job.id, Progress("denoise", 4, 50, 12.8))
    job = queue.get(job.id)
    values = {"status": 1, "words": "no driver"}
    trouble = Failed("worker_exited", values, message("worker_exited", values))
    views = [WorkerView("cuda:0", 1, job, None), WorkerView("cuda:1", 2, None, None), WorkerView("cuda:2", None, None,
                                                                                                 trouble)]  # fmt: skip
    clock = time.strftime("%H:%M", time.localtime(job.started))
    english, chinese = worker_lines(views, "en"), worker_lines(views, "zh")
    assert f"… · 4/50 · 3.2 s per step · since {clock}</li>" in english and f"{clock} 开始" in chinese
    assert "<b>a boat" not in english and "&lt;b&gt;a boat" in english
    assert "<b>cuda:1</b> Idle" in english and "<b>cuda:1</b> 空闲" in chinese
    assert "<b>cuda:2</b> " in english and "no driver" in english and "no driver" in chinese
    assert worker_lines(views[:1], "en") == ""
    fake = FakeBackend(tmp_path)
    bar = SystemBar(replace(fake.backend, workers=lambda: views))
    assert english in bar.look("en")[bar.bar]
