"""The page in headless Chromium: a job outlives its page, every word changes with the language, nothing is fetched.

Screenshots of both widths, both lights and both languages are left in pytest's temporary folder to be looked at.
"""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from studio.examples import example_settings, first_image
from studio.queue.job import JobState
from studio.settings import GenerationSettings
from studio.ui.server import ServeOptions, serve
from studio.ui.strings import MOVES, STRINGS
from tests.ui.clicks import picture_file
from tests.ui.fake_backend import FAIL_WORD, FakeBackend, Pace
from tests.ui.serving import serving
from tests.ui.visitor import DESKTOP, PHONE, launched, visitors

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.browser

EVIL = "<img src=x onerror=alert(1)>${alert(2)}{{7*7}}`"
# Names, units and what stands in files or at the command line.
LATIN_IN_CHINESE = "Step-Video|Studio|English|nano|Turbo|CLIP|Step LLM|CFG|GB|VRAM|mp4|png|json|fail|num_frames|--vram"
LATIN_IN_CHINESE += (
    "|Hugging Face|ModelScope|hunyuan_clip|tencent-hunyuan-community|TI2V|T2V|--cfg-scale|GPU|float32|flash|MB"
)


@pytest.fixture(scope="module")
def browser():
    with launched() as made:
        yield made


@pytest.fixture
def studio(tmp_path):
    """A served page over a played worker: (fake backend, url)."""
    fake = FakeBackend(tmp_path, Pace(0.05, 12), installed=("nano", "step-video-ti2v"))
    served = serve(fake.backend, ServeOptions(port=0))
    yield fake, served.url
    if fake.player:
        fake.player.end()
    served.close()


@pytest.fixture
def visit(browser, studio):
    """Opens the page as a new visitor; fails the test where the page asks another host or runs a foreign script."""
    with visitors(browser, 20) as open_page:
        yield partial(open_page, studio[1])


def write(page, words, field="#prompt"):
    page.fill(f"{field} textarea, {field} input", words)


def choose_nano(page):
    page.click('#model label:has(input[value="nano"])')
    page.wait_for_selector(".note >> text=Tiny sibling")  # its defaults are in the form now


def test_a_job_outlives_its_page(studio, visit):
    fake, _ = studio
    fake.pace.step_seconds, fake.pace.steps = 0.3, 100
    fake.play()
    page = visit()
    choose_nano(page)
    write(page, EVIL)
    page.click("#prompt textarea")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".stage.running .bar")
    page.wait_for_selector(".stage.running img")
    assert EVIL in page.inner_text("#outputs")
    page.context.close()
    (job,) = fake.backend.queue.list()
    assert job.state == JobState.RUNNING and job.settings.prompt == EVIL
    again = visit(size=PHONE)
    again.wait_for_selector(".stage.running")
    fake.pace.step_seconds = 0.0
    again.wait_for_selector(".stage.finished video")
    assert again.evaluate("document.querySelector('.stage video').src").endswith(f"studio/media/{job.id}/result")
    again.wait_for_function("document.querySelector('.stage video').readyState >= 1")
    assert f"Seed {job.settings.seed}" in again.inner_text("#stage").replace("\n", " ")


def test_stop_ends_the_running_job_at_once(studio, visit):
    fake, _ = studio
    fake.pace.step_seconds, fake.pace.steps = 0.3, 200
    fake.play()
    page = visit()
    choose_nano(page)
    write(page, "a boat")
    page.click("#generate")
    page.wait_for_selector(".stage.running img")
    page.wait_for_function("/^\\d+% · /.test(document.title)")
    page.click("#stop")
    page.wait_for_selector(".stage.cancelled")
    page.wait_for_selector("#do-resume:visible")
    assert page.is_disabled("#stop")
    page.click("#do-resume")
    page.wait_for_selector(".stage.running")


COUNT_FRAMES = """{
    const ask = window.requestAnimationFrame.bind(window);
    window.asked = 0;
    window.requestAnimationFrame = (act) => { window.asked += 1; return ask(act); };
}"""


