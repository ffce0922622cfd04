"""--gpus of the page: its worker, whose videos are shared by several processes from job to job."""

import argparse
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from studio.commands.cli import build_parser
from studio.commands.devices import worker_commands
from studio.commands.gpus import page_devices, shared_config, sharing_of
from studio.commands.machine import engine_options
from studio.commands.worker import VideoRunner
from studio.config import load_models
from studio.errors import Cancelled, InputError, StudioError
from studio.events import Event, Finished, Notice, PhaseStarted
from studio.media import read_metadata_file
from studio.pipeline.estimate import Estimator
from studio.queue.job import Job
from studio.queue.jobs import JobQueue
from studio.queue.trash import Trash
from studio.queue.worker import WORKER, Stop
from studio.settings import GenerationSettings
from studio.ui.form_panels import plan_line

ASKED = GenerationSettings(
    "step-video-t2v", "a boat", infer_steps=3, num_frames=17, height=64, width=96, cfg_scale=4.0, seed=5
)


class Wishes:
    """Orders of nobody, until `stopped`."""

    stopped = False

    def stop(self) -> bool:
        return self.stopped

    def finish(self) -> bool:
        return False

    def sharp(self) -> bool:
        return False


@pytest.fixture
def options(model_dir: Path, outputs: Path) -> argparse.Namespace:
    return argparse.Namespace(model_dir=model_dir, output_dir=outputs, device="cpu", gpus="2", ram=8)


@pytest.fixture
def queue(tmp_path: Path) -> JobQueue:
    return JobQueue(tmp_path / "queue")


def runner_of(options: argparse.Namespace, queue: JobQueue) -> VideoRunner:
    config = shared_config(options, 2)
    asked = replace(engine_options(options), sharing=sharing_of(2))
    return VideoRunner(config, asked, Stop(), Trash(queue), config.output_dir, ["cpu", "cpu"])


def next_job(queue: JobQueue) -> Job:
    queue.submit(ASKED.resolve(load_models()[ASKED.model]))
    job = queue.claim()
    assert job is not None
    return job


@pytest.mark.slow
def test_its_processes_stay_from_job_to_job_and_come_again(options: argparse.Namespace, queue: JobQueue) -> None:
    runner, wishes, told = runner_of(options, queue), Wishes(), list[Event]()

    def made() -> Finished:
        job = next_job(queue)
        finished = runner.run(job, told.append, wishes)
        runner.after(job, finished)
        assert read_metadata_file(Path(finished.path))["gpus"] == 2
        return finished

    made()
    (said,) = [event for event in told if isinstance(event, Notice) and event.code == "gpus_shared"]
    assert said.values["count"] == 2
    cards = said.values["cards"].split(", ")
    assert len(cards) == 2 and all(card.startswith("cpu (") and card.endswith(" GB") for card in cards)
    assert said.text == f"2 devices share this video. Planned at most for each: {said.values['cards']}."
    first = runner._ranks._peers[0].process
    made()
    assert runner._ranks._peers[0].process is first and first.is_alive(), "the next job has the same process"
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    made()
    second = runner._ranks._peers[0].process
    assert second.pid != first.pid, "what ended between two jobs is started anew"

    def stop(event: Event) -> None:
        wishes.stopped |= event == PhaseStarted("denoise")

    with pytest.raises(Cancelled):
        runner.run(next_job(queue), stop, wishes)
    assert not second.is_alive(), "nothing goes on after an error"
    wishes.stopped = False
    made()
    third = runner._ranks._peers[0].process
    runner.release()
    assert not third.is_alive() and runner._ranks is None


def test_the_page_plans_for_each_and_tells_its_worker(options: argparse.Namespace, tmp_path: Path) -> None:
    parse = build_parser().parse_args
    page = parse(["--gpus", "2", "--device", "cpu", "--ram", "8"])
    (device,) = page_devices(page)
    assert (device.name, device.device) == (WORKER, "cpu")
    (command,) = worker_commands(page, tmp_path, [device], shared_config(page, 2)).values()
    told = vars(parse(command[command.index("worker") :]))
    assert (told["gpus"], told["device"], told["ram"]) == ("2", "cpu", 8), "it divides the RAM itself"
    assert parse(["--gpus", "2", "generate"]).gpus == parse(["generate", "--gpus", "2"]).gpus == "2"
    with pytest.raises(InputError, match="--gpus and --cluster exclude each other"):
        page_devices(parse(["--gpus", "2", "--device", "cpu", "--cluster", "127.0.0.1:6379"]))

    model = load_models()[ASKED.model]
    plans = {}
    for count in (1, 2):
        asked = replace(engine_options(options), sharing=sharing_of(count))
        plans[count] = Estimator(shared_config(options, count), asked).for_page(ASKED.resolve(model), model)
        assert plans[count]["gpus"] == count
    assert "Each of 2 devices: Fits" in plan_line(plans[2], "en") and "2 个设备各自" in plan_line(plans[2], "zh")
    assert "Each of" not in plan_line(plans[1], "en")
    asked = replace(engine_options(options), sharing=sharing_of(3))
    with pytest.raises(StudioError, match="cannot use 3 GPUs"):
        Estimator(shared_config(options, 3), asked).for_page(ASKED.resolve(model), model)
