"""The form in headless Chromium, sentence by sentence: its first screen, its drawer, help with camera and words, and a
phone, whose fingers need 44 px."""

import json
from pathlib import Path
from typing import Any

import pytest

from studio.media import read_metadata_file
from studio.prompt_builder import PARTS, PREFIXES
from studio.settings import GenerationSettings
from studio.wildcards import expand
from tests.ui.clicks import picture_file
from tests.ui.fake_backend import FakeBackend, Pace
from tests.ui.serving import serving
from tests.ui.visitor import PHONE, visitors

pytestmark = pytest.mark.browser
SECONDS = 60
MOST_CONTROLS = 10
VISIBLE = "(one) => one.checkVisibility({ visibilityProperty: true }) && one.getClientRects().length > 0"
# A group of radio buttons is one control; a place for a file is its input, which is drawn by its label.
PLACES = "#model, #prompt, #first-image, #preset, #length, #size, #drawer-toggle, #absent, #generate, #stop"
CONTROLS = f"""() => [...document.querySelectorAll('#inputs :is(fieldset, select, textarea, button, input, summary)')]
    .filter((one) => !one.parentElement.closest('fieldset'))
    .filter((one) => ({VISIBLE})(one.type === 'file' ? one.parentElement : one))
    .map((one) => one.closest('{PLACES}')?.id ?? one.className)"""
TARGETS = "label:has(input), select, textarea, button, summary, a, input:not([type=radio], [type=file])"
TARGETS = f":is(#top, #tabs) :is({TARGETS})"
LOW = f"""() => [...document.querySelectorAll('{TARGETS}')].filter({VISIBLE})
    .filter((one) => one.offsetHeight < 43.5 && !one.closest('.skip, .crop, [tabindex="-1"]'))
    .map((one) => `${{one.closest('[id]').id}} ${{one.offsetHeight}}: ${{one.outerHTML.slice(0, 70)}}`)"""
# Choices whose words do not fit into them; those of a list are measured as they are drawn.
TIGHT = f"""() => {{
    const pen = document.createElement('canvas').getContext('2d');
    const room = (one) => one.clientWidth
        - parseFloat(getComputedStyle(one).paddingLeft) - parseFloat(getComputedStyle(one).paddingRight);
    const chips = [...document.querySelectorAll(':is(#size, #preset) label')]
        .filter((one) => one.querySelector('span').getBoundingClientRect().width > room(one));
    const lists = [...document.querySelectorAll(':is(#length, #speed) select')].filter({VISIBLE}).filter((one) => {{
        pen.font = getComputedStyle(one).font;
        return [...one.options].some((option) => pen.measureText(option.text).width > room(one));
    }});
    return [...chips, ...lists].map((one) => one.innerText);
}}"""
# A kind of magic words, words that are then sent, and a pattern of those that are not.
MAGIC = (
    ("English, realistic", "realistic details", "/超高清/"),
    ("English, anime", "Ultra HD", "/realistic details|超高清/"),
    ("Chinese, anime", "超高清", "/逼真的细节|Ultra/"),
    ("Official (Chinese, realistic)", "逼真的细节", "/Ultra/"),
    ("None", "a kite", "/超高清|Ultra/"),
)


def dot(page: Any, row: str) -> str:
    return page.evaluate(f"getComputedStyle(document.querySelector('#{row} .title'), '::after').display")


