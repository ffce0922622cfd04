"""`generate`: one video, here and now, with a progress bar."""

import argparse
import hashlib
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from studio.commands.flags import SETTING_FLAGS
from studio.commands.gpus import gpu_devices, hold_devices, ranks_for, running, shared_config, sharing_of
from studio.commands.machine import engine_options, find_model, notices, opened
from studio.commands.signals import STOPPING, stopping
from studio.commands.streams import tell
from studio.commands.terminal import ProgressBar, print_result
from studio.commands.user_files import original_inside, read_picture, result_stem
from studio.config import ModelConfig, StudioConfig, load_camera_moves, load_wildcards
from studio.embedded import carried_picture
from studio.errors import Cancelled, InputError, StudioError
from studio.filenames import beside
from studio.media import read_metadata_file
from studio.messages import clean
from studio.pipeline.calibrated import Calibrations
from studio.pipeline.engine import usable_folders
from studio.pipeline.estimate import Estimator
from studio.pipeline.generate import generate
from studio.pipeline.latents_file import EARLIER
from studio.pipeline.rerun import check_rerun, rerun_changes, rerun_plan
from studio.pipeline.run import Engine, Request
from studio.queue.leftovers import remove_abandoned
from studio.queue.workfolder import KEPT_DAYS, remove_leftovers, work_folder
from studio.settings import GenerationSettings, GuidanceSchedule, ResolvedSettings, Speed
from studio.wildcards import with_words_drawn


def run(options: argparse.Namespace) -> int:
    """Make one video."""
    devices = gpu_devices(options)
    config, moves, asked = shared_config(options, len(devices)), load_camera_moves(), engine_options(options)
    asked = replace(asked, device=devices[0], sharing=sharing_of(len(devices)))
    record = _read_record(options.from_video) if options.from_video else None
    wanted = wanted_settings(options, config, record)
    model = find_model(wanted.model, config)
    if record is None:  # a file of before there were speeds is an exact one
        wanted = _with_speed(wanted, model, Calibrations(config, asked))
    settings = with_words_drawn(wanted, load_wildcards(config.wildcard_dir)).resolve(model)
    settings.check(model, moves)
    image = read_picture(settings.first_image, config)
    workdir = config.output_dir / ".work" / _work_name(settings, image)
    plan = rerun_plan(record, settings) if record is not None else None
    stem = result_stem(options.output, settings, config)
    request = Request(settings, stem, workdir, image, options.keep_latents, plan)
    usable_folders(model, image is not None, config, asked)  # a missing model is said before the device is waited for
    ranks = ranks_for(model, image is not None, config, asked, devices)
    with (
        stopping(STOPPING) as stop,
        _work_folder(workdir, stop),
        hold_devices(asked, devices, stop),
        ProgressBar() as bar,
    ):
        # Looked at again: while this one waited for the device, another may have taken its name.
        request = replace(request, stem=result_stem(options.output, settings, config))
        began = time.monotonic()
        with opened(model, image is not None, config, asked, bar.show) as engine, running(ranks):
            seconds = {"load": round(time.monotonic() - began, 3)}
            if record is not None:
                _compare(record, request, engine)
            for notice in notices(engine, asked):
                bar.show(notice)
            request = replace(request, original=original_inside(settings.first_image, config, bar.show))
            try:
                finished = generate(request, replace(engine, ranks=ranks), bar.show, stop.is_set)
            except Cancelled:
                again = f"the same command with --seed {settings.seed} goes on from the last step"
                tell(f"\nStopped; {again} (for {KEPT_DAYS} days).")
                return Cancelled.exit_code
        finished = replace(finished, seconds=seconds | finished.seconds)
        shutil.rmtree(workdir, ignore_errors=True)
        try:
            if ranks is None:  # what is learned is of one device
                Estimator(config, asked).learn(engine, settings, finished.seconds, first=True)
        except (StudioError, OSError, RuntimeError) as error:  # the video is there: the next estimate is worse, no more
            tell(f"How long it took on this machine could not be noted: {error}")
    print_result(finished)
    return 0


def _compare(record: Mapping[str, Any], request: Request, engine: Engine) -> None:
    """Raise InputError where the old video's picture or model is another; say what else has changed since."""
    check_rerun(record, request, engine)
    for name, (then, now) in rerun_changes(record, engine).items():
        tell(f"Made with {name} {clean(str(then))}, now {now}: the video may differ a little.")
    if record.get(EARLIER):
        tell("Made in parts that differ in device or version: the video may differ a little.")


def wanted_settings(
    options: argparse.Namespace, config: StudioConfig, record: Mapping[str, Any] | None
) -> GenerationSettings:
    """The settings of the file that is made again, if any, with the command line's values over them."""
    given = {
        name: getattr(options, name)
        for name in (
            "model",
            "prompt",
            "camera_move",
            "speed",
            "guidance_schedule",
            *SETTING_FLAGS,
            "magic_words",
            "camera_speed",
        )
    }
    given = {name: value for name, value in given.items() if value is not None}
    if "prompt" in given:
        given["prompt_template"] = ""  # of another prompt
    if options.first_image is not None:
        given["first_image"] = str(options.first_image)
    if record is None:
        return GenerationSettings(**{"model": find_model(None, config).name, "prompt": "", **given})
    settings = GenerationSettings.from_dict(record["settings"])
    if settings.first_image is not None:  # the name inside the file is not opened: the picture lies in it or beside it
        picture = options.from_video
        if carried_picture(picture, config.upload_limit_mb << 20) is None:
            picture = beside(options.from_video, ".first.png")
        if options.first_image is None and not os.path.isfile(picture):
            raise InputError("rerun_picture_absent", file=picture)
        settings = replace(settings, first_image=str(picture))
    return replace(settings, **given)


def _with_speed(wanted: GenerationSettings, model: ModelConfig, calibrations: Calibrations) -> GenerationSettings:
    """Without --speed: fast where it was calibrated for such a request, else exact."""
    if wanted.speed is not None:
        return wanted
    cfg_scale = model.defaults["cfg_scale"] if wanted.cfg_scale is None else wanted.cfg_scale
    time_shift = model.defaults["time_shift"] if wanted.time_shift is None else wanted.time_shift
    schedule = wanted.guidance_schedule or GuidanceSchedule.CONSTANT
    has_image = wanted.first_image is not None
    served = calibrations.serve(model, has_image, cfg_scale, time_shift, guidance_schedule=schedule)
    return replace(wanted, speed=str(Speed.FAST if served else Speed.EXACT))


def _read_record(path: Path) -> dict[str, Any]:
    record = read_metadata_file(path)
    if "settings" not in record:
        raise InputError("metadata_absent")
    return record


def _work_name(settings: ResolvedSettings, image: Image.Image | None) -> str:
    """One folder per request, so that the same command finds what a stopped run left."""
    pixels = image.tobytes() if image else b""
    return hashlib.sha256(replace(settings, first_image=None).to_json().encode() + pixels).hexdigest()[:24]


@contextmanager
def _work_folder(folder: Path, stop: threading.Event) -> Iterator[None]:
    """Hold the request's work folder, and remove those that nobody came back to."""

    def name(holder: str) -> None:
        tell(f"Waiting for {clean(holder) or 'another process'}, which makes the same video.")

    with work_folder(folder, name, stop.is_set):
        remove_abandoned(folder.parent.parent)
        if removed := remove_leftovers(folder.parent):
            what = f"what {len(removed)} stopped run{'s' * (len(removed) > 1)} left in {folder.parent}"
            tell(f"Removed {what}: nobody came back to it for {KEPT_DAYS} days.")
        yield
