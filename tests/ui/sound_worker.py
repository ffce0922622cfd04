"""The worker of sound jobs in a thread: the real one, with the robot's voice and no model."""

import argparse
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from studio.commands.sound_worker import SoundRunner
from studio.queue.jobs import JobQueue
from studio.queue.kinds import JobKind
from studio.queue.worker import SOUND_WORKER, Stop, work


@contextmanager
def sounding(folder: Path, results: Path) -> Iterator[None]:
    """Makes the sounds of the queue in `folder` meanwhile."""
    stop, runner = Stop(), SoundRunner(argparse.Namespace(), results)

    def run() -> None:
        work(JobQueue(folder), runner, stop=stop, name=SOUND_WORKER, kind=JobKind.SOUND)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield
    stop.asked = True
    thread.join()
