"""The stage and its player in headless Chromium: sizes, keys, what is told on every tab, a program that is gone."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from studio.queue.job import Job, JobState
from studio.settings import GenerationSettings
from tests.ui.fake_backend import FakeBackend, Pace
from tests.ui.visitor import until

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.browser
Visit = Callable[..., Any]
DRAWN = "new Promise((done) => setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(done))))"
SIZES = ((128, 128), (128, 224), (224, 128))  # height, width


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeBackend]:
    made = FakeBackend(tmp_path, Pace(0.02, 4))
    yield made
    if made.player:
        made.player.end()


def ask(fake: FakeBackend, prompt: str, **more: Any) -> Job:
    asked = GenerationSettings("nano", prompt, seed=3, num_frames=17, **more)
    return fake.backend.queue.submit(asked.resolve(fake.models["nano"]))


def state(fake: FakeBackend, job: Job) -> JobState:
    found = fake.backend.queue.get(job.id)
    assert found is not None
    return found.state


def test_small_clips_are_large_enough_and_scaled_by_whole_steps(fake: FakeBackend, visit: Visit) -> None:
    jobs = [ask(fake, f"clip {height} {width}", height=height, width=width) for height, width in SIZES]
    fake.play()
    page = visit()
    until(page, lambda: all(state(fake, job) == JobState.FINISHED for job in jobs))
    for height, width in SIZES:
        page.click(f"#latest .card:has-text('clip {height} {width}')")
        page.wait_for_selector(f".stage.finished:has-text('clip {height} {width}') video")
        box = page.locator("#stage .screen").bounding_box()
        assert max(box["width"], box["height"]) >= 480 and round(box["width"]) % width == 0, (height, width, box)


def test_the_last_of_two_quick_clicks_wins_over_late_answers(fake: FakeBackend, visit: Visit) -> None:
    """Neither the look that the first click asked for, nor an older one of the page's own, shows another job."""
    jobs = [ask(fake, f"clip {number}", height=64, width=64) for number in range(3)]
    fake.play()
    page = visit()
    until(page, lambda: all(state(fake, job) == JobState.FINISHED for job in jobs))
    page.wait_for_selector("#latest .card >> nth=2")
    page.click("#latest .card:has-text('clip 0')")
    page.wait_for_selector(".stage.finished:has-text('clip 0') video")
    held: list[Any] = []

    def hold(route: Any) -> None:
        """The next look that is asked for with clip 1 in view, answered by the program, waits on its way back."""
        if held or jobs[1].id not in str(route.request.post_data):
            route.continue_()
        else:
            held.append((route, route.fetch()))

    page.route("**/run/predict**", hold)
    for held_by in ("#latest .card:has-text('clip 1')", "the pulse"):
        if held_by == "the pulse":
            page.unroute("**/run/predict**")
            page.click("#latest .card:has-text('clip 1')")
            page.wait_for_selector(".stage.finished:has-text('clip 1') video")
            held.clear()
            page.route("**/run/predict**", hold)
            ask(fake, "one more", height=64, width=64)  # the page looks for itself
        else:
            page.click(held_by)
        until(page, lambda: bool(held))
        page.click("#latest .card:has-text('clip 2')")
        page.wait_for_selector(".stage.finished:has-text('clip 2') video")
        assert page.get_attribute("#latest .card:has-text('clip 2')", "aria-pressed") == "true"
        with page.expect_response("**/run/predict**"):
            held[0][0].fulfill(response=held[0][1])
        page.evaluate(DRAWN)
        page.wait_for_selector(".stage.finished:has-text('clip 2') video", timeout=30_000)  # the gauges' look is rarer
    page.unroute("**/run/predict**")
    first = page.locator("#latest .card:has-text('clip 0')").bounding_box()
    page.mouse.move(first["x"] + 20, first["y"] + 20)
    page.mouse.down()
    last = ask(fake, "the last", height=64, width=64)
    page.wait_for_selector(f"#latest .card[data-id='{last.id}']")  # the strip moves on under the pointer
    page.mouse.up()
    page.wait_for_selector(".stage.finished:has-text('clip 0') video", timeout=30_000)


