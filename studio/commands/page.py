"""The page, and the worker processes that it keeps beside it, one per device; they meet in the queue on disk."""

import argparse
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from studio.api.keys import KEYS_FILE, Keys
from studio.api.routes import api_endpoints
from studio.chat import Chat
from studio.checkpoints.download_record import progress
from studio.commands.devices import WorkerDevice, ram_share_gb, worker_commands
from studio.commands.evaluations import evaluation_endpoints
from studio.commands.gpus import page_devices, planned_sharing, shared_config
from studio.commands.machine import engine_options, find_model
from studio.commands.serving import serve_options
from studio.commands.signals import stopping
from studio.commands.sound_desk import sound_desk
from studio.commands.streams import tell
from studio.commands.worker_process import FLAGS, START, flags, worker_command
from studio.config import StudioConfig, load_camera_moves, load_examples, load_models, load_presets
from studio.errors import StudioError
from studio.filenames import QUEUE_FOLDER
from studio.pipeline.defects import Defects
from studio.pipeline.engine import (
    CACHE_FOLDER,
    check_weights,
    is_installed,
    open_tokenizers,
    tokenizer_folders,
)
from studio.pipeline.estimate import Estimator
from studio.pipeline.rerun import rerun_plan
from studio.prompt import Tokenizer, compose, count, unread
from studio.queue.frames import FrameDesk
from studio.queue.gallery import Gallery
from studio.queue.jobs import JobQueue
from studio.queue.leftovers import remove_leftovers
from studio.queue.log import start_log
from studio.queue.supervisor import Supervisor
from studio.queue.trash import Trash
from studio.queue.worker import SOUND_WORKER
from studio.service.backend import Backend, DiskNeed, TextReport
from studio.service.chat_desk import ChatDesk
from studio.service.downloads import Downloads
from studio.service.endpoints import joined
from studio.service.folder import folder_opener
from studio.service.gauges import free_vram_gb, memory_gauges, worker_is_fresh
from studio.service.machine_check import FILE as CHECK_FILE
from studio.service.machine_check import MachineCheck
from studio.service.rights import maker
from studio.service.workers import worker_views
from studio.settings import ResolvedSettings
from studio.ui.server import serve

POLL_SECONDS = 0.1  # between two looks at whether to close


def run(options: argparse.Namespace) -> int:
    """Open the page and keep its workers beside it until the page ends; starting.py has looked at the port."""
    devices = page_devices(options)
    sharing = planned_sharing(options)
    config = shared_config(options, 1 if sharing is None else sharing.devices)
    chat = ChatDesk(Chat(options.chat_url, options.chat_model)) if options.chat_url is not None else None
    folder = config.output_dir / QUEUE_FOLDER
    start_log(folder, "page")
    queue = JobQueue(folder, limit_megapixels=config.image_limit_megapixels, maker=maker)
    Trash(queue).settle()
    check_weights(engine_options(options))
    if len(devices) > 1:
        config = replace(config, ram_gb=ram_share_gb(config, len(devices)))
    first = replace(engine_options(options), device=devices[0].device, sharing=sharing)  # what the page plans for
    estimator = Estimator(config, first, free_vram_gb=lambda: free_vram_gb(queue, first.device))
    if first.device == "cpu":  # a GPU is measured by its worker
        estimator.machine_speeds(find_model(None, config))
    supervisor = Supervisor(
        queue,
        worker_commands(options, folder, devices, config),
        purpose=f"the page on port {config.port}",
        beside={SOUND_WORKER: sound_worker(options, folder, devices, config)},
        clean=lambda: remove_leftovers(queue, config.output_dir, config.output_dir / CACHE_FOLDER),
    )
    reached = bool(options.share or options.listen or options.allowed_host)
    show_folder = folder_opener(config.host, reached_otherwise=reached)
    downloads = Downloads(partial(_download_command, config), lambda name: progress(config.model_dir / name))
    backend = _backend(config, first.device, estimator, queue, supervisor, downloads)
    check = _machine_check(options, config, first.device)
    public = bool(options.share or options.allowed_host)
    frames = None if vars(options).get("cluster") else FrameDesk(folder)
    backend = replace(backend, show_folder=show_folder, check=check, public=public, chat=chat, frames=frames)
    with (
        stopping("Closing.") as stop,
        evaluation_endpoints(options, config, backend.models, backend.installed) as evaluations,
    ):
        _tell_what_is_here(backend, first.device)
        supervisor.start()
        try:
            beside = joined(api_endpoints(backend, Keys(folder / KEYS_FILE)), evaluations)
            with closing(serve(backend, serve_options(options), beside)):
                tell("Ctrl+C closes it.")
                while not stop.is_set():
                    time.sleep(POLL_SECONDS)
        finally:
            check.close()
            downloads.stop()
            supervisor.stop()
    return 0


