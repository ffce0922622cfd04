"""Evaluations and the blind test as tabs of the page, in headless Chromium, with a command that makes planted clips."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from studio.config import ROOT, load_models
from studio.evals.blind_tests import BlindTests
from studio.evals.evaluate_routes import EvaluateRoutes
from studio.evals.evaluations import Evaluations
from studio.service.endpoints import Endpoints, joined
from tests.evals.voter import vote
from tests.ui.fake_backend import FakeBackend
from tests.ui.serving import LOGIN, serving
from tests.ui.visitor import PHONE, is_foreign, visitors

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.browser

# Stands for `evaluate`: half of it, then, once FOLDER/go is there, the rest and a report.
COMMAND = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from studio.evals.posters import write_poster
from studio.evals.progress import Progress
from studio.evals.report import write_report
from tests.evals.voter import planted
folder = Path(sys.argv[sys.argv.index("--to") + 1])
Progress(6, 0, 6, 4, 754.0, 3 << 30).store(folder)
while not (folder / "go").exists():
    time.sleep(0.05)
made, _ = planted(folder, 6)
for row in made.rows:
    write_poster(folder / row.clip, folder / "posters" / "x.webp")
made.store()
write_report(made)
Progress(12, 0, 0, 12, 0.0, 0.0, ended=True).store(folder)
"""

PLAYING = "[...document.querySelectorAll('dialog video')].every((one) => one.currentTime > 0)"


@pytest.fixture
def evaluations(tmp_path: Path) -> Iterator[Evaluations]:
    made = Evaluations(tmp_path / "runs", lambda words: [sys.executable, "-c", COMMAND, *words], lambda words: 12)
    yield made
    made.close()


@pytest.fixture
def beside(evaluations: Evaluations, tmp_path: Path) -> Endpoints:
    (tmp_path / "stripped").mkdir()
    models = load_models()
    there = dict.fromkeys(models, False) | {"nano": True}
    made = EvaluateRoutes(evaluations, models, lambda: there)
    return joined(made.endpoints(), BlindTests(evaluations.folder, tmp_path / "stripped").endpoints())


def tab(page: Any, name: str) -> None:
    page.click(f'#tabs [role="tab"][data-tab-id="{name}"]')


def test_an_evaluation_from_the_form_to_its_report(
    browser: Any, evaluations: Evaluations, beside: Endpoints, tmp_path: Path
) -> None:
    with serving(FakeBackend(tmp_path), beside) as served, visitors(browser, 90) as open_page:
        page = open_page(served.url)
        tab(page, "evaluate")
        page.select_option("[data-part=source]", "text")
        (tmp_path / "mine.csv").write_text("prompt,seed\nA red <b>kite</b>,4\n一只猫,5\n", encoding="utf-8")
        page.set_input_files("[data-part=text-file]", tmp_path / "mine.csv")
        page.click(".evaluate summary")
        page.fill("[data-part=own-name]", "mine")
        page.fill("[data-part=own-settings]", "infer_steps=3 speed=fast")
        page.click("[data-part=own-add]")
        page.fill("[data-part=seeds]", "3")
        page.wait_for_function("document.querySelector('[data-part=count]').textContent.startsWith('12 clips')")
        assert page.is_disabled("[data-part=recipes] input[value=step-video-t2v]")
        page.fill("[data-part=name]", "first run")
        page.click("[data-part=start]")
        page.wait_for_selector(".evaluate .error:has-text('first run cannot name')")
        page.fill("[data-part=name]", "first")
        page.click("[data-part=start]")
        page.wait_for_selector(".run:has-text('about 13 min to go'):has-text('3.0 GB more disk')")
        asked = evaluations.get("first").asked
        assert (asked.recipes, asked.seeds, asked.source, asked.prompts) == (("nano", "mine"), 3, "text", ".csv")
        assert asked.own == {"mine": {"model": "nano", "weights": "none", "infer_steps": 3, "speed": "fast"}}
        assert "<b>kite" in (evaluations.folder / "first" / "prompts.csv").read_text(encoding="utf-8")
        page.click("#language label:has-text('中文')")
        page.wait_for_selector(".run:has-text('约剩 13 分钟')")
        page.click(".run [data-act=stop]")
        page.wait_for_selector(".run .stage.stopped")
        page.click(".run [data-act=start]")
        (evaluations.folder / "first" / "go").touch()
        page.wait_for_selector(".run .stage.ended")
        with page.context.expect_page() as opened:
            page.click(".run .report")
        report = opened.value
        report.wait_for_selector("table")
        report.locator("button[data-clip]").first.click()
        report.wait_for_selector("dialog video >> nth=1")
        while not report.evaluate(PLAYING):
            report.wait_for_timeout(100)
        report.close()
        page.click(".run [data-act=remove]")
        assert evaluations.get("first").has_report, "once is not enough"
        page.click(".run [data-act=remove].sure")
        page.wait_for_selector("[data-part=empty]:visible")
        assert evaluations.all() == []


