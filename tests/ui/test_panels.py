"""Text from users and files is text on the page: no tag and no attribute of it becomes one."""

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

from studio.config import CameraMove, load_models
from studio.events import PHASES, Failed, Finished, Notice, Progress
from studio.prompt import EncoderCount
from studio.queue.gallery import Entry
from studio.queue.job import Job, JobState
from studio.service.backend import TextReport
from studio.settings import ResolvedSettings
from studio.ui import form_panels, gallery_tiles, job_panels, markup
from studio.ui.made_of import made_of
from studio.ui.player import player

EVIL = "<img src=x onerror=alert(1)>\"'><script>alert(2)</script>${alert(3)}`{{7*7}}&amp;"
TAGS = set(
    "section div span p b i em s ol li dl dt dd h1 h2 h3 button img video figure figcaption a code small svg rect path "
    "input output select option details summary track "
    "style".split()
)


class Reader(HTMLParser):
    """Collects what a browser would make of html."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def job(state=JobState.RUNNING, **changes):
    settings = ResolvedSettings("nano", EVIL, EVIL, None, None, "orbit", 20, 4.0, 3.0, 34, 128, 224, 5)
    made = Job(
        id="0123456789abcdef",
        state=state,
        settings=settings,
        folder=Path("/nowhere"),
        created=1.0,
        started=2.0,
        ended=9.0,
        phase="denoise",
        progress=Progress("denoise", 3, 20, 5.0, 90.0),
        preview=Path("/nowhere/preview.webp"),
        notices=(Notice("text_cut", {"encoder": EVIL, "limit": 77, "cut": 9}, EVIL), Notice(EVIL, {}, EVIL)),
        error=Failed("write_failed", {"file": EVIL, "reason": EVIL}, EVIL) if state == JobState.FAILED else None,
        result=Finished("/nowhere/a.mp4", 5, {}, 0, 0) if state == JobState.FINISHED else None,
        attempts=1,
        resumable=False,
        version=4,
    )
    return replace(made, **changes)


def pages():
    report = TextReport(EVIL * 3, EVIL, (EncoderCount("clip", 77, 77, 9),), {"clip": EVIL, "step_llm": EVIL[:4]})
    model = replace(load_models()["nano"], title={"en": EVIL, "zh": EVIL}, summary={"en": EVIL, "zh": EVIL})
    for language in ("en", "zh"):
        for state in JobState:
            yield job_panels.stage(job(state), 2, language)
        yield job_panels.strip([job(), job(JobState.FAILED)], "", language)
        unknown = replace(job().settings, speed=EVIL, guidance_schedule=EVIL, camera_move=EVIL)
        entry = Entry("0123456789abcdef", JobState.FINISHED, job().settings, 1.0, None, None)
        yield gallery_tiles.tiles(
            [entry, replace(entry, job=job(JobState.FAILED, favourite=True, tags=(EVIL,)))], "", language
        )
        yield gallery_tiles.marks(replace(entry, job=job(tags=(EVIL, EVIL))), language, True)
        yield gallery_tiles.search_box(language)
        yield made_of(replace(entry, settings=replace(unknown, first_image=EVIL), path=Path("/x.mp4")), EVIL, language)
        yield job_panels.settings_table(job().settings, EVIL, language)
        yield job_panels.settings_table(unknown, EVIL, language)
        yield player("0123456789abcdef", Path("/x.png"), True, EVIL, 17, language)
        yield player("0123456789abcdef", Path("/x.mp4"), True, EVIL, 17, language, words=True)
        yield form_panels.receives(report, language)
        yield form_panels.meters(report, language)
        yield form_panels.model_note(model, language)
        yield form_panels.plan_missing(model, language)
        yield form_panels.plan_problem([EVIL])
        yield form_panels.plan_line({"fits": False, "remedy": EVIL}, language)
        yield form_panels.camera_note(CameraMove("x", EVIL, EVIL), EVIL, (EVIL, 10.0), language)
        yield form_panels.zone_title(EVIL, EVIL)
        yield markup.alert([EVIL])


def test_nothing_from_outside_becomes_html():
    found = []
    for html in pages():
        page = Reader(html)
        found += sorted(set(page.tags) - TAGS)
        found += [name for name, _ in page.attributes if name.startswith("on") or name == "srcdoc"]
        found += ["img"] * max(page.tags.count("img") - html.count("studio/media/"), 0)
        urls = [value for name, value in page.attributes if name in ("src", "href", "poster")]
        found += [url for url in urls if not url.startswith("studio/media/0123456789abcdef/")]
    assert found == []


def test_the_prompt_is_shown_as_it_was_typed():
    assert EVIL in Reader(job_panels.stage(job(), 0, "en")).text


def test_a_running_job_names_its_phase_and_the_time_left():
    text = Reader(job_panels.stage(job(), 0, "en")).text
    assert "Denoising" in text and "3 / 20" in text and "about 1 min 30 s left" in text and "Seed 5" in text
    assert job_panels.percent_of(job()) == "15%"
    assert "剩余约 1 分 30 秒" in Reader(job_panels.stage(job(), 0, "zh")).text


def test_every_phase_has_its_place():
    pages = {phase: job_panels.stage(job(phase=phase, progress=None), 0, "en") for phase in PHASES}
    assert [phase for phase, page in pages.items() if page.count('class="now"') != 1 or "bar busy" not in page] == []


def test_only_a_job_with_a_picture_reads_one():
    without = job()
    assert "Preparing images" not in job_panels.stage(without, 0, "en")
    assert "Preparing images" in job_panels.stage(replace(without, phase="encode_image"), 0, "en")
    picture = replace(without, settings=replace(without.settings, first_image="x"))
    assert "Preparing images" in job_panels.stage(picture, 0, "en")


def test_a_job_without_a_phase_is_starting():
    page = job_panels.stage(job(phase="", progress=None), 0, "en")
    assert "Starting" in page and "Running" not in page


def test_a_waiting_job_says_how_many_are_before_it():
    assert "earlier in the queue: 2" in job_panels.stage(job(JobState.QUEUED), 2, "en")
    assert "即将开始" in job_panels.stage(job(JobState.QUEUED), 0, "zh")


def test_a_failure_is_said_in_the_readers_language():
    failed = Failed("cancelled", {}, "Stopped.")
    assert markup.sentence(failed, "zh") == "已停止。"
    assert markup.sentence(Failed("of_the_future", {}, "told then"), "zh") == "told then"
    assert markup.sentence(Failed("disk_full", {"folder": 1}, "told then"), "zh") == "told then"
    cut = Notice("text_cut", {"encoder": "step_llm", "limit": 320, "cut": 9}, "")
    assert markup.sentence(cut, "en").startswith("Step LLM reads 320 tokens")


def test_a_result_whose_file_is_gone_says_so():
    assert "no longer where it was written" in job_panels.stage(job(JobState.FINISHED), 0, "en")


def test_what_is_cut_stands_where_each_encoder_stops():
    report = TextReport("abcdefgh", "", (EncoderCount("clip", 77, 77, 3), EncoderCount("step_llm", 5, 5, 1)),
                        {"clip": "fgh", "step_llm": "h"})  # fmt: skip
    html = form_panels.receives(report, "en")
    assert html.index("abcde") < html.index("CLIP stops here, tokens not read: 3") < html.index("<s>fg</s>")
    assert html.index("<s>fg</s>") < html.index("Step LLM stops here, tokens not read: 1") < html.index("<s>h</s>")
    assert "nothing" in html  # the negative prompt


def test_the_plan_is_green_amber_or_red():
    plan = {"fits": True, "vram_peak_gb": 19.4, "ram_peak_gb": 40.2, "seconds_total": 600, "remedy": None}
    assert "plan good" in form_panels.plan_line(plan, "en") and "about 10 min" in form_panels.plan_line(plan, "en")
    assert "plan warn" in form_panels.plan_line({**plan, "seconds_total": 9000}, "en")
    red = {**plan, "fits": False, "remedy": {"en": "Use less.", "zh": "减少。"}}
    assert "plan bad" in form_panels.plan_line(red, "en") and "减少。" in form_panels.plan_line(red, "zh")
    unknown = form_panels.plan_line({**plan, "vram_peak_gb": 0, "seconds_total": None}, "en")
    assert "VRAM" not in unknown and "about" not in unknown


def test_the_crop_shows_what_is_used():
    html = form_panels.crop_figure("data:image/jpeg;base64,AA", (0, 100, 400, 300), (400, 400), "en")
    assert "top:25.00%" in html and "height:50.00%" in html and "50% is cut off" in html
    whole = form_panels.crop_figure("data:,", (0, 0, 400, 400), (400, 400), "en")
    assert "Used whole" in whole and "slider" not in whole
    assert 'aria-valuemax="200" aria-valuenow="100" data-side="top" data-length="400"' in html


def test_gauges_leave_out_what_is_not_known():
    bar = markup.system_bar({"ram_gb": 3.0, "ram_total_gb": 8.0, "vram_total_gb": None}, 1, 2, "en")
    assert "3.0 of 8.0 GB" in bar and "VRAM" not in bar and "1 running · 2 waiting" in bar


def test_missing_models_are_grey_and_installed_ones_are_not():
    style = form_panels.model_style(["step-video-t2v"])
    assert "step-video-t2v" in style and "nano" not in style and form_panels.model_style([]) == ""
    model = SimpleNamespace(title={"en": "N", "zh": "N"})
    assert form_panels.model_words(model, "model.missing", "en") == "N\nnot installed"
    assert form_panels.model_words(model, "model.text_alone", "zh") == "N\n只用文字生成"
    assert form_panels.model_words(model, "", "en") == "N"
