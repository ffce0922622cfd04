"""A backend with the real models, queue and gallery, and nothing behind it."""

from dataclasses import replace
from pathlib import Path

import pytest

from studio.commands.sound_desk import sound_desk
from studio.config import load_camera_moves, load_examples, load_models, load_presets, load_studio
from studio.queue.gallery import Gallery
from studio.queue.jobs import JobQueue
from studio.service.backend import Backend, DiskNeed, TextReport
from studio.service.downloads import Downloads


@pytest.fixture
def backend(tmp_path: Path) -> Backend:
    queue, models = JobQueue(tmp_path / ".queue"), load_models()
    return Backend(
        queue=queue,
        gallery=Gallery(queue, tmp_path),
        config=load_studio(output_dir=str(tmp_path)),
        models=models,
        camera_moves=load_camera_moves(),
        presets=load_presets(),
        examples=load_examples(),
        installed=lambda: {name: not model.sources for name, model in models.items()},
        count_tokens=lambda settings, language: TextReport(settings.prompt, ""),
        plan=lambda settings: {},
        usage=lambda: {},
        downloads=Downloads(lambda model, source: ["false"], lambda model: (0, 0)),
        disk=lambda model: DiskNeed(2**30, 2**40),
        sound=sound_desk(tmp_path),
    )


@pytest.fixture
def watching(backend: Backend) -> Backend:
    """The same where another program works on the queue."""
    return replace(backend, owner=lambda: False)
