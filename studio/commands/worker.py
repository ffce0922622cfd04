"""`worker`: works the queue; started by the page, ends with it."""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path

import numpy as np
from PIL import Image

from studio.commands.gpus import gpu_devices, ranks_for, shared_config, sharing_of
from studio.commands.machine import engine_options, notices
from studio.commands.user_files import original_inside, read_picture
from studio.config import ModelConfig, StudioConfig, load_camera_moves, load_models, model_named
from studio.errors import InputError
from studio.events import Event, Finished, PhaseStarted, notice
from studio.filenames import LATENTS, job_result_stem
from studio.media import png_bytes
from studio.pipeline.engine import EngineOptions, open_engine, pick_device, recalibrated
from studio.pipeline.estimate import Estimator
from studio.pipeline.evaluation_plan import EvaluationPlan
from studio.pipeline.generate import decode_frame, generate
from studio.pipeline.latents_file import check_whole, read_latents
from studio.pipeline.ranks import Ranks
from studio.pipeline.rerun import cropped_picture, rerun_plan
from studio.pipeline.run import Engine, Request
from studio.queue.frames import FrameDesk, FrameWish
from studio.queue.job import Job
from studio.queue.jobs import JobQueue
from studio.queue.locks import DeviceLock, DeviceLocks, runtime_folder
from studio.queue.log import start_log
from studio.queue.trash import Trash
from studio.queue.upkeep import Upkeep
from studio.queue.worker import FRESH_PROCESS, WORKER, Orders, Stop, work, worker_file

# What the first video would import on its way, which takes seconds; a worker starts with the page, before any job.
IMPORTED_AHEAD = "models.clip"


def run(options: argparse.Namespace) -> int:
    """Work the queue until the page ends or asks to stop."""
    devices = gpu_devices(options)
    config = shared_config(options, len(devices))
    stop = Stop()
    name = vars(options).get("name", WORKER)
    start_log(options.queue, worker_file(name))
    stop.listen()
    queue = JobQueue(options.queue, limit_megapixels=config.image_limit_megapixels)
    results = options.results or config.output_dir
    if vars(options).get("cluster"):
        from studio.commands.cluster import work_cluster

        return work_cluster(options.queue, results, options, name, stop)
    asked = replace(engine_options(options), device=devices[0], sharing=sharing_of(len(devices)))
    runner = VideoRunner(config, asked, stop, Trash(queue), results, devices)
    purpose = "evaluate's worker" if options.results else "the page's worker"
    names = [str(pick_device(device)) for device in devices] if name == WORKER else [name]
    lock = DeviceLocks([DeviceLock(runtime_folder(), device, purpose) for device in sorted(set(names))])
    code = work(queue, runner, stop=stop, device=lock, name=name)
    return FRESH_PROCESS if runner.leaves else code


