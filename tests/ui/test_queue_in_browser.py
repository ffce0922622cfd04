"""The queue as a person works with it, in headless Chromium; every step is asserted in the queue on disk and seen."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from studio.queue.job import Job, JobState
from studio.queue.jobs import HELD
from studio.settings import GenerationSettings
from tests.ui.fake_backend import FakeBackend, Pace
from tests.ui.serving import serving
from tests.ui.visitor import DESKTOP, PHONE

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.browser
Visit = Callable[..., Any]


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeBackend]:
    made = FakeBackend(tmp_path, Pace(0.05, 20))
    yield made
    if made.player:
        made.player.end()


def fill(fake: FakeBackend, count: int) -> list[str]:
    names = [f"job {number}" for number in range(1, count + 1)]
    for number, name in enumerate(names):
        fake.backend.queue.submit(GenerationSettings("nano", name, seed=number).resolve(fake.models["nano"]))
    return names


def line(fake: FakeBackend) -> list[str]:
    return [job.settings.prompt for job in fake.backend.queue.in_order()]


def shown(page: Any) -> list[str]:
    return page.locator("#queue .entry .what b").all_inner_texts()


def until(page: Any, fake: FakeBackend, wanted: list[str]) -> None:
    """The queue and the page both have this order."""
    for _ in range(600):
        if line(fake) == wanted == shown(page):
            return
        page.wait_for_timeout(100)
    assert (line(fake), shown(page)) == (wanted, wanted)


def job_of(fake: FakeBackend, prompt: str) -> Job:
    return next(job for job in fake.backend.queue.list() if job.settings.prompt == prompt)


def drag(page: Any, name: str, to: str) -> None:
    """A row to above another one, by its grip, as a mouse does."""
    page.locator(f".entry:has-text('{name}') .grip").first.evaluate("(grip) => grip.scrollIntoView({block: 'center'})")
    grip = page.locator(f".entry:has-text('{name}') .grip").first.bounding_box()
    target = page.locator(f".entry:has-text('{to}')").first.bounding_box()
    page.mouse.move(grip["x"] + 8, grip["y"] + 12)
    page.mouse.down()
    page.mouse.move(grip["x"] + 8, target["y"] + 30, steps=4)
    page.mouse.move(grip["x"] + 8, target["y"] + 6, steps=4)
    page.mouse.up()


def test_ten_jobs_are_dragged_edited_copied_removed_and_brought_back(fake: FakeBackend, visit: Visit) -> None:
    names = fill(fake, 9)
    page = visit()
    until(page, fake, names)
    drag(page, "job 9", "job 1")
    until(page, fake, names := ["job 9", *names[:-1]])
    page.locator(".entry:has-text('job 3') .grip").focus()
    page.keyboard.press("ArrowUp")
    until(page, fake, names := ["job 9", "job 1", "job 3", "job 2", *names[4:]])
    page.keyboard.press("ArrowUp")
    until(page, fake, names := ["job 9", "job 3", "job 1", *names[3:]])

    page.click(".entry:has-text('job 3') [data-act=edit]")
    page.wait_for_selector("#edit-bar .editing")
    for _ in range(600):
        if page.input_value("#prompt textarea") == "job 3":
            break
        page.wait_for_timeout(100)
    assert page.input_value("#prompt textarea") == "job 3"
    assert job_of(fake, "job 3").state == JobState.PAUSED
    page.fill("#prompt textarea", "job 3, edited")
    page.click("#generate:has-text('Put back')")
    until(page, fake, names := ["job 9", "job 3, edited", *names[2:]])
    edited = job_of(fake, "job 3, edited")
    assert edited.state == JobState.QUEUED and edited.settings.seed == 2
    page.wait_for_selector("#edit-bar .editing", state="detached")

    page.click(".entry:has-text('job 1') [data-count='4']")
    until(page, fake, names := [*names[:3], *["job 1"] * 4, *names[3:]])
    assert len({job.settings.seed for job in fake.backend.queue.list() if job.settings.prompt == "job 1"}) == 5
    page.click(".entry:has-text('job 8') [data-act=remove]")
    until(page, fake, names[:-1])
    page.click(".undo button")
    until(page, fake, names)
    page.click("#queue header [data-act=stop-all]")
    assert line(fake) == names, "it asks once more"
    page.click("#queue header .sure")
    page.wait_for_selector("#queue .queue", state="detached")
    assert fake.backend.queue.count([JobState.CANCELLED]) == 13


def test_an_answer_that_comes_late_shows_no_order_that_has_passed(fake: FakeBackend, visit: Visit) -> None:
    """The look after the first of two moves arrives last; then a click still means the row that is seen."""
    fill(fake, 4)
    page, held = visit(), []
    until(page, fake, line(fake))

    def hold(route: Any) -> None:
        moves = "move" in str((route.request.post_data_json or {}).get("event_data"))
        if moves or held:
            route.continue_()
        else:
            held.append((route, route.fetch()))

    page.route("**/run/predict**", hold)
    grip = page.locator(".entry:has-text('job 4') .grip")
    grip.focus()
    page.keyboard.press("ArrowUp")
    for _ in range(600):
        if held:
            break
        page.wait_for_timeout(100)
    assert "job 4" in held[0][1].text() and line(fake) == ["job 1", "job 2", "job 4", "job 3"]
    page.keyboard.press("ArrowUp")
    until(page, fake, order := ["job 1", "job 4", "job 2", "job 3"])
    with page.expect_response("**/run/predict**"):
        held[0][0].fulfill(response=held[0][1])
    page.evaluate("new Promise((done) => setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(done))))")
    assert shown(page) == order and page.evaluate("document.activeElement.matches('.grip')")
    page.click(".entry:nth-child(2) [data-act=edit]")
    page.wait_for_selector("#edit-bar .editing")
    assert job_of(fake, "job 4").state == JobState.PAUSED


def test_the_running_job_stays_in_view_and_is_paused_skipped_and_finished(fake: FakeBackend, visit: Visit) -> None:
    steps = 1000  # nothing ends by itself
    fake.pace.step_seconds, fake.pace.steps = 0.3, steps
    fill(fake, 2)
    fake.play()
    page = visit()
    page.wait_for_selector(".stage.running img")
    page.fill("#prompt textarea", "one more")
    page.click("#generate")
    page.wait_for_selector("#message .alert.good >> text=number 3")
    assert "job 1" in page.inner_text("#stage") and line(fake) == ["job 1", "job 2", "one more"]
    page.click("#do-skip")
    until(page, fake, ["job 2", "one more", "job 1"])
    page.click(".entry.running [data-act=look]")
    page.wait_for_selector(".stage.running >> text=job 2")
    page.click("#queue header [data-act=pause-all]")
    page.wait_for_selector("#queue header [data-act=go-on]")
    page.wait_for_selector(".entry.running", state="detached")
    assert fake.backend.queue.option(HELD) and line(fake) == ["job 2", "one more", "job 1"]
    page.click("#queue header [data-act=go-on]")
    page.wait_for_selector(".stage.running img")
    page.click("#do-finish")
    page.wait_for_selector(".stage.finished video")
    done = job_of(fake, "job 2")
    assert done.finished_early and 0 < done.finished_early.values["step"] < steps
    percent = 100 * done.finished_early.values["step"] // steps
    assert page.inner_text(".stage .mark") == f"{percent}%" and page.is_visible("#stage .alert.warn")


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_line_fits_and_fingers_move_it(fake: FakeBackend, browser: Any, size: dict[str, int]) -> None:
    fill(fake, 3)
    with (
        serving(fake) as served,
        browser.new_context(viewport=size, has_touch=True, locale="zh-CN", reduced_motion="reduce") as context,
    ):
        page = context.new_page()
        page.set_default_timeout(90_000)
        page.goto(served.url)
        page.wait_for_selector("#queue .entry")
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        page.locator(".entry >> nth=1").evaluate("row => row.scrollIntoView({block: 'center'})")  # not below the bar
        grip, top = (page.locator(f".entry >> nth={index}").bounding_box() for index in (2, 0))
        client = context.new_cdp_session(page)
        for kind, y in (("touchStart", grip["y"] + 20), ("touchMove", top["y"] + 40), ("touchMove", top["y"] + 5)):
            client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": grip["x"] + 16, "y": y}]})
        client.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        until(page, fake, ["job 3", "job 1", "job 2"])
        small = "[...document.querySelectorAll('#queue button')].filter((b) => b.offsetHeight < 44).length"
        assert size is DESKTOP or page.evaluate(small) == 0


def test_tiles_are_marked_chosen_tagged_and_brought_back(fake: FakeBackend, visit: Visit, tmp_path: Path) -> None:
    queue = fake.backend.queue
    ids = {name: job.id for name in fill(fake, 4) for job in queue.in_order() if job.settings.prompt == name}
    for id in ids.values():
        queue.cancel(id)
    page = visit()
    page.click('#tabs [role=tab][data-tab-id="gallery"]')

    def tile(number: int) -> str:
        return f'.tile[data-tile="{ids[f"job {number}"]}"]'

    def wait(what: Callable[[], bool]) -> None:
        for _ in range(200):
            if what():
                return
            page.wait_for_timeout(50)
        raise AssertionError("the queue never came to it")

    page.hover(tile(2))
    page.click(f"{tile(2)} .star")
    wait(lambda: bool((job := queue.get(ids["job 2"])) and job.favourite))
    page.wait_for_selector(f'{tile(2)} .star[aria-pressed="true"]')
    page.click(f"{tile(4)} .check")
    page.click(f"{tile(3)} .card", modifiers=["Control"])
    assert page.inner_text(".picked output") == "2" and page.locator(".tile.chosen").count() == 2
    page.fill(".picked input", "sea, \u6d77")
    page.click('.picked [data-act="tag"]')
    wait(lambda: all(queue.get(ids[f"job {number}"]).tags == ("sea", "\u6d77") for number in (3, 4)))
    page.wait_for_selector(".picked:not([hidden])")
    page.screenshot(path=str(tmp_path / "chosen.png"))
    page.click('.picked [data-act="remove"]')
    wait(lambda: queue.count() == 2)
    page.wait_for_selector(".picked", state="hidden")
    page.click("#gallery-undo button")
    wait(lambda: queue.count() == 4)
    page.fill("#search input", "\u6d77")
    page.wait_for_selector(tile(1), state="detached")
    assert page.locator(".tile").count() == 2
    page.select_option("#search select", "oldest")
    page.wait_for_function("document.querySelector('.tile').innerText.includes('job 3')")
    page.click(f"{tile(3)} .card")
    page.fill("#marks input", "boat")
    page.press("#marks input", "Enter")
    wait(lambda: queue.get(ids["job 3"]).tags == ("boat",))
    page.click(".command summary")
    assert "generate --model=nano" in page.inner_text(".command button") and "--seed=2" in page.inner_text(".command")
    page.click(".chip >> nth=0")
    page.screenshot(path=str(tmp_path / "detail.png"))
