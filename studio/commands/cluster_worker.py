"""What runs on each card of a cluster: an actor that makes the jobs which the head sends, one at a time."""

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from studio import __version__
from studio.commands.cli import build_parser
from studio.commands.cluster import FLAGS_VARIABLE
from studio.commands.gpus import gpu_devices, shared_config, sharing_of
from studio.commands.machine import engine_options, studio_config
from studio.commands.worker import VideoRunner
from studio.config import load_models
from studio.errors import InputError
from studio.pipeline.engine import model_fingerprint, pick_device, usable_folders
from studio.queue.jobs import JobQueue
from studio.queue.remote import Message, Wishes, serve
from studio.queue.trash import Trash
from studio.queue.worker import Stop


class ClusterWorker:
    """Keeps the opened model from job to job. Its files lie in a folder of its own, which goes with the process."""

    def __init__(self, actors: int = 1) -> None:
        """actors: on this machine, which share its RAM."""
        self._actors = actors
        self._options = build_parser().parse_args(["worker", "--queue", ".", *flags()])
        self._folder = tempfile.TemporaryDirectory(prefix="step-video-studio-")
        self._wishes = Wishes()
        self._runner: VideoRunner | None = None

    def about(self) -> dict[str, str]:
        """What must be the same on every machine."""
        return about(self._options)

    def ask(self, wish: str) -> None:
        """A person's wish for the job that runs: "stop" or "finish"."""
        self._wishes.set(wish)

    def run(self, files: dict[str, bytes]) -> Iterator[Message]:
        """Make the job of a package; see remote.serve."""
        folder, self._wishes = Path(self._folder.name), Wishes()
        if self._runner is None:
            devices = gpu_devices(self._options)  # of those that Ray shows this process
            config = shared_config(self._options, self._actors * len(devices))
            asked = replace(engine_options(self._options), device=devices[0], sharing=sharing_of(len(devices)))
            trash = Trash(JobQueue(folder / "queue"))
            self._runner = VideoRunner(config, asked, Stop(), trash, folder, devices)
        yield from serve(files, folder / "job", self._runner, self._wishes)


def flags() -> list[str]:
    """The flags with which this machine joined."""
    return [str(word) for word in json.loads(os.environ.get(FLAGS_VARIABLE, "[]"))]


def about(options: Any) -> dict[str, str]:
    """The program's version, and of every installed model its fingerprint."""
    config, engine, found = studio_config(options), replace(engine_options(options), device="cpu"), {}
    for name, model in load_models().items():
        for has_image, takes in ((False, model.takes_text_alone), (True, model.takes_image)):
            try:
                folders = usable_folders(model, has_image, config, engine) if takes else None
            except InputError:  # not installed
                continue
            if folders:
                key = f"{name} with a picture" if has_image else name
                found[key] = model_fingerprint(folders, pick_device("cpu"))  # the weights', whatever computes with them
    return found | {"version": __version__}
