"""Chains, variations and the comparison as a person works with them, in headless Chromium, on desktop and phone."""

from pathlib import Path
from typing import Any

import pytest

from studio.queue.job import JobState
from studio.settings import GenerationSettings
from tests.queue.test_chains import make
from tests.ui.fake_backend import FakeBackend
from tests.ui.serving import serving
from tests.ui.visitor import DESKTOP, PHONE, visitors

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.browser
LOOKS = [(DESKTOP, "en-US", False), (DESKTOP, "zh-CN", True), (PHONE, "zh-CN", False), (PHONE, "en-US", True)]
LOW = """part => [...document.querySelectorAll(part)].filter((b) => b.checkVisibility() && b.offsetHeight < 43.5)
    .map((b) => b.outerHTML.slice(0, 90))"""


def test_a_clip_is_extended_varied_and_compared_in_every_look(browser: Any, tmp_path: Path) -> None:
    fake = FakeBackend(tmp_path / "studio")
    queue = fake.backend.queue
    wanted = GenerationSettings("nano", "a boat", num_frames=17, height=64, width=96, seed=1)
    first = queue.submit(wanted.resolve(fake.models["nano"]))
    make(queue, fake.folder)
    with serving(fake) as served, visitors(browser, 150) as open_page:
        page = open_page(served.url)
        page.wait_for_selector(f".stage.finished video[src$='/{first.id}/result']")
        page.click("#extend summary")
        page.fill("#extend [data-field=prompt]", "it stops")
        page.press("#extend [data-field=prompt]", "Enter")
        page.wait_for_selector("#message .alert.good")
        (clip,) = queue.in_order()
        assert (clip.source, clip.settings.prompt) == (first.id, "it stops")
        make(queue, fake.folder)
        page.click(f"#latest .card[data-id='{first.id}']")
        page.wait_for_selector(f".stage.finished video[src$='/{first.id}/result']")
        page.click("#vary-moves summary")
        for move in ("orbit", "zoom-in", "fixed"):
            page.click(f"#vary-moves [data-move='{move}']")
        page.click("#vary-moves [data-move='fixed']")
        page.click("#vary-moves [data-act=moves]")
        page.wait_for_selector(".variations .variation >> nth=1")
        made = queue.in_order()
        assert [job.settings.camera_move for job in made] == ["zoom-in", "orbit"]
        for _ in made:
            make(queue, fake.folder)
        page.wait_for_function("document.querySelectorAll('.variations video').length === 2")
        for index, (size, language, dark) in enumerate(LOOKS):
            look(open_page(served.url, language, dark, size), clip.id, made[0].id, tmp_path / str(index), size)
        keep_one(page, fake, [job.id for job in made])


def look(page: Any, clip: str, variation: str, stem: Path, size: dict[str, int]) -> None:
    """Both parts and the comparison, without anything too wide, or too low for a finger."""
    page.click(f"#latest .card[data-id='{clip}']")
    page.wait_for_selector(".chain li >> nth=1")
    page.click("#extend summary")
    page.locator("#extend").scroll_into_view_if_needed()
    page.screenshot(path=f"{stem}-chain.png")
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    low = page.evaluate(LOW, "#extend button, #extend select, #extend summary, .variations h2 button")
    page.click(f"#latest .card[data-id='{variation}']")
    page.click(".variations [data-compare]")
    page.wait_for_selector("dialog[open] figure >> nth=1")
    page.wait_for_function("[...document.querySelectorAll('dialog video')].every((one) => one.readyState >= 1)")
    page.screenshot(path=f"{stem}-compare.png")
    low += page.evaluate(LOW, "dialog button, dialog input[type=range]")
    assert size is DESKTOP or low == []
    assert page.evaluate("document.querySelector('dialog').scrollWidth <= document.querySelector('dialog').clientWidth")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")


def keep_one(page: Any, fake: FakeBackend, ids: list[str]) -> None:
    """The keys move all videos, one is wiped over the other, one is kept, the other comes back."""
    at = """frame => [...document.querySelectorAll('dialog video')]
        .every((one) => Math.floor(one.currentTime * 25) === frame)"""
    page.click(".variations [data-compare]")
    page.wait_for_function("document.querySelector('dialog output')?.textContent === '1 / 17'")
    for key, frame in (("l", 1), ("ArrowRight", 2), ("j", 1)):
        page.locator("dialog [data-do=play]").press(key)
        page.wait_for_function(at, arg=frame)
    page.click("dialog [data-do=wipe]")
    page.locator("dialog [data-do=edge]").fill("20")
    assert "20%" in page.evaluate("document.querySelector('.screens').style.getPropertyValue('--wipe')")
    page.click("dialog [data-do=wipe]")
    page.click("dialog figure[data-name='A'] [data-act=keep]")
    page.wait_for_selector("#compare-undo .undo")
    kept = [id for id in ids if fake.backend.queue.get(id)]
    assert len(kept) == 1 and page.locator("dialog").count() == 0
    page.click("#compare-undo button")
    for _ in range(600):
        if all((job := fake.backend.queue.get(id)) and job.state == JobState.FINISHED for id in ids):
            return
        page.wait_for_timeout(100)
    raise AssertionError("it did not come back")
