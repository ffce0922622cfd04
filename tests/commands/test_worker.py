"""The worker's runner of videos between jobs."""

from pathlib import Path

import pytest

from studio.commands import worker
from studio.config import load_studio
from studio.pipeline.engine import EngineOptions
from studio.queue.jobs import JobQueue
from studio.queue.trash import Trash
from studio.queue.worker import Stop


def test_a_worker_imports_before_the_first_job_what_that_would_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(worker, "import_module", asked.append)
    config = load_studio(model_dir=str(tmp_path), output_dir=str(tmp_path))
    trash = Trash(JobQueue(tmp_path / "queue"))
    runner = worker.VideoRunner(config, EngineOptions("cpu"), Stop(), trash, tmp_path)
    assert asked == [], "a job that waits already is not held up by it"
    for _ in range(3):
        runner.idle()
    assert asked == ["models.clip"], "the text encoder's library, of all imports the slow one; once"
