"""The first image in headless Chromium: how it comes onto the page, and which part of it is used."""

import base64
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from studio.media import crop_box
from studio.queue.job_files import thumbnail
from studio.ui.server import ServeOptions, serve
from tests.ui.clicks import picture_file
from tests.ui.fake_backend import FakeBackend, Pace
from tests.ui.visitor import launched, visitors

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser():
    with launched() as made:
        yield made


@pytest.fixture
def studio(tmp_path):
    """A served page over a queue that nobody works: (fake backend, url)."""
    fake = FakeBackend(tmp_path, Pace(0.05, 12), installed=("nano", "step-video-ti2v"))
    served = serve(fake.backend, ServeOptions(port=0))
    yield fake, served.url
    served.close()


@pytest.fixture
def visit(browser, studio):
    """Opens the page as a new visitor; fails the test where the page asks another host or runs a foreign script."""
    with visitors(browser, 20) as open_page:
        yield partial(open_page, studio[1])


def move_crop(page) -> int:
    """Move the crop box by arrows, by its ends and by dragging; the pixel of the picture at which it begins then."""
    box = page.locator(".crop [role=slider]")

    def at() -> int:
        return int(box.get_attribute("aria-valuenow"))

    assert (at(), box.get_attribute("aria-valuemax")) == (24, "49"), "the middle"
    box.focus()
    for key, pixel in (("End", 49), ("ArrowRight", 49), ("ArrowLeft", 48), ("Shift+ArrowLeft", 43), ("Home", 0)):
        page.keyboard.press(key)
        assert at() == pixel, key
    page.click("#camera label:has(input[value=orbit])")
    page.wait_for_function("getComputedStyle(document.querySelector('.crop i'), '::after').maskImage.includes('svg')")
    page.wait_for_timeout(300)
    assert at() == 0, "what else changes leaves it there"
    box.scroll_into_view_if_needed()
    where = box.bounding_box()
    page.mouse.move(where["x"] + 20, where["y"] + 20)
    page.mouse.down()
    page.mouse.move(where["x"] + 26, where["y"] + 90, steps=3)
    page.mouse.up()
    assert 10 <= at() <= 30, "200 px of the page are 640 of the picture"
    return at()


def test_a_picture_is_cropped_as_shown_and_errors_lose_nothing(studio, visit, tmp_path):
    page = visit()
    page.fill("#prompt textarea", "a girl turns")
    page.click("#generate")
    page.wait_for_selector("#message .alert >> text=starts from a picture")
    assert page.input_value("#prompt textarea") == "a girl turns"
    bad = tmp_path / "broken.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    page.set_input_files("#first-image input[type=file]", bad)
    page.wait_for_selector("#message .alert >> text=cannot be read")
    page.click('#language label:has(input[value="zh"])')
    page.wait_for_selector("#message .alert", state="detached")
    (words := tmp_path / "words.txt").write_text("no picture")
    page.set_input_files("#first-image input[type=file]", words)
    page.wait_for_selector("#message .alert >> text=无法读取首帧图片")
    assert not page.is_visible(".toast-body"), "gradio's own words are English"
    page.click('#language label:has(input[value="en"])')
    page.set_input_files("#first-image input[type=file]", picture_file(tmp_path))
    page.wait_for_selector(".crop img")
    page.click("#drawer-toggle")
    assert page.is_checked('#size input[value="544x992"]')
    pixel = move_crop(page)
    page.click("#generate")
    page.wait_for_selector(".stage.queued")
    (job,) = studio[0].backend.queue.list()
    assert Path(job.settings.first_image).read_bytes() == picture_file(tmp_path).read_bytes()
    box = (pixel, 0, pixel + 351, 640)
    assert crop_box((400, 640), 992, 544, job.settings.crop_place) == box
    used = Image.open(picture_file(tmp_path)).convert("RGB").crop(box).resize((544, 992), Image.Resampling.BILINEAR)
    shown = page.request.get(f"{studio[1]}/studio/media/{job.id}/first").body()
    assert shown == thumbnail(used, job.settings), "the page shows these pixels"
    page.click("#do-reuse")
    page.wait_for_selector(f".crop [aria-valuenow='{pixel}']")
    page.click("#remove-picture")
    page.wait_for_selector(".crop", state="detached")


