"""`generate` and `decode`: one video, here and now, with a progress bar."""

import argparse
import hashlib
import itertools
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from studio.commands.flags import SETTING_FLAGS
from studio.commands.machine import engine_options, find_model, learn_from, notices, studio_config
from studio.commands.signals import stopping
from studio.config import StudioConfig, load_camera_moves
from studio.errors import Cancelled, InputError, StudioError
from studio.events import Event, Finished, Notice, PhaseStarted, Progress
from studio.filenames import RESULT_SUFFIXES, beside, result_name
from studio.media import read_image, read_metadata
from studio.messages import phase_title
from studio.pipeline import latents_file
from studio.pipeline.engine import open_engine, pick_device
from studio.pipeline.generate import decode, generate
from studio.pipeline.rerun import check_rerun, rerun_changes
from studio.pipeline.run import Request
from studio.queue.locks import DeviceLock, runtime_folder
from studio.queue.workfolder import KEPT_DAYS, remove_leftovers, work_folder
from studio.settings import GenerationSettings, ResolvedSettings

STOPPING = "Stopping after the block in work; Ctrl-C again ends at once."
LOG_SECONDS = 10  # between two states of the bar where nobody watches it move


def run(options: argparse.Namespace) -> int:
    """Make one video."""
    config, moves = studio_config(options), load_camera_moves()
    record = _read_record(options.from_video) if options.from_video else None
    asked = _settings(options, config, record)
    model = find_model(asked.model, config)
    settings = asked.resolve(model)
    settings.check(model, moves)
    image = _read_picture(settings.first_image, config)
    workdir = config.output_dir / ".work" / _work_name(settings, image)
    request = Request(settings, _stem(options.output, settings, config), workdir, image, options.keep_latents)
    began = time.monotonic()
    engine = open_engine(model, image is not None, moves, config, engine_options(options))
    seconds = {"load": round(time.monotonic() - began, 3)}
    if record is not None:
        check_rerun(record, request, engine)
        for name, (then, now) in rerun_changes(record, engine).items():
            print(f"Made with {name} {then}, now {now}: the video may differ a little.", file=sys.stderr)
    with stopping(STOPPING) as stop, _work_folder(workdir, stop), _device(options, stop), _Bar() as bar:
        try:
            # Looked at again: while this one waited for the device, another may have taken its name.
            request = replace(request, stem=_stem(options.output, settings, config))
            for notice in notices(engine, engine_options(options)):
                bar.show(notice)
            finished = generate(request, engine, bar.show, stop.is_set)
            finished = replace(finished, seconds=seconds | finished.seconds)
        except Cancelled:
            again = f"the same command with --seed {settings.seed} goes on from the last step"
            print(f"\nStopped; {again} (for {KEPT_DAYS} days).", file=sys.stderr)
            return Cancelled.exit_code
        finally:
            engine.memory.release()
        shutil.rmtree(workdir, ignore_errors=True)
        try:
            learn_from(engine, settings, finished, config, engine_options(options), first=True)
        except (StudioError, OSError, RuntimeError) as error:  # the video is there: the next estimate is worse, no more
            print(f"How long it took on this machine could not be noted: {error}", file=sys.stderr)
    return _tell(finished)


def run_decode(options: argparse.Namespace) -> int:
    """Finish a video from saved latents."""
    config = studio_config(options)
    found = latents_file.read_latents(options.latents)
    model = find_model(found.settings.model, config)
    image = _read_picture(options.first_image, config)
    request = Request(found.settings, _stem(options.output, found.settings, config), options.latents.parent, image)
    has_image = found.settings.first_image is not None
    engine = open_engine(model, has_image, load_camera_moves(), config, engine_options(options))
    with stopping(STOPPING) as stop, _device(options, stop), _Bar() as bar:
        try:
            finished = decode(request, found.state.latents, engine, bar.show, stop.is_set)
        finally:
            engine.memory.release()
    return _tell(finished)


def _tell(finished: Finished) -> int:
    seconds = ", ".join(f"{phase} {value:.1f} s" for phase, value in finished.seconds.items())
    print(f"{finished.path}\nseed {finished.seed}; {seconds}")
    return 0


