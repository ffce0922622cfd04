"""The worker of the jobs that make sound: beside the videos' workers, so that a soundtrack waits for no video.

It imports no PyTorch until a line asks for a voice of the speech model, which then waits for the device, so that the
budgets hold beside a video that is being made.
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from studio.audio.soundtrack import Job as Sounds
from studio.audio.soundtrack import add_sound, remove_sound
from studio.audio.track import SoundSettings
from studio.commands.voices import speaker_for
from studio.events import Event, Finished
from studio.filenames import job_result_stem
from studio.queue.job import Job
from studio.queue.jobs import JobQueue
from studio.queue.kinds import JobKind
from studio.queue.log import start_log
from studio.queue.worker import FRESH_PROCESS, SOUND_WORKER, Orders, Stop, work, worker_file


def run(options: argparse.Namespace) -> int:
    """Make the sounds of the queue until the page ends or asks to stop."""
    stop = Stop()
    start_log(options.queue, worker_file(SOUND_WORKER))
    stop.listen()
    queue, runner = JobQueue(options.queue), SoundRunner(options, options.results, stop)
    code = work(queue, runner, stop=stop, idle_seconds=0.0, name=SOUND_WORKER, kind=JobKind.SOUND)
    return FRESH_PROCESS if runner.leaves else code


@dataclass
class SoundRunner:
    """A Runner of jobs of kind SOUND. options: the command line, for the speech model; results: the folder of clips;
    stop: of this process. leaves: it is to end, and a fresh one to wait for jobs (VideoRunner).
    """

    options: argparse.Namespace
    results: Path
    stop: Stop = field(default_factory=Stop)
    leaves: bool = False

    def run(self, job: Job, emit: Callable[[Event], None], orders: Orders) -> Finished:
        """Write the clip with its sound, or without, beside the others; its files lie in the job's folder."""
        order, settings = job.sound, job.settings
        if order is None:
            raise ValueError(f"{job.id} is no job of kind SOUND")
        stem = job_result_stem(self.results, settings.prompt, settings.seed, job.created, job.id)
        to, began = stem.with_name(f"{stem.name}.mp4"), time.monotonic()
        self.results.mkdir(parents=True, exist_ok=True)
        if order.track is None:
            remove_sound(Sounds(SoundSettings(), Path(order.clip), to, emit, orders.stop))
        else:
            track = SoundSettings.from_dict(order.track, job.folder)
            add_sound(Sounds(track, Path(order.clip), to, emit, orders.stop, speaker=speaker_for(track, self.options)))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return Finished(str(to), settings.seed, {"sound": round(time.monotonic() - began, 3)}, 0, peak)

    def after(self, job: Job, result: Finished) -> None:
        """Nothing is learned from it."""

    def release(self) -> None:
        """Nothing is kept between jobs but what CUDA takes, where a voice of the speech model has spoken: the process
        ends, and no video lacks that.
        """
        if "torch" not in sys.modules:  # it is imported for such a voice alone
            return
        from studio.memory.usage import has_cuda_context

        if has_cuda_context() and not self.stop.asked:
            self.leaves = self.stop.asked = True

    def aside(self, acquire: Callable[[], bool]) -> bool:
        """Nothing is asked of it between two jobs."""
        return False

    def idle(self) -> None:
        """Nothing is made ahead."""