DROP = """([name, type, base64, target]) => {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    const parcel = new DataTransfer();
    parcel.items.add(new File([bytes], name, { type }));
    document.querySelector(target).dispatchEvent(
        new DragEvent("drop", { dataTransfer: parcel, bubbles: true, cancelable: true }));
}"""


def test_a_file_finds_its_place_wherever_it_is_dropped(studio, visit, tmp_path):
    page = visit()
    picture = base64.b64encode(picture_file(tmp_path).read_bytes()).decode()
    page.evaluate(DROP, ["a.png", "image/png", picture, "#outputs"])
    page.wait_for_selector(".crop img")
    settings = base64.b64encode(b'{"model": "nano", "prompt": "from a file", "seed": 9}').decode()
    page.evaluate(DROP, ["a.json", "application/json", settings, "#prompt textarea"])
    page.click('#differs [data-id="apply"]')
    page.wait_for_function("document.querySelector('#prompt textarea').value === 'from a file'")
    page.wait_for_selector(".crop", state="detached")


COPY = """async (base64) => {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    const picture = new Blob([bytes], { type: "image/png" });
    await navigator.clipboard.write([new ClipboardItem({ "image/png": picture })]);
}"""


def test_a_picture_is_pasted_and_replaces_the_one_before(studio, visit, tmp_path):
    """By the browser's clipboard and Ctrl+V, with the cursor in the prompt, which keeps its words."""
    page = visit()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.fill("#prompt textarea", "a boat")
    for size, chosen in (((400, 640), "544x992"), ((640, 360), "992x544"), ((300, 300), "768x768")):
        path = picture_file(tmp_path, *size, name=f"{size[0]}")
        page.evaluate(COPY, base64.b64encode(path.read_bytes()).decode())
        page.focus("#prompt textarea")
        page.keyboard.press("Control+V")
        page.wait_for_selector(f".crop figcaption >> text={size[0]} × {size[1]}")
        page.wait_for_selector(f'#size label.selected input[value="{chosen}"]')
    assert page.input_value("#prompt textarea") == "a boat"
    page.click("#generate")
    page.wait_for_selector(".stage.queued")
    (job,) = studio[0].backend.queue.list()
    with Image.open(job.settings.first_image) as used, Image.open(path) as last:
        assert used.convert("RGB").tobytes() == last.convert("RGB").tobytes(), "the browser may have written it anew"


DROP_ALL = """(files) => {
    const parcel = new DataTransfer();
    for (const [name, base64] of files) {
        const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
        parcel.items.add(new File([bytes], name, { type: "image/png" }));
    }
    document.querySelector("#outputs").dispatchEvent(
        new DragEvent("drop", { dataTransfer: parcel, bubbles: true, cancelable: true }));
}"""


def test_several_pictures_are_a_video_each_after_a_question(studio, visit, tmp_path):
    page, queue = visit(), studio[0].backend.queue
    page.fill("#prompt textarea", "a boat")
    files = [picture_file(tmp_path, *size, name=f"{size[0]}") for size in ((400, 640), (640, 360), (300, 300))]
    parcel = [[path.name, base64.b64encode(path.read_bytes()).decode()] for path in files]
    page.evaluate(DROP_ALL, parcel)
    page.click("#several [data-id=leave]")
    page.wait_for_selector("#several .differs", state="detached")
    assert queue.list() == []
    page.evaluate(DROP_ALL, parcel)
    page.wait_for_selector("#several >> text=3 pictures")
    page.screenshot(path=tmp_path / "several.png")
    page.click("#several [data-id=make]")
    page.wait_for_selector("#message >> text=3 videos are in the queue")
    made = queue.in_order()
    assert [Path(job.settings.first_image).read_bytes() for job in made] == [path.read_bytes() for path in files]
    assert [(job.settings.width, job.settings.height) for job in made] == [(544, 992), (992, 544), (768, 768)]
    assert {job.settings.prompt for job in made} == {"a boat"} and len({job.settings.seed for job in made}) == 3
    assert page.locator(".crop").count() == 0, "the form's own picture is as it was"
