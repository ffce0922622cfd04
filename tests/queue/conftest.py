"""A queue whose clock stands still until a test moves it."""

from pathlib import Path

import pytest

from studio.queue.jobs import JobQueue
from tests.queue.fake_clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def queue(tmp_path: Path, clock: FakeClock) -> JobQueue:
    return JobQueue(tmp_path / ".queue", clock=clock)