def test_pictures_of_a_folder_and_their_texts_arrive(
    browser: Any, evaluations: Evaluations, beside: Endpoints, tmp_path: Path
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("ani_1.png", "ani_1.txt", "ani_2.png", "other.txt", "notes.md"):
        (pictures / name).write_bytes(name.encode())
    with serving(FakeBackend(tmp_path), beside) as served, visitors(browser, 90) as open_page:
        page = open_page(served.url)
        tab(page, "evaluate")
        page.select_option("[data-part=source]", "folder")
        page.set_input_files("[data-part=pictures]", pictures)
        page.wait_for_selector("[data-part=prompts-about]:has-text('2 pictures, 1 of them with a text')")
        page.fill("[data-part=name]", "set")
        page.click("[data-part=start]")
        page.wait_for_selector(".run .stage.running")
        kept = evaluations.folder / "set" / "pictures"
        assert {path.name: path.read_bytes() for path in kept.iterdir()} == {
            "ani_1.png": b"ani_1.png", "ani_1.txt": b"ani_1.txt",
        }  # fmt: skip


def test_a_link_leads_through_the_login_to_a_blind_test_on_a_phone(
    browser: Any, evaluations: Evaluations, beside: Endpoints, tmp_path: Path
) -> None:
    """The voter is invited by a link; a rule finds the planted better recipe, and its votes are on the disk."""
    name = evaluations.create("planted", {"source": "suite", "prompts": "nano", "recipes": ["nano"]}, paths=False)
    (evaluations.folder / name / "go").touch()
    with serving(FakeBackend(tmp_path), beside, auth=(LOGIN,)) as served:
        wrong: list[str] = []
        page = browser.new_context(viewport=PHONE, locale="zh-CN", has_touch=True).new_page()
        page.set_default_timeout(90_000)
        page.on("request", lambda asked: wrong.append(asked.url) if is_foreign(asked.url, served.url) else None)
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        evaluations._process.wait()
        page.goto(served.url)
        login(page)
        tab(page, "evaluate")
        page.wait_for_selector(".run .stage.ended")
        assert page.locator("[data-part=source] option[value=path]").count() == 0, "strangers name no files"
        tab(page, "blind")
        page.wait_for_function("document.querySelectorAll('[data-part=first] option').length === 2")
        page.tap("[data-part=open]")
        page.wait_for_selector("[data-part=link]:has-text('#blind-')")
        link = page.inner_text("[data-part=link]")
        page.context.clear_cookies()
        page.goto("about:blank")
        page.goto(link)
        login(page)
        page.wait_for_selector("[data-part=voter]:visible")
        vote(page)
        result = page.inner_text(".result")
        assert "100 %" in result and "尚无结论" not in result.splitlines()[-2], result
        assert not wrong
    (votes,) = (evaluations.folder / name / "blind").glob("*.jsonl")
    assert len(votes.read_text(encoding="utf-8").splitlines()) == 6 + 1


def login(page: Any) -> None:
    page.fill("[name=user]", LOGIN[0])
    page.fill("[name=password]", LOGIN[1])
    page.press("[name=password]", "Enter")
    page.wait_for_selector("#tabs")


MEASURE = """() => {
    const state = document.querySelector('#to-queue'), box = (element) => element.getBoundingClientRect();
    state.textContent = '3 running · 12 waiting';
    if (!document.querySelector('.gauge + .gauge')) {
        const one = document.querySelector('.gauge'), other = one.cloneNode(true);
        one.before(other);
    }
    const tabs = [...document.querySelectorAll('#tabs [role=tab]')].map(box);
    return {
        right: Math.max(...tabs.map((one) => one.right)), top: Math.min(...tabs.map((one) => one.top)),
        left: box(state).left, bottom: box(state).bottom,
    };
}"""


def test_every_tab_is_in_reach_beside_what_runs(browser: Any, beside: Endpoints, tmp_path: Path) -> None:
    """Where tabs find no room gradio takes them away; a busy machine with a GPU tells more than an idle one."""
    with serving(FakeBackend(tmp_path), beside) as served, visitors(browser, 90) as open_page:
        for locale in ("en-US", "zh-CN"):
            page = open_page(served.url, locale)
            page.wait_for_selector(".system .gauge")
            for width in (1920, 1440, 1366, 1280, 1241, 1100, 390, 360):
                page.set_viewport_size({"width": width, "height": 844})
                page.wait_for_function("document.querySelectorAll('#tabs [role=tab]').length == 5")
                found = page.evaluate(MEASURE)
                where = (locale, width, found)
                assert found["right"] <= width and (found["right"] < found["left"] or found["top"] > found["bottom"]), (
                    where
                )
            page.set_viewport_size({"width": 320, "height": 844})
            if locale == "en-US":
                page.click("#tabs .overflow-menu > button")
                page.click("#tabs .overflow-dropdown button:has-text('Blind test')")
                page.wait_for_selector(
                    '#tabs [role=tab][data-tab-id="blind"].selected, #tabs .overflow-dropdown .selected'
                )
