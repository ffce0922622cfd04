"""The API behind the gate on a real socket, without the page: its worker is played, its queue is real."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette

from studio.api.keys import KEYS_FILE, Keys, Scope
from studio.api.routes import api_endpoints
from studio.queue.job import Job, JobState
from studio.service.gate import Gate
from studio.service.login import Login
from studio.service.origin import ServedHosts
from studio.service.uploads import Uploads
from tests.ui.fake_backend import FakeBackend, Pace

ACCOUNT = ("ada", "lovelace")
SMALL = {"num_frames": 17, "size": "64x64"}
PATIENCE = 60.0  # seconds; only a test that hangs needs them


@dataclass
class Api:
    """A running API. write, read: keys of these scopes."""

    url: str
    fake: FakeBackend
    keys: Keys
    uploads: Uploads
    write: str
    read: str

    def client(self, key: str | None = None, **headers: str) -> httpx.Client:
        """A client with a key, the one that writes unless another is given ("": none)."""
        key = self.write if key is None else key
        given = {"Authorization": f"Bearer {key}"} if key else {}
        certificates = False  # reading those of the system takes longer than a test
        return httpx.Client(base_url=self.url, headers=given | headers, timeout=PATIENCE, verify=certificates)

    def job(self, id: str) -> Job:
        found = self.fake.backend.queue.get(id.removeprefix("video_"))
        assert found is not None
        return found

    def ended(self, id: str) -> Job:
        """The job once nothing more happens to it."""
        until(lambda: self.job(id).state not in (JobState.QUEUED, JobState.RUNNING))
        return self.job(id)


def until(condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)
    return found


@contextmanager
def serving(
    folder: Path, accounts: Sequence[tuple[str, str]] = (ACCOUNT,), pace: Pace | None = None, **changes: Any
) -> Iterator[Api]:
    """The API over a backend in `folder`, on a port that nobody else has. changes: of the backend's fields."""
    fake = FakeBackend(folder, pace or Pace(0.02, None))
    fake.backend = replace(fake.backend, **changes)
    keys = Keys(fake.backend.queue.folder / KEYS_FILE)
    write, read = keys.new("robot", Scope.WRITE, 6000), keys.new("watcher", Scope.READ, 6000)
    file_bytes = fake.backend.config.upload_limit_mb << 20
    uploads = Uploads(folder / "uploads", file_bytes, 16 * file_bytes)
    uploads.clear()
    beside = api_endpoints(fake.backend, keys)
    app = Starlette(routes=list(beside.routes))
    app.add_middleware(
        Gate, rules=beside.rules, hosts=ServedHosts(), login=Login(accounts), uploads=uploads, keys=beside.keys,
        bodies=beside.bodies,
    )  # fmt: skip
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    player = fake.play()
    try:
        yield Api(f"http://127.0.0.1:{listener.getsockname()[1]}", fake, keys, uploads, write, read)
    finally:
        player.end()
        server.should_exit = True
        thread.join()
        listener.close()