def test_a_page_at_rest_asks_for_no_frame(studio, visit):
    """Not after it has loaded and not after a video: then gradio asks for ever. What asks is still served."""
    fake, _ = studio
    fake.pace.step_seconds, fake.pace.steps = 0.3, 200
    fake.play()
    page = visit()
    page.add_init_script(COUNT_FRAMES)
    page.reload()
    page.wait_for_selector(".system")

    def comes_to_rest():
        for _ in range(30):
            before = page.evaluate("window.asked")
            page.wait_for_timeout(1000)
            if page.evaluate("window.asked") == before:
                return True
        return False

    assert comes_to_rest()
    choose_nano(page)
    write(page, "a boat")
    page.click("#generate")
    page.wait_for_selector(".stage.running img")
    page.click("#stop")
    page.wait_for_selector("#do-resume:visible")
    assert comes_to_rest()
    given = "cancelAnimationFrame(requestAnimationFrame(() => { window.cancelled = true; }))"
    assert page.evaluate(f"{given}; new Promise((done) => requestAnimationFrame(done))") > 0
    assert not page.evaluate("window.cancelled")
    page.mouse.move(300, 300)
    page.mouse.move(310, 300)
    assert page.evaluate("requestAnimationFrame(() => 0)") > 0  # a frame of its own number: the page is awake


def test_what_was_typed_is_kept_by_the_browser(studio, visit):
    page = visit()
    page.wait_for_selector(".meters >> text=/ 320/")
    before = page.inner_text(".meters")
    page.click("#prompt textarea")
    page.keyboard.insert_text("雪中的女孩")  # as an input method or a paste does: without key presses
    page.wait_for_function("(before) => document.querySelector('.meters').innerText !== before", arg=before)
    page.click("#drawer-toggle")
    page.click('#camera label:has(input[value="orbit"])')
    page.wait_for_selector("text=镜头环绕")
    page.wait_for_selector(".changes >> text=Camera move: Orbit")
    page.click('#language label:has(input[value="zh"])')
    page.wait_for_selector("#generate:has-text('生成')")
    page.wait_for_timeout(300)
    page.reload()
    page.wait_for_selector("#generate:has-text('生成')")
    page.wait_for_function("document.querySelector('#prompt textarea').value === '雪中的女孩'")
    assert page.is_checked('#camera input[value="orbit"]')
    assert page.evaluate("document.documentElement.lang") in ("zh", "en")


def test_a_dropped_file_brings_its_settings_back(studio, visit, tmp_path):
    fake, _ = studio
    fake.play()
    settings = GenerationSettings("nano", EVIL, seed=77, infer_steps=9, num_frames=17, height=64, width=64)
    job = fake.backend.queue.submit(settings.resolve(fake.models["nano"]))
    page = visit()
    page.wait_for_selector(".stage.finished")
    made = Path(fake.backend.queue.get(job.id).result.path)
    page.click("#drawer-toggle")
    page.set_input_files("#restore-file input[type=file]", made)
    page.wait_for_selector("#differs .differs")
    assert page.input_value("#prompt textarea") == "", "the form waits for the answer"
    page.click('#differs [data-id="apply"]')
    page.wait_for_function("document.querySelector('#seed textarea, #seed input').value === '77'")
    assert page.input_value("#prompt textarea") == EVIL
    assert page.is_checked('#model input[value="nano"]') and page.is_checked('#size input[value="64x64"]')


FILLED = """([words, seed]) => document.querySelector('#prompt textarea').value === words
    && document.querySelector('#seed textarea, #seed input').value === seed"""


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_an_example_fills_the_form_and_generates(studio, visit, size):
    fake, _ = studio
    fake.play()
    example = fake.backend.examples["camera-zoom-in"]
    page = visit("zh-CN", size=size)
    assert page.locator("#examples .idea").count() == 3, "the prompts of step-video-ti2v, which is chosen"
    page.click('#model label:has(input[value="nano"])')
    page.wait_for_selector("#plan .plan.good")
    page.wait_for_selector("#preset label.selected:has-text('最佳')")
    page.click("#drawer-toggle")
    page.click("#examples [data-id=camera-zoom-in]")
    page.wait_for_function(FILLED, arg=[example.prompt["zh"], "14"])
    page.wait_for_selector(".crop img")
    assert page.is_checked('#camera input[value="zoom-in"]')
    assert page.input_value("#motion input[type=number]") == "12"
    page.wait_for_function("[...document.querySelectorAll('#examples img')].every((image) => image.naturalWidth)")
    page.click("#generate")
    page.wait_for_selector(".stage.finished video")
    (job,) = fake.backend.queue.list()
    wanted = example_settings(example, "zh").resolve(fake.models["nano"])
    assert replace(job.settings, first_image=None) == replace(wanted, first_image=None)
    assert Path(job.settings.first_image).read_bytes() == first_image(example).read_bytes()
    page.click("#examples [data-id=purple-square-grows]")
    page.wait_for_selector(".crop", state="detached")
    page.wait_for_function(FILLED, arg=[fake.backend.examples["purple-square-grows"].prompt["zh"], "11"])
    page.wait_for_selector("#plan .plan.good")