def test_the_first_screen_is_short_and_what_changed_is_marked(browser: Any, tmp_path: Path) -> None:
    fake, calls = FakeBackend(tmp_path), []
    fake.calibrated = {"nano": 3.5}
    with serving(fake) as served, visitors(browser, SECONDS) as visit:
        page = visit(served.url)
        page.wait_for_selector("#preset label.selected")
        found = page.evaluate(CONTROLS)
        assert len(found) <= MOST_CONTROLS, found
        assert {"model", "prompt", "first-image", "preset", "length", "size", "drawer-toggle", "generate"} <= {*found}
        stops = "[...document.querySelectorAll('a[href], button, input, textarea, select, [tabindex]')]"
        first = f"{stops}.filter((one) => one.tabIndex >= 0).find({VISIBLE}).className"
        assert page.evaluate(first) == "skip", "the first stop of the Tab key"
        page.focus(".skip")
        page.wait_for_function("document.querySelector('.skip').getBoundingClientRect().top >= 0")
        page.keyboard.press("Enter")
        page.wait_for_function("document.activeElement === document.querySelector('#prompt textarea')")

        for language in ("zh", "en"):
            page.click(f'#language label:has(input[value="{language}"])')
            page.wait_for_selector(f'.system[data-language="{language}"]')
            assert page.evaluate(TIGHT) == [], language
        page.click("#drawer-toggle")
        page.fill("#steps input", "3")
        page.click(".changes [data-reset=infer_steps]:has-text('3')")
        page.wait_for_function("document.querySelector('#steps input').value === '20'")
        page.wait_for_selector(".changes", state="detached")
        assert page.evaluate(TIGHT) == [] and "Fast (calibrated) · about" in page.inner_text("#speed option:checked")
        page.on("request", lambda asked: calls.append(asked.post_data) if "run/predict" in asked.url else None)
        page.fill("#cfg input", "4")
        page.wait_for_function("/^Exact · about/.test(document.querySelector('#speed').querySelector(':checked').text)")
        page.wait_for_selector(".changes [data-reset=cfg_scale]")
        page.fill("#prompt textarea", "a kite")
        page.wait_for_function("document.querySelector('#receives').innerText.includes('a kite')")
        values = [value for call in calls for value in json.loads(call)["data"]]
        assert (values.count(4), values.count("a kite")) == (2, 1), (
            "a call for each change, none for the speed that moved"
        )
        assert (dot(page, "cfg"), dot(page, "steps")) == ("inline-block", "none")
        for words, row in (("--motion-score", "row-motion"), ("种子", "seed"), ("wide angle", "")):
            page.fill("#setting-search", words)
            rows = "[...document.querySelectorAll('#drawer .unfound')].length"
            page.wait_for_function(f"{rows} > 8")
            assert page.is_visible(f"#{row}" if row else "#drawer .nothing")


def test_camera_and_motion_are_advised_and_clips_show_what_a_score_does(browser: Any, tmp_path: Path) -> None:
    fake = FakeBackend(tmp_path / "studio", installed=("nano", "step-video-ti2v"))
    with serving(fake) as served, visitors(browser, SECONDS) as visit:
        page = visit(served.url)
        page.set_input_files("#first-image input[type=file]", picture_file(tmp_path))
        page.wait_for_selector(".crop img")
        page.click("#drawer-toggle")
        page.fill("#prompt textarea", "a cat, the camera pans right")
        page.click('#camera label:has(input[value="orbit"])')
        page.wait_for_selector("#row-camera .note >> text=The prompt moves the camera too")
        page.select_option("#camera-speed select", label="Slow")
        page.wait_for_selector("#row-camera .note >> text=镜头缓慢环绕")
        page.fill("#motion input[type=number]", "2")
        page.click("#row-camera .note [data-score='10']")
        page.wait_for_function("document.querySelector('#motion input[type=number]').value === '10'")
        page.wait_for_selector("#row-camera .note [data-score]", state="detached")
        page.locator("#ticks").scroll_into_view_if_needed()
        page.wait_for_function("[...document.querySelectorAll('#ticks img')].every((one) => one.naturalWidth === 96)")
        shown = "[...document.querySelectorAll('#ticks img')].map((one) => one.currentSrc.split('/').pop())"
        assert page.evaluate(shown) == ["still"] * 4, "whoever wants less motion"
        page.emulate_media(reduced_motion="no-preference")
        page.wait_for_function(f"({shown}).join() === '2,5,10,20'")
        assert "36.6" in page.inner_text("#row-motion") and "95.6" in page.inner_text("#row-motion")
        page.screenshot(path=tmp_path / "motion-light-en.png")
        page.click("#ticks [data-score='20']")
        page.wait_for_function("document.querySelector('#motion input[type=number]').value === '20'")
        page.click("#theme-switch")
        page.click('#language label:has(input[value="zh"])')
        page.wait_for_selector("#ticks >> text=内置的 nano")
        page.locator("#ticks").scroll_into_view_if_needed()
        page.screenshot(path=tmp_path / "motion-dark-zh.png")


