"""Checking a request and putting it into the queue, the same for the page and the HTTP API."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from studio.config import model_named
from studio.errors import InputError, ModelMissing, StudioError
from studio.filenames import beside
from studio.media import read_metadata_file
from studio.queue import verbs
from studio.queue.job import Job, Link
from studio.queue.kinds import Again, JobKind
from studio.service.backend import Backend
from studio.service.media import first_image
from studio.settings import GenerationSettings, ResolvedSettings, Speed
from studio.wildcards import Lists, with_seed, with_words_drawn

Record = Mapping[str, Any]
DECIDING = ("plan", "model_fingerprint")  # of a record, beside the settings


class Rejected(InputError):
    """Settings that cannot run. `problems`: all that is wrong, in the order of the form; the first is the sentence."""

    def __init__(self, problems: Sequence[InputError]) -> None:
        super().__init__(problems[0].code, **problems[0].values)
        self.problems = tuple(problems)


def check(backend: Backend, asked: GenerationSettings) -> ResolvedSettings:
    """The settings complete. `asked.first_image` only says that there is a picture. Raises InputError or Rejected."""
    model = model_named(asked.model, backend.models)
    settings = asked.resolve(model)
    if problems := settings.problems(model, backend.camera_moves):
        raise Rejected(problems)
    return settings


def put_back(
    backend: Backend, id: str, asked: GenerationSettings, image: bytes | None = None, record: Record | None = None
) -> Job | None:
    """Give a job that waits these settings and this picture, at its place; an empty seed keeps the job's own.

    None where it does not wait any more. record, and what it raises: as `submit`.
    """
    job = backend.queue.get(id)
    if asked.seed is None and job is not None:
        asked = replace(asked, seed=job.settings.seed)
    if job is not None and (asked.prompt, asked.seed) == (job.settings.prompt, job.settings.seed):
        asked = replace(asked, prompt_template=job.settings.prompt_template)
    if job is not None and job.goes_on and image is None:
        asked = replace(asked, first_image="picture")  # the last frame of the clip before, when its turn comes
    settings = runnable(backend, asked)
    return verbs.put_back(backend.queue, id, settings, image, made_again(backend, record, settings))


def vary(backend: Backend, id: str, changes: Sequence[Mapping[str, Any]]) -> list[Job]:
    """The same video once more for each of the changes of its settings, all or none; [] where there is no such job.
    Another seed draws its own words.

    Raises as `submit`.
    """
    job = backend.queue.get(id)
    if job is None or job.kind is not JobKind.VIDEO or not changes:
        return []
    lists = backend.word_lists() if job.settings.prompt_template else {}
    wanted = [runnable(backend, _changed(job.settings, change, lists).asked()) for change in changes]
    return backend.queue.submit_all(wanted, first_image(backend, id), link=Link(project=f"vary-{secrets.token_hex(4)}"))


def _changed(settings: ResolvedSettings, change: Mapping[str, Any], lists: Lists) -> ResolvedSettings:
    changed = replace(settings, **change)
    return with_seed(changed, changed.seed, lists) if "seed" in change else changed


def submit(
    backend: Backend, asked: GenerationSettings, image: bytes | None = None, record: Record | None = None
) -> Job:
    """Queue a request with the picture it starts from, as its file was uploaded; an empty seed is drawn now.

    Without a speed it is exact, also where fast is calibrated: a program's request means the same video on every
    machine and every day. The page and `generate` name their default.

    record: of a video that may be asked for again (`record_of`); with all its settings, its bits are too.

    Raises InputError (Rejected, ModelMissing) for what cannot run here, StudioError where another program works on
    the queue, it takes no writes, or the model's files are damaged. Nothing is queued then.
    """
    settings = runnable(backend, asked)
    return backend.queue.submit(settings, image, made_again(backend, record, settings))


def record_of(settings: ResolvedSettings, again: Again | None) -> dict[str, Any]:
    """The record of a video: its settings, and what else decides its bits. {} where nothing else does: the exact plan
    is the same for ever."""
    if again is None or "plan" not in again or settings.speed == Speed.EXACT:
        return {}
    kept = {name: again[name] for name in DECIDING if name in again}
    return {"settings": asdict(replace(settings, prompt_template="")), **kept}


def record_of_job(job: Job) -> dict[str, Any]:
    """The record of a job's video, also where its file alone tells it. {} as `record_of`."""
    if job.again is None and job.result_path is not None:
        return record_of_file(job.settings, job.result_path)
    return record_of(job.settings, job.again)


def record_of_file(settings: ResolvedSettings, result: Path) -> dict[str, Any]:
    """The record of a result with these settings, from what lies beside it. {} as `record_of`."""
    try:
        return record_of(settings, read_metadata_file(beside(result, ".json")))
    except InputError:
        return {}


def made_again(backend: Backend, record: Record | None, settings: ResolvedSettings) -> dict[str, Any] | None:
    """What of a record decides the bits of the same video, made again with all its settings; None for another video.

    A record may come from anywhere. Raises InputError for what is none.
    """
    if not record:
        return None
    was = ResolvedSettings.from_record(dict(record))
    if (was.first_image is None) != (settings.first_image is None):
        return None
    plan = backend.rerun_plan(record, replace(settings, prompt_template=""))  # a form has what was drawn
    fingerprint = str(record.get("model_fingerprint"))
    return None if plan is None else {"plan": plan, "model_fingerprint": fingerprint if fingerprint.isalnum() else ""}


def runnable(backend: Backend, asked: GenerationSettings) -> ResolvedSettings:
    """The settings complete, words drawn. Raises as `submit` for what cannot run here: a missing model first, then what
    it lacks."""
    if not backend.installed()[model_named(asked.model, backend.models).name]:
        raise ModelMissing("model_absent", model=asked.model)
    settings = check(backend, with_words_drawn(asked, backend.word_lists()))
    if not backend.owner():
        raise StudioError("queue_elsewhere")
    if reason := backend.defects().get(settings.model):
        raise StudioError("checkpoint", reason=reason)
    backend.check_sharing(settings)
    return settings
