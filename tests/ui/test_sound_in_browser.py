"""The Sound tab in Chromium: a nano clip gets a voice, pasted layers and subtitles; it is heard and measured.

Screenshots of both widths, lights and languages are left in pytest's temporary folder, with the sound's spectrogram.
"""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import app
from studio.audio.ffmpeg import measure, measure_file
from studio.audio.robot import speak
from studio.audio.synthesis import RATE
from studio.chat import Chat
from studio.filenames import beside
from studio.queue.job import JobState
from studio.queue.kinds import JobKind
from studio.service.chat_desk import ChatDesk
from tests.audio.clips import decoded, ffmpeg, level_db, stream_hash, tone, write_sound
from tests.toy_chat import toy_chat
from tests.ui.fake_backend import FakeBackend, Pace
from tests.ui.serving import serving
from tests.ui.sound_worker import sounding
from tests.ui.visitor import DESKTOP, PHONE, launched, visitors

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.browser

SCENE = "0-0.9 s: rain, 0.3-0.6秒：湿漉漉的脚步声和紫色斑马"
SECONDS = 34 / 25
HEARD = """async () => {
  const video = document.querySelector('.sound video'), context = new AudioContext();
  const source = context.createMediaElementSource(video), ear = context.createAnalyser();
  source.connect(ear).connect(context.destination);
  const wave = new Float32Array(ear.fftSize), loudest = [];
  let most = 0;
  const listen = () => { ear.getFloatTimeDomainData(wave); most = Math.max(most, ...wave.map(Math.abs)); };
  video.currentTime = 0;
  await context.resume();
  await video.play();
  while (!video.ended && video.currentTime < video.duration - 0.1) {
    listen();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const head = parseFloat(document.querySelector('.playhead').style.left);
  return { most, muted: video.muted, head, decoded: video.webkitAudioDecodedByteCount };
}"""

KEEP_DRAFTS = """() => {
  const Real = Audio;
  window.drafts = [];
  window.Audio = function (url) { const one = new Real(url); window.drafts.push(one); return one; };
}"""

IN_STEP = """() => {
  const [draft] = window.drafts, film = document.querySelector('.sound video');
  const play = draft?.currentTime > 0.2 && !draft.paused && !film.paused;
  return play && Math.abs(draft.currentTime - film.currentTime) < 0.1;
}"""


@pytest.fixture(scope="module")
def browser():
    with launched() as made:
        yield made


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """A clip of nano, as the command line leaves it."""
    path = tmp_path_factory.mktemp("nano") / "nano.mp4"
    words = ["--prompt", "A red circle moves to the right.", "--model", "nano", "--num-frames", "34"]
    assert app.main(["generate", *words, "--infer-steps", "4", "--seed", "3", "--output", str(path)]) == 0
    return path


@pytest.fixture
def studio(tmp_path, clip):
    """A page over a folder with that clip, and the real worker of sounds: (fake backend, url)."""
    for suffix in (".mp4", ".json", ".jpg"):
        (tmp_path / f"nano{suffix}").write_bytes(beside(clip, suffix).read_bytes())
    fake = FakeBackend(tmp_path, Pace(0.05, 12))
    with serving(fake) as served, sounding(tmp_path / ".queue", tmp_path):
        yield fake, served.url


@pytest.fixture
def visit(browser, studio):
    with visitors(browser, 60) as open_page:
        yield partial(open_page, studio[1])


def open_sound(page):
    page.click('#tabs [role="tab"][data-tab-id="sound"]')
    page.wait_for_selector(".sound .tools")


def pieces(page):
    return page.eval_on_selector_all(".piece", "all => all.map(one => one.innerText)")


def item(page, kind, index=0):
    """A line or layer as the fields show it, once it is chosen."""
    page.locator(f'.piece[data-kind="{kind}"][data-index="{index}"]').focus()
    values = page.eval_on_selector_all(".fields [name]", "all => all.map(one => [one.name, one.value])")
    return dict(values)


def drag(page, selector, by):
    """Press in the middle of it, move by so much of the timeline's width, release."""
    box, width = page.locator(selector).bounding_box(), page.locator(".lanes").bounding_box()["width"]
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + by * width / 2, y, steps=3)
    page.mouse.move(x + by * width, y)
    page.mouse.up()


def make(page):
    page.click(".tool-make")
    page.wait_for_selector("#sound-status .alert.good")
    page.wait_for_selector(".film .wave:not([hidden])", state="attached")