def _settings(
    options: argparse.Namespace, config: StudioConfig, record: Mapping[str, Any] | None
) -> GenerationSettings:
    """The settings of the file that is made again, if any, with the command line's values over them."""
    given = {name: getattr(options, name) for name in ("model", "prompt", "camera_move", *SETTING_FLAGS)}
    given = {name: value for name, value in given.items() if value is not None}
    if options.first_image is not None:
        given["first_image"] = str(options.first_image)
    if record is None:
        return GenerationSettings(**{"model": find_model(None, config).name, "prompt": "", **given})
    settings = GenerationSettings.from_dict(record["settings"])
    if settings.first_image is not None:  # the name inside the file is not opened: the picture lies beside the video
        picture = beside(options.from_video, ".first.png")
        if options.first_image is None and not picture.is_file():
            raise InputError("rerun_picture_absent", file=picture)
        settings = replace(settings, first_image=str(picture))
    return replace(settings, **given)


def _read_record(path: Path) -> dict[str, Any]:
    record = read_metadata(_read_bytes(path))
    if "settings" not in record:
        raise InputError("metadata_absent")
    return record


def _read_picture(path: str | Path | None, config: StudioConfig) -> Image.Image | None:
    return None if path is None else read_image(_read_bytes(Path(path)), config.image_limit_megapixels)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError("file_unreadable", file=path, reason=error.strerror or str(error)) from None


def _stem(output: Path | None, settings: ResolvedSettings, config: StudioConfig) -> Path:
    """The result's path without suffix. Raises InputError where a file of the asked name stands already."""
    folder = config.output_dir if output is None else output.resolve()
    if output is None or folder.is_dir():
        name = result_name(settings.prompt, settings.seed, time.time())
        names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
        return next(folder / name for name in names if not _taken(folder / name))
    stem = folder.with_suffix("") if folder.suffix.lower() in (".mp4", ".png") else folder
    if taken := _taken(stem):
        raise InputError("output_exists", file=taken)
    return stem


def _taken(stem: Path) -> Path | None:
    """A file that a result of this name would replace."""
    files = (stem.with_name(stem.name + suffix) for suffix in RESULT_SUFFIXES)
    return next((file for file in files if os.path.exists(file)), None)


def _work_name(settings: ResolvedSettings, image: Image.Image | None) -> str:
    """One folder per request, so that the same command finds what a stopped run left."""
    pixels = image.tobytes() if image else b""
    return hashlib.sha256(replace(settings, first_image=None).to_json().encode() + pixels).hexdigest()[:24]


@contextmanager
def _work_folder(folder: Path, stop: threading.Event) -> Iterator[None]:
    """Hold the request's work folder, and remove those that nobody came back to."""

    def tell(holder: str) -> None:
        print(f"Waiting for {holder or 'another process'}, which makes the same video.", file=sys.stderr)

    with work_folder(folder, tell, stop.is_set):
        if removed := remove_leftovers(folder.parent):
            what = f"what {len(removed)} stopped run{'s' * (len(removed) > 1)} left in {folder.parent}"
            print(f"Removed {what}: nobody came back to it for {KEPT_DAYS} days.", file=sys.stderr)
        yield


@contextmanager
def _device(options: argparse.Namespace, stop: threading.Event) -> Iterator[None]:
    """Hold the device; where another process has it, say so and wait."""
    device = pick_device(engine_options(options).device)
    lock = DeviceLock(runtime_folder(), str(device), "generate on the command line")

    def tell(holder: str) -> None:
        print(f"Waiting for {device}, in use by {holder or 'another process'}.", file=sys.stderr)

    lock.wait(tell, stop.is_set)
    try:
        yield
    finally:
        lock.release()


class _Bar:
    """Events as a progress bar on stderr."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._phase = ""

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def show(self, event: Event) -> None:
        if isinstance(event, PhaseStarted):
            self._close()
            self._phase = event.phase
            print(f"{phase_title(event.phase)} ...", file=sys.stderr)
        elif isinstance(event, Notice):
            tqdm.write(event.text, file=sys.stderr)
        elif isinstance(event, Progress):
            self._bar = self._bar or self._open(event)
            vram = f"VRAM {event.vram_bytes / 2**30:.1f} GB, " if event.vram_bytes else ""
            self._bar.set_postfix_str(f"{vram}RAM {event.ram_bytes / 2**30:.1f} GB", refresh=False)
            self._bar.update(event.step - self._bar.n)

    def _open(self, event: Progress) -> tqdm:
        """The phase's bar; a resumed run's begins where it goes on."""
        done = event.step - 1 if event.phase == "denoise" else 0
        if done:
            print(f"Going on after step {done}.", file=sys.stderr)
        seconds = 0.1 if sys.stderr.isatty() else LOG_SECONDS
        unit = "frame" if event.phase == "decode" else "step"
        return tqdm(total=event.steps, initial=done, file=sys.stderr, unit=unit, mininterval=seconds)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
