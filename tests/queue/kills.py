"""Processes that work a queue and are killed at any moment, again and again: `python -m tests.queue.kills FOLDER SEED
COUNT` prints what came of it as json. Children are forked, so that a kill costs milliseconds.
"""

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from studio.errors import Cancelled
from studio.events import Finished, PhaseStarted, Progress
from studio.filenames import LATENTS, UNFINISHED, beside, job_result_stem, sync_file, sync_folder, write_whole
from studio.queue import worker
from studio.queue.clock import Clock
from studio.queue.gallery import Gallery
from studio.queue.job import RESUMABLE, Job, JobState
from studio.queue.jobs import JobQueue
from studio.queue.leftovers import KEPT_SECONDS, remove_leftovers
from studio.queue.trash import Trash
from tests.queue.test_jobs import SETTINGS, picture

BLOCKS = 6
LONGEST_SECONDS = 0.2  # from the start of a child to its death


class Later(Clock):
    """So much later that nothing can be on its way any more."""

    def now(self) -> float:
        return time.time() + KEPT_SECONDS / 2


class Toy:
    """Counts blocks in the latents file, as a job that is resumed does, then writes a result."""

    def __init__(self, outputs: Path, stop: worker.Stop) -> None:
        self._outputs, self._stop = outputs, stop

    def run(self, job: Job, emit: worker.Emit, orders: worker.Orders) -> Finished:
        settings, path = job.settings, job.folder / LATENTS
        stem = job_result_stem(self._outputs, settings.prompt, settings.seed, job.created, job.id)
        final = stem.with_name(f"{stem.name}.mp4")
        unfinished = final.with_name(f"{final.name}{UNFINISHED}")
        emit(PhaseStarted("denoise"))
        done = int(path.read_text()) if path.exists() else 0
        while done < BLOCKS:
            if orders.stop():
                raise Cancelled
            time.sleep(0.002)
            done += 1
            write_whole(path, str(done).encode(), durable=True)
            emit(Progress("denoise", done, BLOCKS, 0.0))
        unfinished.write_bytes(b"half")
        time.sleep(0.002)
        unfinished.write_bytes(b"whole")
        sync_file(unfinished)
        beside(final, ".json").write_text("{}")
        unfinished.replace(final)
        sync_folder(self._outputs)
        return Finished(str(final), settings.seed, {}, 0, 0)

    def after(self, job: Job, result: Finished) -> None: ...

    def release(self) -> None:
        self._stop.asked = True

    def aside(self, acquire: object) -> bool:
        return False

    def idle(self) -> None: ...


