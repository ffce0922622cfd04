"""The whole program, asked over its API, with two workers on one queue as on a machine with two GPUs: here they share
the CPU."""

from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from studio.queue.job import JobState
from tests.commands.real_studio import Studio, ended, frames_of, reached, until

DEVICES = ("cpu:0", "cpu:1")


@pytest.mark.slow
def test_one_of_two_workers_dies_alone_and_its_video_is_the_others_in_the_end(tmp_path: Path) -> None:
    """Two jobs of one request: the one whose worker is killed ends, resumed, with the same frames."""
    studio = Studio(tmp_path / "models", tmp_path / "outputs", ",".join(DEVICES)).open()
    try:
        logs = [studio.folder / ".queue" / f"worker-{name.replace(':', '-')}.log" for name in DEVICES]
        until(lambda: all(log.exists() for log in logs))
        api = httpx.Client(base_url=studio.url, timeout=60)
        asked = {"prompt": "a red circle moves to the left", "infer_steps": 16, "num_frames": 17, "seed": 5}
        ids = [api.post("/v1/videos", json=asked).json()["id"] for _ in range(2)]
        jobs = [studio.queue.get(id.removeprefix("video_")) for id in ids]
        first, second = (reached(studio, job, 1) for job in jobs)
        assert {first.worker, second.worker} == set(DEVICES), "both at once"
        workers = {words[words.index("--name") + 1]: process for process in psutil.Process(studio._page.pid).children()
                   if "--name" in (words := process.cmdline())}  # fmt: skip
        assert set(workers) == set(DEVICES)
        words = workers[first.worker].cmdline()
        assert float(words[words.index("--ram") + 1]) == 2.0, "half of --ram 4"
        workers[first.worker].kill()
        assert ended(studio, first, JobState.FAILED).error.code == "worker_killed"
        whole = ended(studio, second, JobState.FINISHED)
        assert whole.attempts == 1 and workers[second.worker].is_running()
        assert api.post(f"/v1/videos/{ids[0]}/resume").status_code == 200
        assert '"status": "completed"' in api.get(f"/v1/videos/{ids[0]}/events").text
        again = ended(studio, first, JobState.FINISHED)
        assert again.attempts == 2 and np.array_equal(frames_of(again), frames_of(whole))
        assert api.get(f"/v1/videos/{ids[0]}/content").content == Path(again.result.path).read_bytes()
    finally:
        assert studio.close() == 0
