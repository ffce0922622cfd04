"""Pages served for tests: a finished job behind a login, and clients of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from studio.queue.job import Job, JobState
from studio.service.endpoints import NOTHING, Endpoints
from studio.settings import GenerationSettings
from studio.ui.server import Served, ServeOptions, serve
from tests.ui.fake_backend import FakeBackend, Pace

LOGIN = ("ada", "lovelace")
ACCOUNT = {"user": LOGIN[0], "password": LOGIN[1]}


def finished_backend(folder: Path) -> tuple[FakeBackend, Job]:
    """A backend with one finished job."""
    fake = FakeBackend(folder, Pace(0.0, 1))
    wanted = GenerationSettings("nano", "a boat", height=64, width=64, num_frames=17, seed=1)
    job = fake.backend.queue.submit(wanted.resolve(fake.models["nano"]))
    player = fake.play()
    while fake.backend.queue.get(job.id).state in (JobState.QUEUED, JobState.RUNNING):
        player.join(0.02)
    player.end()
    return fake, fake.backend.queue.get(job.id)


@contextmanager
def serving(fake: FakeBackend, beside: Endpoints = NOTHING, **options: Any) -> Iterator[Served]:
    """A page, and what is beside it, on a port that nobody else has."""
    served = serve(fake.backend, ServeOptions(port=0, **options), beside)
    try:
        yield served
    finally:
        served.close()


@contextmanager
def member_of(served: Served) -> Iterator[httpx.Client]:
    """A client that has logged in."""
    with httpx.Client(base_url=served.url, timeout=30) as client:
        assert client.post("/login", data=ACCOUNT).status_code == 303
        yield client


def call(served: Served, index: int) -> dict[str, Any]:
    """A sound call of a handler, as the page sends it when it opens."""
    data = [plain(part) for part in served.page.fns[index].inputs]
    return {"data": data, "fn_index": index, "event_data": None, "trigger_id": None, "session_hash": "abcdefghij"}


def plain(part: Any) -> Any:
    """What a component holds when the page opens."""
    value = getattr(part, "value", None)
    return value if isinstance(value, str | int | float | dict) else None
