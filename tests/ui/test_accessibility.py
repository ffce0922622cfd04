"""axe-core finds nothing: on every tab, with the drawer and every list open, while a job runs, in the comparison, in
both themes and languages, and on the login page. axe comes from npm (.ci/run); AXE names a copy elsewhere."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from studio.chat import Chat
from studio.service.chat_desk import ChatDesk
from studio.settings import GenerationSettings
from studio.ui.server import ServeOptions, serve
from tests.ui.fake_backend import FAIL_WORD, FakeBackend, Pace
from tests.ui.serving import LOGIN, serving
from tests.ui.test_browser import picture_file
from tests.ui.visitor import DESKTOP, PHONE, launched, visitors

pytestmark = pytest.mark.browser

AXE = Path(os.environ.get("AXE") or Path(__file__).parents[2] / ".venv" / "node_modules" / "axe-core" / "axe.min.js")
RUN = """async () => (await axe.run(document, { resultTypes: ["violations"] })).violations.map(({ id, nodes }) =>
    `${id}: ` + nodes.slice(0, 4).map((one) => one.html.slice(0, 160)).join(" | "))"""
SECONDS = 30


@pytest.fixture(scope="module")
def browser() -> Any:
    if not AXE.is_file():
        pytest.skip(f"no axe-core at {AXE}: npm install --no-save --prefix .venv axe-core")
    with launched() as made:
        yield made


def found(page: Any, where: str) -> list[str]:
    """What axe finds on the page as it now is."""
    if not page.evaluate("Boolean(window.axe)"):
        page.evaluate(AXE.read_text(encoding="utf-8"))
    return [f"{where}: {violation}" for violation in page.evaluate(RUN)]


@pytest.mark.parametrize(
    ("language", "dark", "size"), [("en-US", False, DESKTOP), ("zh-CN", True, PHONE)], ids=["desktop", "phone"]
)
def test_nothing_is_found_on_the_page(
    browser: Any, tmp_path: Path, language: str, dark: bool, size: dict[str, int]
) -> None:
    fake = FakeBackend(tmp_path, Pace(0.3, 120), installed=("nano", "nano-turbo", "step-video-ti2v"))
    object.__setattr__(fake.backend, "chat", ChatDesk(Chat("http://127.0.0.1:9")))  # shown, not asked
    for prompt in ("a boat", FAIL_WORD, "a kite"):
        settings = GenerationSettings("nano", prompt, num_frames=17, height=64, width=64)
        fake.backend.queue.submit(settings.resolve(fake.models["nano"]))
    served = serve(fake.backend, ServeOptions(port=0))
    try:
        with visitors(browser, SECONDS) as visit:
            page = partial(visit, served.url)(language, dark=dark, size=size)
            wrong = found(page, "waiting")
            fake.play()
            page.wait_for_selector(".stage.running img")
            wrong += found(page, "running")
            page.set_input_files("#first-image input[type=file]", picture_file(tmp_path))
            page.wait_for_selector(".crop img")
            page.click("#drawer-toggle")
            page.click(".absent-line")
            page.wait_for_selector("#absent-list section")
            page.fill("#steps input", "3")
            page.wait_for_selector(".changes")
            wrong += found(page, "drawer")
            fake.pace.step_seconds, fake.pace.steps = 0.0, 4  # the next ones are short
            page.wait_for_selector(".strip .card:nth-child(3)")
            wrong += found(page, "finished")
            page.click('#tabs [role=tab][data-tab-id="gallery"]')
            page.click(".grid .card >> nth=0")
            page.wait_for_selector("#detail dl.settings")
            wrong += found(page, "gallery")
            wrong += compared(page)
            page.click('#tabs [role=tab][data-tab-id="sound"]')
            page.wait_for_selector(".sound .tools")
            wrong += found(page, "sound, empty")
            page.click(".chat summary")
            page.click(".scene:not(.chat) summary")
            page.select_option(".tool-preset_new", "pool")
            page.wait_for_selector('.piece.layers[data-index="3"]')
            page.focus(".piece.layers")
            wrong += found(page, "sound, a layer")
            page.click(".tool-line_new")
            page.keyboard.insert_text("x" * 2001)
            wrong += found(page, "sound, a line")
            assert wrong == [], "\n".join(wrong)
    finally:
        if fake.player:
            fake.player.end()
        served.close()


def compared(page: Any) -> list[str]:
    """What axe finds in the comparison of two clips, beside each other and wiped, in both languages and themes."""
    wrong = []
    for language in ("zh", "en"):
        page.click(f'#language label:has(input[value="{language}"])')
        page.wait_for_selector(f'.system[data-language="{language}"]')
        for place in (0, 2):  # a failed one lies between them
            page.locator(".tile .check").nth(place).click()
        page.wait_for_function("document.querySelectorAll('.tile.chosen').length === 2")
        page.click(".picked [data-act=compare]")
        page.wait_for_selector("dialog.compare[open] figure >> nth=1")
        page.wait_for_function("[...document.querySelectorAll('dialog video')].every((one) => one.readyState >= 1)")
        for dark in (False, True):
            page.evaluate("dark => document.body.classList.toggle('dark', dark)", dark)
            wrong += found(page, f"comparison, {language}, dark {dark}")
            page.click("dialog [data-do=wipe]")
            wrong += found(page, f"comparison, wiped, {language}, dark {dark}")
            page.click("dialog [data-do=wipe]")
        page.click("dialog [data-act=close]")
        page.wait_for_selector("dialog", state="detached")
        page.click(".picked [data-act=clear]")
    return wrong


def test_nothing_is_found_on_the_login_page(browser: Any, tmp_path: Path) -> None:
    with serving(FakeBackend(tmp_path), auth=(LOGIN,)) as served:
        wrong = []
        for light in ("light", "dark"):
            context = browser.new_context(color_scheme=light, bypass_csp=True)
            page = context.new_page()
            page.goto(served.url)
            page.fill("#user", "ada")
            page.fill("#password", "wrong")
            page.click("main button")
            page.wait_for_selector(".alert")
            wrong += found(page, light)
            context.close()
        assert wrong == [], "\n".join(wrong)
