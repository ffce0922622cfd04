"""`evaluate` in processes of their own, with a tiny model: killed twice, it makes every clip once."""

import json
import shutil
from pathlib import Path

import httpx
import psutil
import pytest

from studio.evals.results import read_run
from studio.pipeline.engine import CACHE_FOLDER
from studio.queue.job import JobState
from studio.queue.jobs import JobQueue
from tests.commands.real_studio import Studio, until

SECONDS = 600.0  # what a crowded machine may need
RECIPES = """
short: {model: step-video-t2v, infer_steps: 12, num_frames: 17, height: 64, width: 64}
shorter: {model: step-video-t2v, infer_steps: 6, num_frames: 17, height: 64, width: 64}
"""


@pytest.mark.slow
def test_a_run_goes_on_after_two_kills_and_ends_with_its_report(
    model_dir: Path, measured: Path, tmp_path: Path
) -> None:
    pytest.importorskip("cv2", reason="needs the extra `evaluate`: opencv-python-headless")
    (tmp_path / "prompts.txt").write_text("# one\nA red ball\n# two\n一只白色的猫\n", encoding="utf-8")
    (tmp_path / "recipes.yaml").write_text(RECIPES, encoding="utf-8")
    studio, folder = Studio(model_dir, tmp_path / "outputs"), tmp_path / "run"
    shutil.copytree(measured, studio.folder / CACHE_FOLDER)
    words = ("evaluate", tmp_path / "prompts.txt", "--recipe", "short,shorter", "--recipes", tmp_path / "recipes.yaml")
    asked = (*words, "--to", folder)

    def at_next(count: int) -> bool:
        """That many clips are there and the next one is being made."""
        path = folder / ".queues" / "none"
        if not (path / "queue.sqlite").exists() or len(list((folder / "clips").glob("*.mp4"))) < count:
            return False
        return any(job.state == JobState.RUNNING and job.progress for job in JobQueue(path).list())

    for count in (1, 2):  # first the command alone, whose worker then ends by itself; then the worker as well
        process = studio.run(*asked)
        until(lambda count=count, process=process: at_next(count) or process.poll() is not None, SECONDS)
        workers = psutil.Process(process.pid).children(recursive=True)
        for worker in workers if count == 2 else ():
            worker.kill()
        process.kill()
        process.wait()
    process = studio.run(*asked)
    said, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, said

    jobs = JobQueue(folder / ".queues" / "none").list()
    assert len(jobs) == 4 and {job.state for job in jobs} == {"finished"} and max(job.attempts for job in jobs) > 1
    run = read_run(folder)
    assert [(row.recipe, row.category, row.settings["seed"]) for row in run.rows] == [
        ("short", "one", 1001), ("shorter", "one", 1001), ("short", "two", 1002), ("shorter", "two", 1002),
    ]  # fmt: skip
    assert all((folder / row.clip).is_file() and (folder / row.poster).is_file() for row in run.rows)
    assert all(row.scores["flicker_vbench"] > 0.5 for row in run.rows)
    assert len(list((folder / "clips").glob("*.mp4"))) == 4 and not list((folder / "clips").glob("*.tmp"))
    assert (folder / "index.html").is_file()
    again = studio.run(*asked)
    assert again.wait(SECONDS) == 0 and max(
        job.attempts for job in JobQueue(folder / ".queues" / "none").list()
    ) == max(job.attempts for job in jobs)

    seen = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert list(seen["recipes"]) == ["short", "shorter"]


@pytest.mark.slow
def test_an_evaluation_of_the_page_ends_with_it_and_goes_on_later(
    model_dir: Path, measured: Path, tmp_path: Path
) -> None:
    """kill -9 of the page: the command and its worker end by themselves; another page goes on where they were."""
    pytest.importorskip("cv2", reason="needs the extra `evaluate`: opencv-python-headless")
    studio = Studio(model_dir, tmp_path / "outputs")
    shutil.copytree(measured, studio.folder / CACHE_FOLDER)
    own = {"few": {"model": "step-video-t2v", "infer_steps": 4, "num_frames": 17, "height": 64, "width": 64}}
    asked = {"name": "mine", "source": "text", "prompts": ".txt", "text": "A red ball\nA cat\n", "recipes": ["few"]}
    studio.open()
    answer = httpx.post(f"{studio.url}/studio/evaluations", json=asked | {"own": own}, timeout=SECONDS)
    assert answer.json() == {"name": "mine"}, answer.text

    def now() -> dict:
        return httpx.get(f"{studio.url}/studio/evaluations", timeout=SECONDS).json()["evaluations"][0]

    until(lambda: now()["made"] >= 1, SECONDS)
    below = psutil.Process(studio.page_pid).children(recursive=True)
    assert len(below) >= 3  # the page's worker, the command, its worker
    studio.kill()
    _, alive = psutil.wait_procs(below, SECONDS)
    assert not alive
    studio.open()
    assert now()["stage"] in ("stopped", "ended")  # with two clips it may have been quick
    httpx.post(f"{studio.url}/studio/evaluations/mine/start", timeout=SECONDS)
    until(lambda: now()["stage"] == "ended", SECONDS)
    assert (now()["made"], now()["measured"], now()["failed"]) == (2, 2, 0)
    page = httpx.get(f"{studio.url}/{now()['report']}")
    assert page.status_code == 200 and "A red ball" in page.text
    assert studio.close() == 0
