"""The worker's runner of videos between jobs."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from studio.commands import worker
from studio.config import load_models, load_studio
from studio.errors import InputError
from studio.events import Event, Notice
from studio.filenames import LATENTS, write_whole
from studio.media import png_bytes, read_frame, read_metadata_file
from studio.pipeline.engine import CACHE_FOLDER, EngineOptions
from studio.pipeline.evaluation_plan import Rule
from studio.pipeline.latents_file import read_latents, save_latents
from studio.queue.frames import FrameDesk, FrameWish, WishState
from studio.queue.job import JobState, Link
from studio.queue.jobs import JobQueue
from studio.queue.trash import Trash
from studio.queue.worker import Stop, work
from studio.settings import GenerationSettings, ResolvedSettings


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


def test_a_job_whose_model_was_taken_away_fails_in_a_sentence_and_ends_no_worker(tmp_path: Path) -> None:
    config = load_studio(model_dir=str(tmp_path), output_dir=str(tmp_path))
    queue, stop = JobQueue(tmp_path / "queue"), Stop()
    job = queue.submit(replace(GenerationSettings("nano", "a ball").resolve(load_models()["nano"]), model="gone"))
    runner = worker.VideoRunner(config, EngineOptions("cpu"), stop, Trash(queue), tmp_path)
    runner.idle = lambda: setattr(stop, "asked", True)
    assert work(queue, runner, stop=stop) == 0
    assert queue.get(job.id).state == JobState.FAILED and queue.get(job.id).error.code == "model_unknown"


def makes_a_video_again_with_its_plan(
    queue: JobQueue, runner: worker.VideoRunner, settings: ResolvedSettings, provenance: dict[str, Any]
) -> None:
    """With the plan of its file; where the model is another by now with its own, which is told."""
    orders = SimpleNamespace(stop=lambda: False, finish=lambda: False, sharp=lambda: False)
    plan = Rule(3, 5.0, 0.6).plan(2.0, calibrated=True).to_dict()
    for fingerprint, nodes, told in ((provenance["model_fingerprint"], 3, []), ("another", 2, ["again_model"])):
        job = queue.submit(settings, again={"plan": plan, "model_fingerprint": fingerprint})
        events: list[Event] = []
        made = read_metadata_file(Path(runner.run(job, events.append, orders).path))
        assert len(made["plan"]["nodes"]) == nodes and (made["plan"] == plan) == (nodes == 3)
        assert [event.code for event in events if isinstance(event, Notice) and event.code == "again_model"] == told


def test_a_worker_decodes_the_frame_that_was_seen(tmp_path: Path, model_dir: Path, measured: Path) -> None:
    """Of a video and of the one that follows it, whose own first frame is not shown and whose colours are moved."""
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    (outputs / CACHE_FOLDER).symlink_to(measured)
    config = load_studio(model_dir=str(model_dir), output_dir=str(outputs), ram_gb=4.0)
    queue, models, stop = JobQueue(tmp_path / "queue"), load_models(), Stop()
    runner = worker.VideoRunner(config, EngineOptions("cpu"), stop, Trash(queue), outputs)
    shape = {"infer_steps": 2, "num_frames": 17, "height": 64, "width": 96, "seed": 5}
    first = queue.submit(GenerationSettings("step-video-t2v", "a ball", **shape).resolve(models["step-video-t2v"]))
    asked = GenerationSettings("step-video-ti2v", "a ball", first_image="picture", **shape)
    (second,) = queue.submit_all([asked.resolve(models["step-video-ti2v"])], link=Link(source=first.id))
    desk, ended = FrameDesk(queue.folder), []

    def after() -> None:  # both are done: the frames are wished for, then the worker ends
        if queue.count([JobState.FINISHED]) == 2 and not ended:
            for job, number in ((first, 3), (first, 17), (second, 16), (second, 17)):
                ended.append(desk.ask(FrameWish(queue.get(job.id).folder / LATENTS, number, queue.get(job.id).goes_on)))
        stop.asked = bool(ended) and not desk.waits() or queue.count([JobState.FAILED]) > 0

    runner.idle = after
    assert work(queue, runner, stop=stop, idle_seconds=0.0) == 0
    assert [desk.state(id) for id in ended] == [WishState.DONE] * 3 + [WishState.FAILED]
    for job, number, id in ((first, 3, ended[0]), (first, 17, ended[1]), (second, 16, ended[2])):
        seen = np.asarray(read_frame(queue.get(job.id).result_path, number - 1)).astype(int)
        path = tmp_path / "exact.png"
        write_whole(path, desk.picture(id))
        exact = np.asarray(Image.open(path))
        assert exact.shape == seen.shape and np.abs(exact - seen).mean() < 8, "the mp4 is compressed"
        if number != 3:  # the last frame is kept as it was decoded: the same bits
            assert png_bytes(Image.fromarray(exact)) == (queue.get(job.id).folder / "last_frame.png").read_bytes()
    assert desk.failure(ended[3]).code == "part_empty"
    latents = queue.get(first.id).folder / LATENTS
    found = read_latents(latents)
    makes_a_video_again_with_its_plan(queue, runner, replace(first.settings, speed="fast"), found.provenance)
    save_latents(latents.parent, replace(found.state, step=1), found.settings, found.provenance)
    with pytest.raises(InputError) as told:
        runner.frame(FrameWish(latents, 3))
    assert told.value.code == "latents_unfinished", "as of a video that was finished early"
    save_latents(latents.parent, found.state, found.settings, found.provenance | {"model_fingerprint": "another"})
    with pytest.raises(InputError) as told:
        runner.frame(FrameWish(latents, 3))
    assert told.value.code == "rerun_model"