class VideoRunner:
    """Makes videos. The opened model is kept from job to job while the same one is asked for.

    results: the folder of the videos. devices: those that share each video, of which options.device is the first; the
    processes on the others are kept from job to job too, and started anew after whatever ended one. leaves: the process
    is to end, and a fresh one to wait for jobs: what a CUDA context takes is freed in no other way. keeps_latents: of
    whole videos, for single frames that are wanted later.
    """

    def __init__(
        self,
        config: StudioConfig,
        options: EngineOptions,
        stop: Stop,
        trash: Trash,
        results: Path,
        devices: Sequence[str] = (),
        keeps_latents: bool = True,
    ) -> None:
        self._trash, self._results = trash, results
        self._upkeep, self._frames = Upkeep(trash.queue, config), FrameDesk(trash.queue.folder)
        self._config, self._options, self._stop = config, options, stop
        self._estimator = Estimator(config, options)
        self._models, self._moves = load_models(), load_camera_moves()
        self._key: tuple[str, bool] | None = None
        self._engine: Engine | None = None
        self._devices = list(devices) or [options.device]
        self._ranks: Ranks | None = None
        self._ahead = False  # whether IMPORTED_AHEAD was tried
        self._keeps_latents = keeps_latents
        self._first = True  # no video was made by this process yet
        self.device, self.leaves = pick_device(options.device), False

    def run(self, job: Job, emit: Callable[[Event], None], orders: Orders) -> Finished:
        """Make the job's video."""
        settings, model = job.settings, model_named(job.settings.model, self._models)
        image = read_picture(settings.first_image, self._config)
        stem = job_result_stem(self._results, settings.prompt, settings.seed, job.created, job.id)
        began = time.monotonic()
        engine = recalibrated(self._open(model, image is not None, emit), self._config)
        seconds = {"load": round(time.monotonic() - began, 3)}
        for told in notices(engine, self._options):
            emit(told)
        original = original_inside(settings.first_image, self._config, emit)
        request = Request(settings, stem, job.folder, image, original=original, seam=job.goes_on, keep_last_frame=True)
        request = replace(request, plan=_plan_again(job, engine, emit))
        try:
            finished = generate(request, engine, emit, orders.stop, orders.finish, sharp=orders.sharp)
        except BaseException:
            self._end_ranks()  # nothing but their end may follow an error
            raise
        finished = replace(finished, seconds=seconds | finished.seconds)
        return finished

    def aside(self, acquire: Callable[[], bool]) -> bool:
        """Decode one frame that the page wants of a finished video."""
        if not (self._frames.waits() and acquire()):
            return False
        return self._frames.serve(self.frame)

    def frame(self, wish: FrameWish) -> bytes:
        """The frame as a png, exactly as it is decoded. Raises StudioError where these latents do not give it."""
        models = self._models
        found = read_latents(wish.latents, lambda asked: asked.check(model_named(asked.model, models), self._moves))
        settings = found.settings
        check_whole(found)
        engine = self._open(models[settings.model], settings.first_image is not None, lambda event: None)
        if found.provenance.get("model_fingerprint") != engine.provenance["model_fingerprint"]:
            raise InputError("rerun_model", model=settings.model)
        before = None
        if wish.seam:
            picture = read_picture(settings.first_image, self._config)
            cropped = cropped_picture(Request(settings, wish.latents, wish.latents.parent, picture))
            before = None if cropped is None else np.asarray(cropped)
        decoded = decode_frame(found, wish.frame, engine, lambda event: None, lambda: self._stop.asked, before)
        return png_bytes(Image.fromarray(decoded))

    def after(self, job: Job, result: Finished) -> None:
        """Learn how long it took on this machine, where one device made it."""
        done = None if self._keeps_latents else self._trash.queue.get(job.id)
        if done is not None and done.finished_early is None:
            (job.folder / LATENTS).unlink(missing_ok=True)
        first, self._first = self._first, False
        own_plan = job.again is None  # the times of another teach nothing of it
        if own_plan and self._engine is not None and self._engine.ranks is None:
            self._estimator.learn(self._engine, job.settings, result.seconds, first=first)

    def idle(self) -> None:
        """First import what the first video will need, while its words are still typed; then the queue's upkeep."""
        if not self._ahead:
            self._ahead = True
            import_module(IMPORTED_AHEAD)
        self._upkeep()

    def release(self) -> None:
        """Release the model's memory, and on a GPU end the process."""
        self._close()
        if self.device.type != "cpu" and not self._stop.asked:
            self.leaves = self._stop.asked = True

    def _close(self) -> None:
        self._end_ranks()
        if self._engine is not None:
            self._engine.memory.release()
        self._engine = self._key = None

    def _open(self, model: ModelConfig, has_image: bool, emit: Callable[[Event], None]) -> Engine:
        key = (model.name, has_image)
        if self._engine is None or self._key != key:
            emit(PhaseStarted("load"))
            self._close()
            self._engine = open_engine(model, has_image, self._moves, self._config, self._options)
            self._key = key
        self._engine = replace(self._engine, ranks=self._share(model, has_image))
        return self._engine

    def _share(self, model: ModelConfig, has_image: bool) -> Ranks | None:
        """The processes on the other devices, all alive; None for one device. Raises as `ranks_for`."""
        if self._ranks is not None and not self._ranks.alive:
            self._end_ranks()
        if self._ranks is None:
            ranks = ranks_for(model, has_image, self._config, self._options, self._devices)
            self._ranks = None if ranks is None else ranks.start()
        return self._ranks

    def _end_ranks(self) -> None:
        if self._ranks is not None:
            self._ranks.close()
        self._ranks = None


def _plan_again(job: Job, engine: Engine, emit: Callable[[Event], None]) -> EvaluationPlan | None:
    """The plan of the file that the job makes again; None for its settings' own, also where the model is not the file's
    any more, which is told. Raises InputError for what is no plan."""
    if job.again is None:
        return None
    if job.again.get("model_fingerprint") != engine.provenance["model_fingerprint"]:
        emit(notice("again_model", model=job.settings.model))
        return None
    return rerun_plan({"settings": asdict(job.settings), **job.again}, job.settings)
