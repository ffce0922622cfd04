"""The workers of a queue as the page shows them."""

from dataclasses import dataclass

from studio.events import Failed
from studio.queue.job import Job, JobState
from studio.queue.jobs import JobQueue
from studio.queue.refused import read_refused
from studio.queue.supervisor import Supervisor
from studio.queue.worker import is_of


@dataclass(frozen=True)
class WorkerView:
    """A worker by its device's name. job: what it runs now; trouble: why it cannot start, while that is so."""

    name: str
    pid: int | None
    job: Job | None
    trouble: Failed | None


def worker_views(queue: JobQueue, supervisor: Supervisor) -> list[WorkerView]:
    """Every worker, in the order of the command line, and the cards of a cluster that make something or may not."""
    running, views, refused = queue.list([JobState.RUNNING]), list[WorkerView](), read_refused(queue.folder)
    for one in supervisor.workers:
        views.append(
            WorkerView(one.name, one.pid, next((job for job in running if job.worker == one.name), None), one.trouble)
        )
        cards = [job for job in running if is_of(job.worker, one.name) and job.worker != one.name]
        views += [WorkerView(job.worker, one.pid, job, None) for job in reversed(cards)]
        if one.pid is not None:
            known = {name: why for name, why in refused.items() if is_of(name, one.name) and name != one.name}
            views += [WorkerView(name, one.pid, None, why) for name, why in known.items()]
    return views
