"""Jobs as videos, pages of them, and the description: without a server."""

from pathlib import Path

from studio.api import openapi, schema
from studio.api.operations import OPERATIONS
from studio.queue.job import Job, JobState
from studio.queue.jobs import JobQueue
from tests.queue.fake_clock import FakeClock
from tests.queue.test_jobs import SETTINGS


def read_pages(queue: JobQueue, newest_first: bool, between: bool = False) -> list[str]:
    """Ids of all pages of three. between: a job is asked for after each page."""
    found: list[Job] = []
    while True:
        page = schema.page(queue, 3, found[-1].id if found else None, newest_first=newest_first)
        found += page.jobs
        if between and len(found) < 20:
            queue.submit(SETTINGS)
        if not page.has_more:
            return [job.id for job in found]


def test_pages_neither_repeat_nor_lose_a_job(tmp_path: Path) -> None:
    """Seven that were asked for in one moment, and others meanwhile."""
    queue = JobQueue(tmp_path, clock=FakeClock())
    every = [queue.submit(SETTINGS).id for _ in range(7)]
    assert read_pages(queue, True) == every[::-1] and read_pages(queue, False) == every
    assert read_pages(queue, True, between=True) == every[::-1]
    before = [job.id for job in queue.list()]
    assert read_pages(queue, False) == before[::-1]
    assert schema.page(JobQueue(tmp_path / "empty"), 3, None, newest_first=False) == schema.Page([], False)


def test_every_state_has_a_status_of_the_dialect(tmp_path: Path) -> None:
    queue = JobQueue(tmp_path)
    job = queue.submit(SETTINGS)
    assert schema.video(job, 2)["status"] == "queued" and schema.video(job, 2)["ahead"] == 2
    assert queue.claim() and schema.video(queue.get(job.id), 0)["status"] == "in_progress"
    queue.finish(job.id, JobState.INTERRUPTED)
    video = schema.video(queue.get(job.id), 0, "zh")
    assert (video["status"], video["error"]["code"], video["resumable"]) == ("failed", "interrupted", True)
    assert set(schema.STATUSES) <= set(JobState)


def test_the_description_has_every_operation_and_points_to_what_is_there() -> None:
    found = openapi.describe()
    assert found["openapi"].startswith("3.1") and len(OPERATIONS) == 14
    named = {(method.upper(), path) for path, methods in found["paths"].items() for method in methods}
    assert named == {(operation.method, operation.path) for operation in OPERATIONS}
    pointed, waiting = set(), [found]
    while waiting:
        part = waiting.pop()
        waiting += part.values() if isinstance(part, dict) else part if isinstance(part, list | tuple) else ()
        pointed |= {part["$ref"]} if isinstance(part, dict) and "$ref" in part else set()
    assert {pointer.rpartition("/")[2] for pointer in pointed} <= set(found["components"]["schemas"])
    page = openapi.page()
    assert "<script" not in page and "http://" not in page and "https://" not in page
    assert all(f"<code>{operation.method} {operation.path}</code>" in page for operation in OPERATIONS)