def test_the_gallery_uses_again_and_deletes(studio, visit):
    fake, _ = studio
    fake.play()
    for prompt in ("first", f"this will {FAIL_WORD}"):
        settings = GenerationSettings("nano", prompt, num_frames=17, height=64, width=64)
        fake.backend.queue.submit(settings.resolve(fake.models["nano"]))
    page = visit()
    page.wait_for_selector(".strip .card:nth-child(2) img")
    page.click('#tabs [role=tab][data-tab-id="gallery"]')
    page.click(".grid .card:has-text('fail')")
    page.wait_for_selector("#detail .alert >> text=2.00 GB are needed")
    page.evaluate("document.querySelectorAll('#tiles .star').forEach((star) => star.click())")  # both at once
    page.wait_for_function("document.querySelectorAll('#tiles .star[aria-pressed=true]').length === 2")
    assert all(job.favourite for job in fake.backend.queue.list())
    tiles = (
        "['first', 'fail', 'first'].forEach((words) => cards.find((card) => card.innerText.includes(words)).click())"
    )
    page.evaluate(f"const cards = [...document.querySelectorAll('.grid .card')]; {tiles}")  # the last one counts
    page.wait_for_selector("#player video")
    page.click("#gallery-actions button:has-text('Use again')")
    page.wait_for_function("document.querySelector('#prompt textarea').value === 'first'")
    page.click('#tabs [role=tab][data-tab-id="gallery"]')
    for end in ("undo", "leave"):
        page.click("#gallery-actions button:text-is('Delete')")
        page.wait_for_selector(".grid .card:has-text('first')", state="detached")
        if end == "undo":
            page.click("#gallery-undo button")
            page.wait_for_selector(".grid .card:has-text('first')")
            page.wait_for_selector("#player video")
    assert [job.settings.prompt for job in fake.backend.queue.list()] == [f"this will {FAIL_WORD}"]


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_login_page_lets_in_and_out(browser, tmp_path, size):
    """In both languages, light and dark, with nothing too wide; a wrong word keeps the name."""
    fake, name = FakeBackend(tmp_path), "desktop" if size is DESKTOP else "phone"
    with serving(fake, auth=(("ada", "lovelace"),)) as served:
        for locale, light, wrong, out in (
            ("en-US", "light", "Wrong name or password.", "Log out"),
            ("zh-CN", "dark", "用户名或密码错误。", "退出登录"),
        ):
            with browser.new_context(viewport=size, locale=locale, color_scheme=light) as context:
                page = context.new_page()
                page.goto(served.url)
                assert page.evaluate("document.activeElement.id") == "user" and page.inner_text("form")
                page.fill("#user", "ada")
                page.fill("#password", "love")
                page.keyboard.press("Enter")
                page.wait_for_selector(f".alert >> text={wrong}")
                assert page.input_value("#user") == "ada" and page.evaluate("document.activeElement.id") == "password"
                words = " ".join(words_of(page))
                assert bool(re.search("[\u4e00-\u9fff]", words.replace("中文", ""))) == (locale == "zh-CN")
                assert bool(re.search("Name|Password|terminal", words)) == (locale == "en-US")
                page.screenshot(path=tmp_path / f"login-{name}-{light}-{locale}.png")
                assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
                page.fill("#password", "lovelace")
                page.click("button[type=submit]")
                page.wait_for_selector("#generate")
                page.wait_for_selector(f"#logout[aria-label='{out}']")
                page.screenshot(path=tmp_path / f"in-{name}-{light}-{locale}.png")
                assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
                page.click("#logout")
                page.wait_for_selector("#password")


