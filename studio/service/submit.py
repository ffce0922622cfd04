"""Checking a request and putting it into the queue, the same for the page and the HTTP API."""

from collections.abc import Sequence

from studio.config import ModelConfig
from studio.errors import InputError, ModelMissing, StudioError
from studio.queue.job import Job
from studio.service.backend import Backend
from studio.settings import GenerationSettings, ResolvedSettings


class Rejected(InputError):
    """Settings that cannot run. `problems`: all that is wrong, in the order of the form; the first is the sentence."""

    def __init__(self, problems: Sequence[InputError]) -> None:
        super().__init__(problems[0].code, **problems[0].values)
        self.problems = tuple(problems)


def find_model(backend: Backend, name: str) -> ModelConfig:
    """The model of that name. Raises InputError where there is none."""
    if name not in backend.models:
        raise InputError("model_unknown", value=name[:80], known=", ".join(backend.models))
    return backend.models[name]


def check(backend: Backend, asked: GenerationSettings) -> ResolvedSettings:
    """The settings complete. `asked.first_image` only says that there is a picture. Raises InputError or Rejected."""
    model = find_model(backend, asked.model)
    settings = asked.resolve(model)
    if problems := settings.problems(model, backend.camera_moves):
        raise Rejected(problems)
    return settings


def submit(backend: Backend, asked: GenerationSettings, image: bytes | None = None) -> Job:
    """Queue a request with the picture it starts from, as its file was uploaded; an empty seed is drawn now.

    Raises InputError (Rejected, ModelMissing) for what cannot run here, StudioError where another program works on
    the queue, it takes no writes, or the model's files are damaged. Nothing is queued then.
    """
    settings = check(backend, asked)
    if not backend.owner():
        raise StudioError("queue_elsewhere")
    if not backend.installed()[settings.model]:
        raise ModelMissing("model_absent", model=settings.model)
    if reason := backend.defects().get(settings.model):
        raise StudioError("checkpoint", reason=reason)
    return backend.queue.submit(settings, image)
