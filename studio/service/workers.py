"""The workers of a queue as the page shows them."""

from dataclasses import dataclass

from studio.events import Failed
from studio.queue.job import Job, JobState
from studio.queue.jobs import JobQueue
from studio.queue.supervisor import Supervisor


@dataclass(frozen=True)
class WorkerView:
    """A worker by its device's name. job: what it runs now; trouble: why it cannot start, while that is so."""

    name: str
    pid: int | None
    job: Job | None
    trouble: Failed | None


def worker_views(queue: JobQueue, supervisor: Supervisor) -> list[WorkerView]:
    """Every worker, in the order of the command line."""
    running = {job.worker: job for job in queue.list([JobState.RUNNING])}
    return [WorkerView(one.name, one.pid, running.get(one.name), one.trouble) for one in supervisor.workers]
