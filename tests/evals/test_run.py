"""An evaluation's queues, worked by the test itself instead of a worker, and the report of what came out."""

import re
from pathlib import Path

import numpy as np
import pytest

from studio.config import load_camera_moves, load_models
from studio.evals.posters import write_poster
from studio.evals.recipes import Recipe, make_tasks
from studio.evals.report import write_report
from studio.evals.results import make_row, make_run
from studio.evals.run import CLIPS, MOST_ATTEMPTS, POSTERS, Evaluation, clip_of
from studio.evals.suite import read_suite
from studio.events import Failed, Finished
from studio.messages import message
from studio.queue.job import Job, JobState
from studio.video_writer import VideoWriter

RECIPES = [Recipe("nano", "nano"), Recipe("few", "nano", "none", {"infer_steps": 2}), Recipe("q", "nano", "int8")]
KILLED = Failed("worker_exited", {"status": 1, "words": "x"}, "")


@pytest.fixture
def tasks(tmp_path: Path) -> list:
    lines = '{"prompt": "A red <b>square</b>", "category": "one"}\n{"prompt": "圆", "category": "two"}\n'
    (tmp_path / "suite.jsonl").write_text(lines, encoding="utf-8")
    return make_tasks(read_suite(tmp_path / "suite.jsonl"), RECIPES, 1, load_models(), load_camera_moves())


def finish(evaluation: Evaluation, job: Job, weights: str) -> Path:
    path = evaluation.folder / CLIPS / f"{job.id}.mp4"
    path.parent.mkdir(exist_ok=True)
    writer = VideoWriter(path, 32, 32, 25, {})
    writer.add(np.random.default_rng(0).integers(0, 255, (5, 32, 32, 3), dtype=np.uint8))
    writer.close()
    result = Finished(str(path), job.settings.seed, {"denoise": 10.0}, 0, 0)
    evaluation.queues[weights].finish(job.id, JobState.FINISHED, result=result)
    return path


def test_a_folder_is_filled_once_and_goes_on_after_any_end(tmp_path: Path, tasks: list) -> None:
    evaluation = Evaluation(tmp_path / "run", tasks)
    assert evaluation.fill() == 6 and evaluation.state().seconds_left is None
    assert evaluation.weights_left() == "int8"
    counts = {weights: queue.count() for weights, queue in evaluation.queues.items()}
    assert counts == {"int8": 2, "none": 4}

    first = evaluation.queues["none"].claim()
    clip = finish(evaluation, first, "none")
    second = evaluation.queues["none"].claim()
    evaluation.queues["none"].finish(second.id, JobState.INTERRUPTED)  # as after kill -9

    again = Evaluation(tmp_path / "run", tasks)  # another process
    assert again.fill() == 5 and again.queues["none"].get(second.id).state == JobState.QUEUED
    assert again.queues["none"].count() == 4, "nothing is asked for twice"
    assert again.state().made == 1 and again.state().bytes_left == pytest.approx(5 * clip.stat().st_size)

    clip.unlink()  # a clip that somebody removed is made again
    assert Evaluation(tmp_path / "run", tasks).fill() == 6
    less = Evaluation(tmp_path / "run", [task for task in tasks if task.recipe.name == "few"])
    assert less.fill() == 2 and less.queues["none"].count() == 4


def test_what_kills_its_worker_is_tried_a_few_times(tmp_path: Path, tasks: list) -> None:
    evaluation = Evaluation(tmp_path / "run", tasks[:1])
    evaluation.fill()
    queue = evaluation.queues["none"]
    for attempt in range(1, MOST_ATTEMPTS + 1):
        job = queue.claim()
        assert job.attempts == attempt
        queue.finish(job.id, JobState.FAILED, error=KILLED)
        evaluation.revive()
    assert evaluation.state().failed == 1 and queue.claim() is None and evaluation.weights_left() is None
    evaluation.fill()  # who calls again wants it again
    job = queue.claim()
    queue.finish(job.id, JobState.FAILED, error=Failed("prompt_empty", {}, ""))
    evaluation.revive()
    assert queue.get(job.id).state == JobState.FAILED, "an error of the job itself is final"


def test_the_report_holds_every_clip_in_both_languages_and_asks_no_host(tmp_path: Path, tasks: list) -> None:
    evaluation = Evaluation(tmp_path / "run #1", tasks)
    evaluation.fill()
    for weights, queue in evaluation.queues.items():
        while job := queue.claim():
            if weights == "int8":
                queue.finish(
                    job.id,
                    JobState.FAILED,
                    error=Failed("disk_full", {"folder": "/x", "free_gb": 1.0, "need_gb": 2.0}, ""),
                )
            else:
                finish(evaluation, job, weights)
    rows = []
    for task, job in evaluation.results():
        if clip := clip_of(job):
            write_poster(clip, evaluation.folder / POSTERS / f"{job.id}.webp")
        rows.append(make_row(task, job, None, evaluation.folder))
    run = make_run(evaluation.folder, "suite", RECIPES, rows)
    page = write_report(run).read_text(encoding="utf-8")
    assert "<b>square" not in page and "A red &lt;b&gt;square" in page
    values = {"folder": "/x", "free_gb": 1.0, "need_gb": 2.0}
    for language in ("en", "zh"):
        assert message("disk_full", values, language) in page
    assert page.count('<span lang="en">') == page.count('<span lang="zh">') > 10
    assert "://" not in page, "it points to a host"
    files = re.findall(r'(?:src|href|data-clip)="([^"]+)"', page)
    assert len(set(files)) == 4 + 4 + 4  # posters, settings, clips
    gone = [name for name in files if not (evaluation.folder / name).exists() and not name.endswith(".json")]
    assert not gone
