"""What helps a job that failed, clicked in headless Chromium; each click asserted in the queue on disk and the page."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.events import Failed
from studio.queue.job import Job, JobState
from studio.settings import GenerationSettings
from tests.ui.fake_backend import FakeBackend
from tests.ui.visitor import until

pytestmark = pytest.mark.browser
CODES = ("disk_full", "model_missing", "out_of_memory")  # between them every button


@pytest.fixture
def fake(tmp_path: Path) -> FakeBackend:
    """Nobody plays its worker: what waits stays where it is."""
    return FakeBackend(tmp_path)


def ask(fake: FakeBackend, prompt: str, seed: int) -> Job:
    asked = GenerationSettings("nano", prompt, seed=seed, num_frames=17)
    return fake.backend.queue.submit(asked.resolve(fake.models["nano"]))


def failed(fake: FakeBackend, code: str, seed: int) -> Job:
    job = ask(fake, f"it ends with {code}", seed)
    fake.backend.queue.claim()
    fake.backend.queue.record(job.id, Failed(code, {}, f"why it ended: {code}"))
    return job


def line(fake: FakeBackend) -> list[str]:
    return [job.id for job in fake.backend.queue.in_order()]


def row(job: Job) -> str:
    return f"#queue .entry.failed[data-id='{job.id}']"


def test_every_button_of_a_failed_row_helps(fake: FakeBackend, visit: Callable[..., Any]) -> None:
    queue = fake.backend.queue
    jobs = {code: failed(fake, code, seed) for seed, code in enumerate(CODES, 11)}
    waits = [ask(fake, f"waits {number}", number).id for number in range(2)]
    page = visit()
    for code, job in jobs.items():
        assert page.inner_text(f"{row(job)} .why") == f"why it ended: {code}"

    page.click(f"{row(jobs['out_of_memory'])} [data-act=edit]")
    page.wait_for_selector("#message .alert >> text=why it ended: out_of_memory")
    assert page.input_value("#prompt textarea") == "it ends with out_of_memory"
    assert page.inner_text("#generate") == "Generate" and page.locator("#edit-bar .editing").count() == 0
    page.click("#drawer-toggle")
    page.wait_for_function("document.querySelector('#seed textarea, #seed input').value === '13'")
    page.click("#drawer-toggle")

    for _ in range(2):  # the second click finds the list open and leaves it so
        page.click(f"{row(jobs['model_missing'])} [data-act=models]")
        page.wait_for_selector("#absent [aria-expanded='true']")
        page.wait_for_selector("#absent-list h2:visible >> nth=2")
        page.wait_for_function(IN_VIEW, arg="#absent .absent-line")
        page.wait_for_function(IN_VIEW, arg="#absent-list h2")

    page.click(f"{row(jobs['disk_full'])} [data-act=space]")
    page.wait_for_selector("#tabs [role=tab][data-tab-id=gallery][aria-selected=true]")
    page.wait_for_selector("#disk >> text=latents >> visible=true")
    page.wait_for_function(IN_VIEW, arg="#disk")
    page.click("#tabs [role=tab][data-tab-id=create]")
    assert line(fake) == waits, "so far nothing was asked of the queue"
    assert all(queue.get(job.id).state == JobState.FAILED for job in jobs.values())

    removed = jobs["model_missing"]
    page.click(f"{row(removed)} [data-act=remove]")
    until(page, lambda: queue.get(removed.id) is None)
    page.wait_for_selector(row(removed), state="detached")
    page.click("#undo button")
    page.wait_for_selector(row(removed))
    assert queue.get(removed.id).state == JobState.FAILED

    again: list[str] = []
    for code in reversed(CODES):
        page.click(f"{row(jobs[code])} [data-act=resume]")
        again.insert(0, jobs[code].id)
        until(page, lambda: line(fake) == [*again, *waits] == rows(page))
        page.wait_for_selector(row(jobs[code]), state="detached")
        assert queue.get(jobs[code].id).state == JobState.QUEUED


IN_VIEW = """part => {
    const box = document.querySelector(part).getBoundingClientRect();
    return box.height > 0 && box.top >= 0 && box.bottom <= innerHeight;
}"""


def rows(page: Any) -> list[str]:
    """Of the jobs that wait, in the order that is seen."""
    return page.evaluate("[...document.querySelectorAll('#queue ol .entry:not(.failed)')].map((row) => row.dataset.id)")