def words_of(page):
    """Every text a reader meets: visible words, placeholders, titles, labels of controls."""
    return page.evaluate("""() => {
        const found = [];
        const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        for (let node; (node = walker.nextNode());) {
            const element = node.parentElement;
            if (element.closest('script, style') || !element.checkVisibility({ visibilityProperty: true })) continue;
            if (element.getClientRects().length) found.push(node.textContent.trim());
        }
        for (const element of document.querySelectorAll('[placeholder], [title], [alt]'))
            if (element.checkVisibility({ visibilityProperty: true }))
                for (const name of ['placeholder', 'title', 'alt']) found.push(element.getAttribute(name) || '');
        return found.filter((words) => words);
    }""")


def own_words(language):
    """Patterns of everything strings.py can say in a language but not in the other."""
    at, other = (1, 0) if language == "zh" else (0, 1)
    both = [*STRINGS.values(), *MOVES.values()]
    shared = {pair[other] for pair in both} & {pair[at] for pair in both}
    return [pair[other] for pair in both if pair[other] not in shared]


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_switch_leaves_no_untranslated_word(studio, visit, tmp_path, language):
    fake, _ = studio
    fake.play()
    prompts = ["4711", f"{FAIL_WORD}"] if language == "en" else ["四七一一", f"失败 {FAIL_WORD}"]
    for prompt in prompts:
        settings = GenerationSettings("nano", prompt, num_frames=17, height=64, width=64)
        fake.backend.queue.submit(settings.resolve(fake.models["nano"]))
    page = visit("en-US" if language == "zh" else "zh-CN")
    page.set_input_files("#first-image input[type=file]", picture_file(tmp_path))
    page.wait_for_selector(".crop img")
    page.click("#drawer-toggle")
    page.wait_for_selector(".strip .card:nth-child(2)")
    page.wait_for_selector(".stage.finished, .stage.failed")
    page.click(f'#language label:has(input[value="{language}"])')
    page.wait_for_selector("#generate:has-text('生成')" if language == "zh" else "#generate:has-text('Generate')")
    page.wait_for_timeout(500)
    seen = words_of(page)
    page.click('#tabs [role=tab][data-tab-id="gallery"]')
    page.click(".grid .card >> nth=0")
    page.wait_for_selector("#detail dl.settings")
    seen += words_of(page)
    assert len(seen) > 120
    assert {template for template in own_words(language) for words in seen if words_match(template, words)} == set()
    if language == "en":
        sent = "".join(model.negative_prompt + model.magic_words for model in fake.models.values())
        chinese = {words for words in seen if re.search("[\u4e00-\u9fff]", words)}
        assert {words for words in chinese if "中文" not in words and words not in sent} == set()
    else:
        assert {words for words in seen if re.search("[A-Za-z]{2,}", re.sub(LATIN_IN_CHINESE, "", words))} == set()


def words_match(template, words):
    """Whether `words` are what a template says; a template without a letter of its own says nothing."""
    parts = re.split(r"(\{\w+\})", template)
    if not re.search(r"[^\W\d]", "".join(part for part in parts if not part.startswith("{"))):
        return False
    return re.fullmatch("".join(".+" if part.startswith("{") else re.escape(part) for part in parts), words, re.DOTALL)


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_screenshots(studio, visit, tmp_path, size):
    fake, _ = studio
    fake.play()
    for prompt in ("Sunrise over the hills, the camera pushes in slowly", "薄雾湖面上的小舟"):
        settings = GenerationSettings("nano", prompt, num_frames=17, seed=len(prompt))
        fake.backend.queue.submit(settings.resolve(fake.models["nano"]))
    name = "desktop" if size is DESKTOP else "phone"
    page = visit(size=size)
    page.wait_for_selector(".stage.finished video")
    for light in ("light", "dark"):
        for language in ("en", "zh"):
            page.click(f'#language label:has(input[value="{language}"])')
            page.wait_for_selector(f".system[data-language={language}]")
            for tab in ("create", "gallery"):
                page.click(f'#tabs [role=tab][data-tab-id="{tab}"]')
                if tab == "gallery":
                    page.click(".grid .card >> nth=0")
                    page.wait_for_selector("#player video")
                page.screenshot(path=tmp_path / f"{name}-{light}-{language}-{tab}.png")
                overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
                assert overflow <= 0, f"{name} {language} {tab} is {overflow} px too wide"
        page.click("#theme-switch")
        assert page.evaluate("document.body.classList.contains('dark')") == (light == "light")
