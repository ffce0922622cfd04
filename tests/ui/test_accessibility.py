"""axe-core finds nothing: on every tab, with the drawer and every list open, while a job runs and after one failed, in
the comparison, where a file's settings or a frame are asked about, in both themes and languages, and on the login page.
axe comes from npm (.ci/run); AXE names a copy elsewhere."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from studio.chat import Chat
from studio.filenames import LATENTS
from studio.queue.frames import FrameDesk
from studio.queue.job import JobState
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
    """What axe finds on the page as it now is, in both themes."""
    if not page.evaluate("Boolean(window.axe)"):
        page.evaluate(AXE.read_text(encoding="utf-8"))
    wrong, was = [], page.evaluate("document.body.classList.contains('dark')")
    for dark in (not was, was):
        page.evaluate("dark => document.body.classList.toggle('dark', dark)", dark)
        wrong += [f"{where}, dark {dark}: {violation}" for violation in page.evaluate(RUN)]
    return wrong


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
            page.wait_for_selector(".entry.failed")
            wrong += found(page, "finished")
            wrong += asked(page, fake, tmp_path)
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


def asked(page: Any, fake: FakeBackend, folder: Path) -> list[str]:
    """What axe finds where a file's settings, a frame's latents, or more of a clip are asked about."""
    (settings := folder / "a.json").write_text('{"model": "nano", "prompt": "from a file", "seed": 9}')
    page.set_input_files("#restore-file input[type=file]", settings)
    page.wait_for_selector("#differs .differs")
    wrong = found(page, "settings of a file")
    page.click('#differs [data-id="leave"]')
    page.wait_for_selector("#differs .differs", state="detached")
    (done, *_) = fake.backend.queue.list(states=[JobState.FINISHED])
    (done.folder / LATENTS).write_bytes(b"")
    object.__setattr__(fake.backend, "frames", FrameDesk(fake.backend.queue.folder))
    page.click(f".strip [data-id='{done.id}']")
    page.wait_for_selector(f".player[data-job='{done.id}']")
    page.click("#stage [data-do=frame]")
    page.wait_for_selector("#frame-bar .waits")
    for place in page.locator("details.series summary").all():
        if place.is_visible():
            place.click()
    wrong += found(page, "a frame is waited for, more of a clip")
    page.click("#frame-bar [data-act=leave]")
    page.wait_for_selector("#frame-bar .waits", state="detached")
    page.click("#do-seeds")
    page.wait_for_selector(".variation.finished >> nth=3")
    return wrong + found(page, "variations")


def compared(page: Any) -> list[str]:
    """What axe finds in the comparison of two clips, beside each other and wiped, in both languages and themes."""
    wrong = []
    for language in ("zh", "en"):
        page.click(f'#language label:has(input[value="{language}"])')
        page.wait_for_selector(f'.system[data-language="{language}"]')
        for place in (0, 2):
            page.locator(".tile .check").nth(place).click()
        page.wait_for_function("document.querySelectorAll('.tile.chosen').length === 2")
        page.click(".picked [data-act=compare]")
        page.wait_for_selector("dialog.compare[open] figure >> nth=1")
        page.wait_for_function("[...document.querySelectorAll('dialog video')].every((one) => one.readyState >= 1)")
        for how in ("beside each other", "wiped"):
            wrong += found(page, f"comparison, {how}, {language}")
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
