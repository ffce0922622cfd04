"""The worker of sounds as a process of its own: beside a video that is being made, stopped in the middle, killed."""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from studio.commands.worker_process import worker_command
from studio.filenames import unfinished_results
from studio.queue.job import Job, JobState
from studio.queue.jobs import JobQueue
from studio.queue.kinds import SoundOrder
from studio.queue.leftovers import remove_leftovers
from studio.queue.supervisor import Supervisor
from studio.queue.worker import SOUND_WORKER, WORKER
from tests.audio.clips import make_clip, stream_hash
from tests.queue import toy_worker
from tests.queue.test_jobs import SETTINGS

pytestmark = pytest.mark.slow
WAIT = 120.0  # seconds; what a loaded machine may need
TRACK = {"version": 1, "lines": [], "layers": [{"sound": "rain", "start": 0, "end": 1}]}
LONG = TRACK | {"lines": [{"text": "一句很长的台词，" * 40, "start": at} for at in range(60)]}


def until(condition: Callable[[], Any]) -> Any:
    """The first true answer of `condition`."""
    deadline = time.monotonic() + WAIT
    while not (answer := condition()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)
    return answer


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "clip.mp4", 25, {"program": "step-video-studio", "settings": asdict(SETTINGS)})


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[tuple[JobQueue, Supervisor]]:
    """A queue with a toy worker for its videos and the real one for its sounds."""
    queue = JobQueue(tmp_path / ".queue")
    command = worker_command(argparse.Namespace(), queue.folder, "sound_worker", results=tmp_path)
    supervisor = Supervisor(queue, {WORKER: toy_worker.command(queue.folder)}, beside={SOUND_WORKER: command})
    supervisor.start()
    yield queue, supervisor
    supervisor.stop()


def ask(queue: JobQueue, clip: Path, track: dict[str, Any] | None) -> Job:
    return queue.submit_all([SETTINGS], sound=SoundOrder(str(clip), track))[0]


def reaches(queue: JobQueue, job: Job, state: JobState) -> Job:
    return until(lambda: found if (found := queue.get(job.id)).state == state else None)


def speaks(queue: JobQueue, job: Job) -> bool:
    """Whether a line was said, and others wait."""
    progress = queue.get(job.id).progress
    return bool(progress and progress.phase == "speak" and 0 < progress.step < progress.steps)


def test_sounds_are_made_beside_a_video_stopped_and_survive_kill_9(
    studio: tuple[JobQueue, Supervisor], clip: Path, tmp_path: Path
) -> None:
    (queue, supervisor), before = studio, clip.read_bytes()
    video = queue.submit(replace(SETTINGS, prompt="long"))
    reaches(queue, video, JobState.RUNNING)
    sound = reaches(queue, ask(queue, clip, TRACK), JobState.FINISHED)
    assert queue.get(video.id).state == JobState.RUNNING and sound.worker == SOUND_WORKER
    made = Path(sound.result.path)
    assert stream_hash(made) == stream_hash(clip) and json.loads(made.with_suffix(".json").read_text())["sound"]

    files = sorted(tmp_path.iterdir())
    stopped = ask(queue, clip, LONG)
    until(lambda: speaks(queue, stopped))
    assert queue.cancel(stopped.id)
    assert reaches(queue, stopped, JobState.CANCELLED).error is None and sorted(tmp_path.iterdir()) == files

    killed = ask(queue, clip, LONG)
    until(lambda: speaks(queue, killed))
    (worker,) = supervisor.beside
    pid = worker.pid
    worker._process.kill()
    assert reaches(queue, killed, JobState.FAILED).error.code == "worker_killed"
    assert queue.get(video.id).state == JobState.RUNNING, "no concern of the video's"
    again = reaches(queue, ask(queue, clip, TRACK), JobState.FINISHED)
    assert worker.pid not in (None, pid) and stream_hash(Path(again.result.path)) == stream_hash(clip)
    remove_leftovers(queue, tmp_path, tmp_path / "cache")
    assert clip.read_bytes() == before and unfinished_results(tmp_path) == []
    assert {path.suffix for path in tmp_path.iterdir()} == {".mp4", ".json", ""}, "clips, their records, the queue"