def test_a_nano_clip_speaks_over_pasted_layers_and_is_heard(studio, visit, tmp_path):
    page = visit()
    open_sound(page)
    page.wait_for_function("document.querySelector('.sound video').readyState >= 1")
    page.click(".tool-line_new")
    page.keyboard.insert_text("Go!")
    page.select_option('.fields [name="language"]', "en")
    page.click(".scene summary")
    page.fill(".scene textarea", SCENE)
    page.click(".tool-scene_read")
    page.wait_for_selector("#sound-message >> text=紫色斑马")
    assert pieces(page) == ["Go!", "rain", "wet steps"]
    make(page)
    page.wait_for_function("document.querySelector('.sound video').textTracks[0]?.cues?.[0]?.text === 'Go!'")
    assert " LUFS, true peak -" in page.inner_text("#sound-status .alert.good")
    page.screenshot(path=tmp_path / "sound-made.png", full_page=True)
    heard = page.evaluate(HEARD)
    assert heard["most"] > 0.05 and not heard["muted"] and heard["decoded"] > 0 and heard["head"] > 50, heard

    (job,) = studio[0].backend.queue.list([JobState.FINISHED])
    made, wave = Path(job.result.path), decoded(Path(job.result.path))
    assert job.kind is JobKind.SOUND and stream_hash(made) == stream_hash(tmp_path / "nano.mp4")
    assert abs(len(wave) / RATE - SECONDS) < 0.02
    assert abs(measure_file(made).integrated + 16) < 1 and measure_file(made).true_peak <= -1
    assert level_db(wave[int(0.95 * RATE) :]) < -80, "silence where nothing was asked"
    rain = measure(np.ascontiguousarray(wave[int(0.65 * RATE) : int(0.9 * RATE)]))
    assert rain.momentary > -40
    assert b"Go!" in ffmpeg("-i", made, "-map", "0:s", "-f", "srt", "-")
    recipe = json.loads(beside(made, ".json").read_text())["sound"]
    assert [layer["sound"] for layer in recipe["layers"]] == ["rain", "steps_wet"]
    ffmpeg("-i", made, "-lavfi", "showspectrumpic=s=1200x400:legend=1", tmp_path / "spectrum.png")

    page.click('#tabs [role="tab"][data-tab-id="gallery"]')
    page.click(".grid .card >> nth=0")
    lines = page.locator(".player .words >> visible=true")
    lines.wait_for()
    assert lines.get_attribute("aria-pressed") == "true"
    lines.click()
    shown = "all => all.map(one => one.textTracks[0]?.mode)"
    assert "hidden" in page.eval_on_selector_all(".player video", shown)
    page.screenshot(path=tmp_path / "sound-gallery.png")
    open_sound(page)
    page.click(".tool-without")
    page.wait_for_function("document.querySelector('.film .wave')?.hidden")
    page.wait_for_selector("#sound-status .alert.good")
    (bare, _) = studio[0].backend.queue.list([JobState.FINISHED])
    settings = [json.loads(beside(path, ".json").read_text())["settings"] for path in (Path(bare.result.path), made)]
    assert stream_hash(Path(bare.result.path)) == stream_hash(made) and settings[0] == settings[1]


def test_blocks_are_dragged_resized_and_undone_with_mouse_keys_and_finger(visit, tmp_path):
    page = visit()
    open_sound(page)
    with page.expect_file_chooser() as chooser:
        page.click(".tool-file_new")
    chooser.value.set_files(write_sound(tmp_path / "my bell.wav", tone(0.5)))
    page.wait_for_selector(".piece >> text=sound-my-bell.wav")
    assert float(item(page, "layers")["end"]) == 0.5
    page.click(".tool-undo")
    page.select_option(".tool-layer_new", "rain")
    page.select_option(".tool-preset_new", "pool")
    page.wait_for_selector('.piece[data-index="4"]')
    assert pieces(page)[0] == "rain" and len(pieces(page)) == 5
    page.click(".tool-undo")
    assert pieces(page) == ["rain"]
    first = item(page, "layers")
    drag(page, ".piece .edge.to", -0.5)
    shorter = item(page, "layers")
    assert 0 == float(first["start"]) == float(shorter["start"])
    assert abs(float(first["end"]) / 2 - float(shorter["end"])) < 0.06
    drag(page, ".piece span", 0.25)
    moved = item(page, "layers")
    assert abs(float(moved["start"]) - SECONDS / 4) < 0.06
    assert abs(float(moved["end"]) - float(moved["start"]) - float(shorter["end"])) < 0.02
    page.keyboard.press("ArrowRight")
    assert abs(float(item(page, "layers")["start"]) - float(moved["start"]) - 0.1) < 0.051
    for _ in range(3):
        page.keyboard.press("Control+z")
    assert item(page, "layers") == first
    page.keyboard.press("Control+y")
    assert item(page, "layers") == shorter
    page.keyboard.press("Delete")
    assert pieces(page) == []

    phone = visit(size=PHONE, language="zh-CN")
    touch = phone.context.new_cdp_session(phone)
    open_sound(phone)
    phone.select_option(".tool-layer_new", "birds")
    phone.locator(".piece").scroll_into_view_if_needed()
    box = phone.locator(".piece .edge.to").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for kind, points in (("Start", [x]), ("Move", [x - 40]), ("Move", [x - 120]), ("End", [])):
        at = [{"x": point, "y": y} for point in points]
        touch.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": at})
    phone.wait_for_function("Number(document.querySelector('.fields [name=end]').value) < 1.2")
    assert phone.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing is wider than the phone"