def _tell_what_is_here(backend: Backend, device: str) -> None:
    installed = backend.installed()
    here, fetched = ([name for name, there in installed.items() if there is wanted] for wanted in (True, False))
    tell(f"Videos are made on {device} and kept in {backend.config.output_dir}.")
    others = f"; not here yet: {', '.join(fetched)}" if fetched else ""
    tell(f"Models: {', '.join(here) or 'none'}{others}. Building the page.")


def _machine_check(options: argparse.Namespace, config: StudioConfig, device: str) -> MachineCheck:
    """This program's `check` of the page's first device, with the page's flags about the machine."""
    machine = flags({name: vars(options).get(name) for name in FLAGS} | {"device": device})
    command = [*START, "check", "--json", "--until-stdin-ends", *machine]
    return MachineCheck(config.output_dir / CACHE_FOLDER / CHECK_FILE, command, has_gpu=device.startswith("cuda"))


def _download_command(config: StudioConfig, model: str, source: str, tokenizers_only: bool) -> list[str]:
    """This program's `download` of a model into the folder of this page's models."""
    command = [*START, "download", model, "--source", source, "--model-dir", str(config.model_dir), "--json"]
    return [*command, "--tokenizers"] if tokenizers_only else command


def plan_in_file(record: Mapping[str, Any], settings: ResolvedSettings) -> dict[str, Any] | None:
    """Backend.rerun_plan."""
    plan = rerun_plan(record, settings)
    return None if plan is None else plan.to_dict()


def _existing_parent(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    return next(found for found in (folder, *folder.parents) if found.is_dir())


def sound_worker(
    options: argparse.Namespace, folder: Path, devices: Sequence[WorkerDevice], config: StudioConfig
) -> list[str]:
    """The command line of the worker that makes sound beside the videos; what it needs of a device is the first's."""
    shared = {"ram": config.ram_gb} if len(devices) > 1 else {}
    return worker_command(
        options, folder, "sound_worker", results=config.output_dir, device=devices[0].device, **shared
    )


def _backend(
    config: StudioConfig,
    device: str,
    estimator: Estimator,
    queue: JobQueue,
    supervisor: Supervisor,
    downloads: Downloads,
) -> Backend:
    """Everything the page may ask for."""
    models, moves = load_models(), load_camera_moves()
    defects = Defects(config.model_dir)
    tokenizers: dict[tuple[str, bool], Mapping[str, Tokenizer]] = {}

    def report(settings: ResolvedSettings, language: str) -> TextReport:
        model, has_image = models[settings.model], settings.first_image is not None
        text = compose(settings, model, moves)
        try:
            if (model.name, has_image) not in tokenizers:
                folders = tokenizer_folders(model, has_image, config.model_dir)
                tokenizers[model.name, has_image] = open_tokenizers(folders)
        except StudioError:  # not here, or not whole: the text is shown without its tokens
            return TextReport(text.positive, text.negative)
        found = tokenizers[model.name, has_image]
        return TextReport(
            text.positive, text.negative, tuple(count(text.positive, found)), unread(text.positive, found)
        )

    def calibrated(name: str, has_image: bool, cfg_scale: float, time_shift: float, schedule: str) -> bool:
        asked = models[name], has_image, cfg_scale, time_shift
        return estimator.calibrations.serve(*asked, guidance_schedule=schedule)

    def disk(name: str) -> DiskNeed:
        free = shutil.disk_usage(_existing_parent(config.model_dir)).free
        return DiskNeed(estimator.missing_bytes(models[name]), free)

    return Backend(
        queue=queue,
        downloads=downloads,
        disk=disk,
        gallery=Gallery(queue, config.output_dir),
        config=config,
        models=models,
        camera_moves=moves,
        presets=load_presets(),
        examples=load_examples(),
        installed=lambda: {name: is_installed(model, config.model_dir) for name, model in models.items()},
        count_tokens=report,
        plan=lambda settings: estimator.for_page(
            settings, models[settings.model], first=worker_is_fresh(queue, supervisor)
        ),
        check_sharing=lambda settings: estimator.check_sharing(settings, models[settings.model]),
        calibrated=calibrated,
        rerun_plan=plan_in_file,
        usage=lambda: memory_gauges(queue, supervisor, device),
        sound=sound_desk(config.model_dir),
        defects=lambda: {name: said for name, model in models.items() if (said := defects.of(model))},
        owner=lambda: supervisor.owns,
        trouble=lambda: supervisor.trouble,
        workers=lambda: worker_views(queue, supervisor),
    )