def test_keys_move_the_player(fake: FakeBackend, visit: Visit) -> None:
    job = ask(fake, "clip", height=128, width=224)
    fake.play()
    page = visit()
    until(page, lambda: state(fake, job) == JobState.FINISHED)
    page.wait_for_function("document.querySelector('#stage video')?.readyState > 1")
    page.evaluate("document.querySelector('#stage video').pause()")
    page.evaluate("document.activeElement.blur()")
    page.fill("#stage .player input[type=range]", "4")
    page.evaluate("document.activeElement.blur()")

    def at(frame: int) -> None:
        page.wait_for_selector(f"#stage .player output:text-is('{frame} / 17')")

    at(5)
    for key, frame in (("l", 6), ("j", 5), ("L", 6)):
        page.keyboard.press(key)
        at(frame)
    page.focus("#stage .player")
    for key, frame in (("ArrowLeft", 5), ("ArrowRight", 6)):
        page.keyboard.press(key)
        at(frame)
    page.keyboard.press("k")
    page.wait_for_function("!document.querySelector('#stage video').paused")
    page.keyboard.press("k")
    page.wait_for_function("document.querySelector('#stage video').paused")
    for rate in (0.5, 0.25, 1):
        page.click("#stage [data-do=speed]")
        page.wait_for_function(f"document.querySelector('#stage video').playbackRate === {rate}")
    page.click("#stage [data-do=loop]")
    page.wait_for_function("!document.querySelector('#stage video').loop")
    page.click("#stage [data-do=full]")
    page.wait_for_function("document.fullscreenElement?.matches('.player')")
    page.evaluate("document.exitFullscreen()")
    page.wait_for_function("!document.fullscreenElement")
    page.click("#prompt textarea")
    page.keyboard.type("j k l")
    assert page.input_value("#prompt textarea") == "j k l"


def test_escape_closes_one_layer_and_stops_only_from_the_stage(fake: FakeBackend, visit: Visit) -> None:
    fake.pace.step_seconds, fake.pace.steps = 0.3, 1000
    job = ask(fake, "clip", height=128, width=224)
    fake.play()
    page = visit()
    page.wait_for_selector(".stage.running img")
    page.click("#drawer-toggle")
    page.wait_for_selector('#drawer-toggle[aria-expanded="true"]')
    page.keyboard.press("Escape")
    page.wait_for_selector('#drawer-toggle[aria-expanded="false"]')
    page.focus("#prompt textarea")
    page.keyboard.press("Escape")
    assert page.locator(".undo.soon").count() == 0, "nobody stops a video from the form"
    page.focus("#stage [role=region]")
    page.keyboard.press("Escape")
    page.click(".undo.soon button")
    page.wait_for_selector(".undo.soon", state="detached")
    assert state(fake, job) == JobState.RUNNING
    page.focus("#stage [role=region]")
    page.keyboard.press("Escape")
    page.wait_for_selector(".undo.soon")
    assert state(fake, job) == JobState.RUNNING
    until(page, lambda: state(fake, job) == JobState.CANCELLED)


def test_every_tab_tells_what_runs_and_when_the_program_is_gone(fake: FakeBackend, visit: Visit) -> None:
    done = ask(fake, "done", height=128, width=224)
    fake.play()
    page = visit()
    until(page, lambda: state(fake, done) == JobState.FINISHED)
    fake.pace.step_seconds, fake.pace.steps = 0.3, 300
    ask(fake, "clip", height=128, width=224)
    page.wait_for_function("document.title.match(/^[0-9]+%/)")
    page.wait_for_function("document.querySelector('link[rel~=icon]').href.startsWith('data:image/png')")
    page.click("#latest .card:has-text('done')")
    page.wait_for_selector(".stage.finished >> text=done")
    page.wait_for_function("document.title.match(/^[1-9][0-9]*%/)", timeout=90_000)
    for tab in ("gallery", "sound"):
        page.click(f'#tabs [role=tab][data-tab-id="{tab}"]')
        assert page.is_visible("#to-queue") and "1" in page.inner_text("#to-queue"), tab
    page.click("#to-queue")
    page.wait_for_selector("#queue .entry.running")
    page.wait_for_function("document.querySelector('#queue .entry').checkVisibility()")

    page.route("**/studio/alive", lambda route: route.abort("connectionrefused"))
    page.wait_for_selector(".system .lost", state="visible")
    page.unroute("**/studio/alive")
    page.wait_for_selector(".system .lost", state="hidden")
    assert page.evaluate("[...document.images].filter((one) => one.complete && !one.naturalWidth).length") == 0