def test_it_looks_right_in_both_widths_lights_and_languages(visit, tmp_path):
    for language, dark, size in (("en-US", False, DESKTOP), ("zh-CN", True, DESKTOP), ("zh-CN", False, PHONE)):
        page = visit(language=language, dark=dark, size=size)
        open_sound(page)
        page.select_option(".tool-preset_new", "pool")
        page.wait_for_selector('.piece[data-index="3"]')
        page.click(".tool-line_new")
        page.keyboard.insert_text("看，水花！")
        words = page.inner_text(".sound")
        assert ("Undo" in words) == (language == "en-US") and ("撤销" in words) == (language == "zh-CN")
        page.screenshot(
            path=tmp_path / f"sound-{language}-{'dark' if dark else 'light'}-{size['width']}.png", full_page=True
        )


def test_a_draft_is_heard_in_step_and_a_lines_length_is_that_of_the_robot(visit):
    page = visit()
    open_sound(page)
    page.wait_for_function("document.querySelector('.sound video').readyState >= 1")
    page.click(".tool-line_new")
    page.keyboard.insert_text("Go!")
    page.select_option('.fields [name="language"]', "en")
    wanted = len(speak("Go!", "robot", "en")) / RATE
    ends = "document.querySelector('.piece.lines').getAttribute('aria-label').match(/([\\d.]+) s$/)[1]"
    page.wait_for_function(f"Math.abs(Number({ends}) - {wanted}) < 0.01")
    before = item(page, "lines")
    drag(page, ".piece.lines .edge.to", 0.2)
    assert item(page, "lines") == before and "follows from its words" in page.inner_text(".timeline-note")

    page.evaluate(KEEP_DRAFTS)
    page.evaluate("document.querySelector('.sound video').playbackRate = 0.25")
    page.click(".tool-draft")
    page.wait_for_function(IN_STEP)
    assert page.evaluate("document.querySelector('.sound video').muted && window.drafts[0].playbackRate === 0.25")
    page.select_option(".tool-layer_new", "rain")
    page.wait_for_function("window.drafts[0].paused && !document.querySelector('.sound video').muted")
    assert page.inner_text(".tool-draft") == "Listen first"
    page.locator('.piece[data-kind="lines"]').focus()
    page.fill('.fields [name="text"]', "x" * 10_000)
    assert "10000 characters, 2000" in page.inner_text(".fields .field-text small")
    page.click(".tool-make")
    page.wait_for_selector("#sound-message >> text=A line has 10000 characters")


def test_a_named_language_model_expands_the_prompt_and_writes_lines_that_are_shown_first(studio, visit, tmp_path):
    with toy_chat() as toy:
        object.__setattr__(studio[0].backend, "chat", ChatDesk(Chat(toy.url)))
        page = visit()
        toy.text = "A paper boat drifts over a pond."
        page.fill("#prompt textarea", "a boat")
        page.click("#chat [data-act=ask]")
        page.wait_for_selector(".chat-written >> text=drifts over")
        assert page.input_value("#prompt textarea") == "a boat", "shown, not taken"
        page.screenshot(path=tmp_path / "chat-prompt.png")
        page.click("#chat [data-act=use]")
        page.wait_for_function("document.querySelector('#prompt textarea').value.startsWith('A paper boat drifts')")
        assert page.locator(".chat-written").count() == 0

        toy.text = "0: It rains.\n0.8: Still.\nThat is all."
        open_sound(page)
        page.click(".chat summary")
        page.fill("textarea[name=idea]", "a calm voice")
        page.click(".tool-chat_ask")
        page.wait_for_selector(".written li >> text=0.8 s: Still.")
        assert "That is all." in page.inner_text(".written .other") and pieces(page) == []
        page.screenshot(path=tmp_path / "chat-lines.png", full_page=True)
        page.click(".tool-chat_use")
        assert pieces(page) == ["It rains.", "Still."] and page.locator(".written li").count() == 0
        page.click(".tool-undo")
        assert pieces(page) == []
        toy.raw = (500, b"", {})
        page.click(".tool-chat_ask")
        page.wait_for_selector("#sound-message >> text=500")
        page.wait_for_function("!document.querySelector('.tool-chat_ask').disabled")
