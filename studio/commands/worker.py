"""`worker`: works the queue; started by the page, ends with it."""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from studio.commands.machine import engine_options, learn_from, notices, studio_config
from studio.config import ModelConfig, StudioConfig, load_camera_moves, load_models
from studio.events import Event, Finished, PhaseStarted
from studio.filenames import result_name
from studio.media import read_image
from studio.pipeline.engine import EngineOptions, open_engine, pick_device
from studio.pipeline.generate import generate
from studio.pipeline.run import Engine, Request
from studio.queue.job import Job
from studio.queue.jobs import JobQueue
from studio.queue.locks import DeviceLock, runtime_folder
from studio.queue.log import start_log
from studio.queue.worker import FRESH_PROCESS, Stop, work


def run(options: argparse.Namespace) -> int:
    """Work the queue until the page ends or asks to stop."""
    config = studio_config(options)
    engines = _Engines(config, engine_options(options))
    start_log(options.queue, "worker")
    stop = Stop()
    stop.listen()
    queue = JobQueue(options.queue, limit_megapixels=config.image_limit_megapixels)
    device = str(pick_device(engine_options(options).device))
    lock = DeviceLock(runtime_folder(), device, "the page's worker")
    left = False

    def idle() -> None:
        """Release the memory. What a CUDA context takes is freed by the end of its process alone, so that one ends."""
        nonlocal left
        engines.release()
        if device != "cpu" and not stop.asked:
            left = stop.asked = True

    code = work(queue, engines.run, idle, stop=stop, device=lock)
    return FRESH_PROCESS if left else code


class _Engines:
    """The worker's opened model: kept from job to job while the same one is asked for."""

    def __init__(self, config: StudioConfig, options: EngineOptions) -> None:
        self._config, self._options = config, options
        self._models, self._moves = load_models(), load_camera_moves()
        self._key: tuple[str, bool] | None = None
        self._engine: Engine | None = None
        self._first = True  # no video was made by this process yet

    def run(self, job: Job, emit: Callable[[Event], None], cancelled: Callable[[], bool]) -> Finished:
        """Make the job's video."""
        settings = job.settings
        image = None
        if settings.first_image is not None:
            image = read_image(Path(settings.first_image).read_bytes(), self._config.image_limit_megapixels)
        stem = self._config.output_dir / f"{result_name(settings.prompt, settings.seed, job.created)}-{job.id[:6]}"
        began = time.monotonic()
        engine = self._open(self._models[settings.model], image is not None, emit)
        seconds = {"load": round(time.monotonic() - began, 3)}
        for notice in notices(engine, self._options):
            emit(notice)
        finished = generate(Request(settings, stem, job.folder, image), engine, emit, cancelled)
        finished = replace(finished, seconds=seconds | finished.seconds)
        learn_from(engine, settings, finished, self._config, self._options, first=self._first)
        self._first = False
        return finished

    def release(self) -> None:
        """Release the model's memory."""
        if self._engine is not None:
            self._engine.memory.release()
        self._engine = self._key = None

    def _open(self, model: ModelConfig, has_image: bool, emit: Callable[[Event], None]) -> Engine:
        key = (model.name, has_image)
        if self._engine is None or self._key != key:
            emit(PhaseStarted("load"))
            self.release()
            self._engine = open_engine(model, has_image, self._moves, self._config, self._options)
            self._key = key
        return self._engine