def test_words_are_built_drawn_and_found_again(browser: Any, tmp_path: Path) -> None:
    fake = FakeBackend(tmp_path, installed=("nano", "step-video-t2v"))
    fake.counted = ("step-video-ti2v",)
    earlier = GenerationSettings("nano", "an earlier boat").resolve(fake.models["nano"])
    with serving(fake) as served, visitors(browser, SECONDS) as visit:
        fake.backend.queue.submit(earlier)
        page = visit(served.url)
        assert page.evaluate(TIGHT) == []
        page.click("#drawer-toggle")
        says = "words => document.querySelector('#prompt textarea').value === words"
        page.click("#builder summary")
        for part, words in (("subject", "a girl"), ("action", "turns"), ("style", "ink painting")):
            page.fill(f"#builder [data-part={part}]", words)
        page.click("#builder [data-id=build]")
        page.wait_for_function(says, arg="A girl turns. Ink painting.")
        page.click("#builder [data-id=history]")
        page.click("#history li button:has-text('an earlier boat')")
        page.wait_for_function(says, arg="an earlier boat")
        page.fill("#prompt textarea", "a {red|red} kite")
        page.wait_for_selector("#receives >> text=a red kite")
        page.wait_for_selector("#receives >> text=An example")
        page.wait_for_selector("#inputs .meters:has-text('Step-Video TI2V') >> text=/ 320")
        page.click(".absent-line")
        page.wait_for_selector("#absent-list section:has(h2:text-is('Step-Video T2V Turbo')) [data-act=tokens]")
        assert page.locator("#absent-list [data-act=tokens]").count() == 1, "the other one's tokenizers are here"
        page.fill("#prompt textarea", "A kite " + "flies " * 110)
        page.click("#inputs .note [data-id=prefix]")
        page.wait_for_function(f"document.querySelector('#prompt textarea').value.startsWith('{PREFIXES['en']}a kite')")
        sent = "document.querySelector('#receives').innerText"
        for kind, words, absent in MAGIC:
            page.select_option("#magic select", label=kind)
            page.wait_for_function(f"{sent}.includes('{words}') && !({absent}).test({sent})")
        page.click('#language label:has(input[value="zh"])')
        page.click("#builder summary:has-text('按要素')")
        parts = ("女孩", "转身微笑", "老街", "镜头推进", "纪录片", "水墨")
        for part, words in zip(PARTS, parts, strict=True):
            page.fill(f"#builder [data-part={part}]", words)
        page.click("#builder [data-id=build]")
        page.wait_for_function(says, arg="女孩转身微笑，老街，镜头推进，纪录片，水墨。")
        page.fill("#prompt textarea", "一只风筝飞过山谷" * 14)
        page.click("#inputs .note [data-id=prefix]")
        page.wait_for_function(f"document.querySelector('#prompt textarea').value.startsWith('{PREFIXES['zh']}一只')")


