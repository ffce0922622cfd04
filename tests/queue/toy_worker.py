"""A worker process whose `run` does what the job's prompt says, and a page process around it."""

import os
import signal
import sys
import time
from pathlib import Path

from studio.errors import Cancelled, StudioError
from studio.events import Finished, PhaseStarted, Progress
from studio.filenames import LATENTS, write_whole
from studio.queue import worker
from studio.queue.job import Job
from studio.queue.jobs import JobQueue
from studio.queue.locks import DeviceLock
from studio.queue.supervisor import Supervisor


def command(folder: Path, name: str = worker.WORKER) -> list[str]:
    return [sys.executable, "-m", "tests.queue.toy_worker", "worker", str(folder), name]


def run(job: Job, emit: worker.Emit, orders: worker.Orders) -> Finished:
    """Counts blocks in the job's latents file, which is what a resumed job goes on from."""
    emit(PhaseStarted("denoise"))
    match job.settings.prompt:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "exit":
            print("said before the end", file=sys.stderr, flush=True)
            os._exit(3)
        case "unexpected":
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        case "refused":
            raise StudioError("write_failed", file="a", reason="b")
        case "deaf":
            time.sleep(60)
        case "long":
            _count(job, orders, blocks=10**6, emit=emit)
    blocks = _count(job, orders, blocks=3, emit=emit)
    return Finished(f"/out/{job.id}.mp4", blocks, {"process": os.getpid()}, 0, 0)


def _count(job: Job, orders: worker.Orders, blocks: int, emit: worker.Emit) -> int:
    path = job.folder / LATENTS
    done = int(path.read_text()) if path.exists() else 0
    while done < blocks:
        if orders.stop():
            raise Cancelled
        done += 1
        write_whole(path, str(done).encode())  # a kill may come at any moment: never half a file
        emit(Progress("denoise", done, blocks, 0.0))
        time.sleep(0.005)
    return done


class Toy:
    """A runner without a model."""

    run = staticmethod(run)

    def after(self, job: Job, result: Finished) -> None: ...

    def release(self) -> None: ...

    def aside(self, acquire: object) -> bool:
        return False

    def idle(self) -> None: ...


def main(role: str, folder: Path, name: str = worker.WORKER) -> int:
    """A page, or a worker; one of several locks a device of its own."""
    if role == "page":
        Supervisor(JobQueue(folder), {worker.WORKER: command(folder)}).start()
        time.sleep(60)
    stop = worker.Stop(grace_seconds=0.5)
    stop.listen()
    device = None if name == worker.WORKER else DeviceLock(folder, name)
    return worker.work(JobQueue(folder), Toy(), stop=stop, device=device, idle_seconds=0.1, name=name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:]))
