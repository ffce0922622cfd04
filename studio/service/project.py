"""A chain of clips as one project: more clips behind one, all of them as one file, a part of that."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from studio.config import ModelConfig
from studio.embedded import carried_picture
from studio.errors import InputError
from studio.filenames import beside, result_name, write_whole
from studio.joining import join, pieces
from studio.queue.chains import chain
from studio.queue.job import WAITING, Job, JobState, Link
from studio.queue.jobs import JobQueue
from studio.settings import GenerationSettings, ResolvedSettings, drawn_seed

MOST_CLIPS = 16  # of one request
PICTURE = "picture"  # stands for the last frame of the clip before, until the worker takes it
MOST_CARRIED = 512 * 2**20
Check = Callable[[GenerationSettings], ResolvedSettings]


@dataclass(frozen=True)
class Extension:
    """count: how many clips more. prompt: "" for the clip's own. cut: the first begins from the prompt alone."""

    count: int = 1
    prompt: str = ""
    cut: bool = False


def extend(
    queue: JobQueue,
    id: str,
    asked: Extension,
    models: Mapping[str, ModelConfig],
    installed: Mapping[str, bool],
    check: Check,
) -> list[Job]:
    """Queue clips that go on from a job's video, each from the last frame of the one before; [] for an unknown job.

    check: completes and checks settings. Raises InputError where no model can, and as submit.
    """
    job = queue.get(id)
    if job is None:
        return []
    words = asked.prompt.strip() or job.settings.prompt
    model = _model(models[job.settings.model], models, installed) if job.settings.model in models else None
    if model is None:
        raise InputError("model_unknown", value=job.settings.model, known=", ".join(models))
    wanted = [check(_next(job.settings, model, words)) for _ in range(min(max(asked.count, 1), MOST_CLIPS))]
    if asked.cut:
        wanted[0] = check(_from_text(job.settings, models, words))
    behind = job.id if job.state in WAITING else ""
    return queue.submit_all(wanted, behind=behind, link=Link(source=job.id, cut=asked.cut))


def _model(own: ModelConfig, models: Mapping[str, ModelConfig], installed: Mapping[str, bool]) -> ModelConfig:
    """The clip's own model where it takes pictures, else one that does and is there."""
    fit = [model for model in models.values() if model.takes_image and bool(model.sources) == bool(own.sources)]
    usable = [model for model in (own, *fit) if model.takes_image and installed.get(model.name)]
    if not usable:
        raise InputError("extend_model", model=own.name, other=next((model.name for model in fit), "step-video-ti2v"))
    return usable[0]


def _next(settings: ResolvedSettings, model: ModelConfig, words: str) -> GenerationSettings:
    """The request for a clip that begins with a picture; numbers are another model's own where it is another."""
    asked = replace(settings.asked(), prompt=words, prompt_template=_template(settings, words))
    asked = replace(asked, seed=drawn_seed(), first_image=PICTURE, crop_left=None, crop_top=None)
    if model.name == settings.model:
        return asked
    same = {name: getattr(settings, name) for name in ("camera_move", "height", "width")}
    frames = min(settings.num_frames, model.max_frames)
    return GenerationSettings(model.name, words, first_image=PICTURE, num_frames=frames, seed=asked.seed, **same)


def _from_text(settings: ResolvedSettings, models: Mapping[str, ModelConfig], words: str) -> GenerationSettings:
    model = models[settings.model]
    if not model.takes_text_alone:
        raise InputError("cut_needs_picture", model=model.name)
    motion = settings.motion_score if model.variant(False).motion_score else None
    asked = replace(settings.asked(), prompt=words, prompt_template=_template(settings, words))
    return replace(asked, seed=drawn_seed(), first_image=None, motion_score=motion)


def _template(settings: ResolvedSettings, words: str) -> str:
    """What the words were drawn from, where they are still those of the clip before."""
    return settings.prompt_template if words == settings.prompt else ""


def clips(queue: JobQueue, id: str) -> list[Job]:
    """The finished clips of a job's chain, from the first on, as far as none between them is missing."""
    found = []
    for job in chain(queue, id):
        if job.state != JobState.FINISHED or job.result_path is None or job.result_path.suffix != ".mp4":
            break
        found.append(job)
    return found


def join_chain(queue: JobQueue, id: str, folder: Path, begin: int = 0, end: int | None = None) -> Path:
    """The finished clips of a job's chain as one file in `folder`, or its frames `begin` to `end` alone.

    Whole clips are copied packet by packet, a part of one is encoded anew. Raises InputError or StudioError.
    """
    jobs = clips(queue, id)
    if len(jobs) < 2:
        raise InputError("join_few", count=len(jobs))
    paths = [path for job in jobs if (path := job.result_path) is not None]
    first = paths[0]
    parts = pieces(paths, begin, end)
    stem = _free(folder / f"{result_name(jobs[0].settings.prompt, jobs[0].settings.seed, queue.clock.now())}-joined")
    record = _record(jobs, stem)
    join(parts, beside(stem, ".mp4"), record, carried_picture(first, MOST_CARRIED))
    for suffix in (".jpg", ".first.png"):
        if (file := beside(first, suffix)).is_file():
            shutil.copyfile(file, stem.with_name(stem.name + suffix))
    text = json.dumps(record, ensure_ascii=False, indent=1).encode()
    write_whole(stem.with_name(stem.name + ".json"), text, durable=True)  # with it the gallery knows the result
    return beside(stem, ".mp4")


def _record(jobs: list[Job], stem: Path) -> dict[str, Any]:
    """What the joined file says of itself: how its first clip is made, and what all of them are."""
    settings = jobs[0].settings
    if settings.first_image is not None:
        settings = replace(settings, first_image=f"{stem.name}.first.png")
    told = [
        {
            "file": Path(job.result.path).name,
            "settings": asdict(replace(job.settings, first_image=None)),
            "cut": job.cut,
        }
        for job in jobs
        if job.result
    ]
    return {"program": "step-video-studio", "settings": asdict(settings), "clips": told}


def _free(stem: Path) -> Path:
    """The name, or with a number behind it where it is taken."""
    number, found = 1, stem
    while found.with_name(found.name + ".mp4").exists():
        number += 1
        found = stem.with_name(f"{stem.name}-{number}")
    return found