def test_each_job_draws_its_own_words_and_keeps_them(browser: Any, tmp_path: Path) -> None:
    """Asked for on the page, copied with other seeds in the queue, edited there, and varied once it is done."""
    fake, typed = FakeBackend(tmp_path, Pace(0, 1)), "a {red|blue|green|white} __shape__, {slow|fast}"
    queue, lists = fake.backend.queue, fake.backend.word_lists()
    with serving(fake) as served, visitors(browser, SECONDS) as visit:
        page = visit(served.url)
        page.fill("#prompt textarea", typed)
        page.click("#generate")
        page.wait_for_selector(".entry")
        page.click(".entry [data-act=copy][data-count='4']")
        page.wait_for_function("document.querySelectorAll('.entry').length === 5")
        page.click(".entry [data-act=edit] >> nth=0")
        page.wait_for_selector("#edit-bar .editing")
        page.wait_for_function("document.querySelector('#prompt textarea').value.startsWith('a ')")
        page.wait_for_function(f"document.querySelector('#prompt textarea').value !== '{typed}'")
        page.click("#generate:has-text('Put back')")
        page.wait_for_selector("#edit-bar .editing", state="detached")
        fake.play()
        try:
            page.wait_for_selector(".strip .card:nth-child(5)")
            page.click("#do-seeds")
            page.wait_for_selector(".strip .card:nth-child(9)")
        finally:
            fake.player.end()
        made = [read_metadata_file(Path(job.result.path))["settings"] for job in queue.list()]
        assert [one["prompt"] for one in made] == [expand(typed, one["seed"], lists) for one in made]
        assert {one["prompt_template"] for one in made} == {typed} and len({one["prompt"] for one in made}) > 2
        page.click('#tabs [role=tab][data-tab-id="gallery"]')
        page.click(".grid .card >> nth=0")
        page.wait_for_selector(f"#detail dd:text-is('{typed}')")
        assert page.is_visible(f"#detail dd:text-is('{queue.list()[0].settings.prompt}')")


@pytest.mark.parametrize(("language", "dark"), [("en-US", False), ("zh-CN", True)], ids=["english", "chinese"])
def test_a_phone_has_its_bar_its_stage_first_and_room_for_fingers(
    browser: Any, tmp_path: Path, language: str, dark: bool
) -> None:
    fake = FakeBackend(tmp_path / "studio", Pace(0.3, 400), installed=("nano", "step-video-ti2v"))
    with serving(fake) as served, visitors(browser, SECONDS) as visit:
        page = visit(served.url, language, dark, PHONE)
        assert top(page, "#inputs") < top(page, "#stage"), "there is nothing to look at yet"
        page.set_input_files("#first-image input[type=file]", picture_file(tmp_path))
        page.wait_for_selector(".crop img")
        page.fill("#prompt textarea", "a boat")
        page.click("#drawer-toggle")
        page.click(".absent-line")
        page.wait_for_selector("#absent-list section")
        page.fill("#steps input", "3")
        page.click('#camera label:has(input[value="orbit"])')
        page.fill("#motion input[type=number]", "2")
        page.wait_for_selector("#row-camera .note [data-score]")
        page.wait_for_selector(".changes .all")
        assert page.evaluate(LOW) == []
        page.locator("#ticks").scroll_into_view_if_needed()
        page.screenshot(path=tmp_path / f"motion-phone-{language}.png")
        fake.play()
        try:
            page.click("#generate")
            page.wait_for_selector(".stage.running img")
            page.wait_for_function("document.body.classList.contains('denoising')")
            assert top(page, "#stage") < top(page, "#inputs")
            for place in ("0", "document.body.scrollHeight"):
                page.evaluate(f"scrollTo(0, {place})")
                for button in ("#generate", "#stop"):
                    box = page.locator(button).bounding_box()
                    assert 0 <= box["y"] and box["y"] + box["height"] <= PHONE["height"], (button, place, box)
            rect = "getBoundingClientRect()"
            covered = f"""[...document.querySelectorAll('#create :is(button, p, textarea, img)')].filter({VISIBLE})
                .filter((one) => !one.closest('#start')
                    && one.{rect}.bottom > document.querySelector('#start').{rect}.top)
                .map((one) => one.outerHTML.slice(0, 80))"""
            assert page.evaluate(covered) == [], "at the end of the page nothing lies under the bar"
            percent = "getComputedStyle(document.querySelector('#stop'), '::after').content"
            page.wait_for_function(f"{percent}.includes('%')")
            assert page.evaluate(LOW) == []
            assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
            page.screenshot(path=tmp_path / f"bar-{language}.png")
            page.click("#stop")
            page.wait_for_selector(".stage.cancelled")
        finally:
            fake.player.end()


def top(page: Any, part: str) -> float:
    return float(page.evaluate("part => document.querySelector(part).getBoundingClientRect().top", part))