class Kills:
    """The queue, what was promised of it, and everything that broke a promise."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.outputs, self.random = folder / ".queue", folder, random.Random(seed)
        self.queue = JobQueue(self.folder)
        self.promised: set[str] = set()
        self.finished: set[str] = set()
        self.ever: set[str] = set()  # finished once, deleted since or not
        self.doomed: set[str] = set()  # whose deletion had begun: their files may be gone, their rows not yet
        self.blocks: dict[str, int] = {}
        self.seen: Counter[str] = Counter()
        self.broken: list[str] = []

    def kill(self, role: Callable[[], None], seconds: float) -> list[str]:
        """Run `role` in a child until it is killed; the lines that it acknowledged before."""
        self.queue.close()  # a connection does not live in two processes
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(read)
            os.dup2(write, 1)
            try:
                role()
            finally:
                os._exit(0)
        os.close(write)
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with open(read) as pipe:
            lines = pipe.read().split("\n")
        self.seen[role.__name__] += 1
        return lines[:-1]  # the last one may be half

    def work(self) -> None:
        """Take jobs and make them, as the page's worker does."""
        stop = worker.Stop()
        worker.work(JobQueue(self.folder), Toy(self.outputs, stop), stop=stop, idle_seconds=60)

    def submit(self) -> None:
        """Queue jobs and say which."""
        queue = JobQueue(self.folder)
        while True:
            print(queue.submit(SETTINGS, picture()).id, flush=True)
            time.sleep(0.02)

    def delete(self) -> None:
        """Remove ended jobs and say which."""
        gallery = Gallery(JobQueue(self.folder), self.outputs)
        for job in self.queue.list([JobState.FINISHED, *RESUMABLE], limit=2):
            print(f"about {job.id}", flush=True)
            gallery.delete(job.id)
            print(f"did {job.id}", flush=True)

    def throw(self) -> None:
        """Put jobs into the trash, and every other one back."""
        trash = Trash(JobQueue(self.folder))
        for number, job in enumerate(self.queue.list()):
            trash.remove(job.id)
            if number % 2:
                trash.undo(job.id)

    def restore(self) -> None:
        """Open a queue whose database is damaged."""
        JobQueue(self.folder).list()

    def once(self) -> None:
        """One kill, and a look at what is left."""
        kind = self.random.choices(("work", "submit", "throw", "delete", "restore"), (6, 2, 1, 1, 1))[0]
        waiting = self.queue.list([JobState.INTERRUPTED, JobState.FAILED])
        for job in self.random.sample(waiting, min(2, len(waiting))):
            self.queue.resume(job.id)
        if not self.queue.count([JobState.QUEUED]):
            self.promised.add(self.queue.submit(SETTINGS).id)
        if kind == "restore":
            self.queue.close()
            database = self.folder / "queue.sqlite"
            database.write_bytes(database.read_bytes()[: self.random.randrange(database.stat().st_size)])
        lines = self.kill(getattr(self, kind), self.random.uniform(0, LONGEST_SECONDS))
        self.queue.interrupt_running()
        Trash(self.queue).settle()
        if kind == "submit":
            self.promised |= set(lines)
        if kind == "delete":
            touched = {line.split()[1] for line in lines if " " in line}
            gone = {line.split()[1] for line in lines if line.startswith("did ")}
            self.promised -= touched
            self.doomed |= touched
            self.broken += [f"{id} was deleted and is there" for id in gone & self.queue.ids()]
        self.look()

    def look(self) -> None:
        """Every promise holds."""
        jobs = {job.id: job for job in self.queue.list()}
        removed = {found.id for found in Trash(self.queue).list()}
        self.broken += [f"{id} is lost" for id in self.promised - set(jobs) - removed]
        self.broken += [f"{id} is in the queue and in the trash" for id in removed & set(jobs)]
        self.finished &= self.promised
        for id, job in jobs.items():
            if id in self.doomed:
                continue
            if job.state == JobState.FINISHED:
                result = Path(job.result.path)
                if not result.exists() or result.read_bytes() != b"whole":
                    self.broken.append(f"{id} is finished without its result")
                self.finished.add(id)
                self.ever.add(id)
            elif id in self.finished:
                self.broken.append(f"{id} was finished and is {job.state}")
            latents = job.folder / LATENTS
            done = int(latents.read_text() or -1) if latents.exists() else 0
            if job.state != JobState.FINISHED and done < self.blocks.get(id, 0):
                self.broken.append(f"{id} went from block {self.blocks[id]} back to {done}")
            self.blocks[id] = done
        self.promised |= set(jobs) - self.doomed  # what is there stays there
        self.broken += [f"{path.name} is half" for path in self.outputs.glob("*.mp4") if path.read_bytes() != b"whole"]

    def end(self) -> None:
        """Without another kill, everything is made, and nothing that was left lies about."""
        trash = Trash(self.queue)
        while trash.undo():
            self.seen["undo"] += 1
        for job in self.queue.list(RESUMABLE):
            self.queue.resume(job.id)
        stop = worker.Stop()
        worker.work(self.queue, Toy(self.outputs, stop), stop=stop, idle_seconds=0)
        states = Counter(job.state for job in self.queue.list())
        self.broken += [] if set(states) == {JobState.FINISHED} else [f"at the end there are {states}"]
        remove_leftovers(self.queue, self.outputs, self.outputs / ".cache", Later())
        left = [path for path in self.outputs.rglob(f"*{UNFINISHED}")]
        orphans = {path.name for path in self.queue.job_folders()} - self.queue.ids()
        self.broken += [f"left over: {found}" for found in (left, orphans) if found]
        self.look()


if __name__ == "__main__":
    kills = Kills(Path(sys.argv[1]), int(sys.argv[2]))
    for _ in range(int(sys.argv[3])):
        kills.once()
    before = len(kills.ever)
    kills.end()
    made = {"by role": kills.seen, "finished before the end": before, "finished": len(kills.finished)}
    print(json.dumps(made | {"broken": sorted(set(kills.broken))}))
