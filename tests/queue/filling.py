"""Jobs in a row, and the row they stand in."""

from dataclasses import replace

from studio.queue.jobs import JobQueue
from tests.queue.test_jobs import SETTINGS


def submit(queue: JobQueue, count: int) -> list[str]:
    """Submit so many jobs, which differ by their seeds; their ids."""
    return [queue.submit(replace(SETTINGS, seed=seed)).id for seed in range(count)]


def line(queue: JobQueue) -> list[str]:
    """The ids in the order of running."""
    return [job.id for job in queue.in_order()]
