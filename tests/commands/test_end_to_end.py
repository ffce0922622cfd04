"""The whole program as people meet it: started, clicked, stopped, killed and started again."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from studio.config import load_camera_moves, load_models
from studio.media import read_metadata, read_video
from studio.prompt import compose
from studio.queue.job import JobState
from studio.ui.strings import say
from tests.commands.real_studio import (
    EVIL,
    LONG,
    PROMPT,
    SHORT,
    WAIT,
    Studio,
    ask,
    browser,
    ended,
    frames_of,
    generate,
    own,
    picture,
    plays,
    reached,
    saved_step,
    shared,
    undisturbed,
    until,
    visit,
)
from tests.ui.test_browser import LATIN_IN_CHINESE, own_words, words_match, words_of, write
from tests.ui.visitor import DESKTOP, PHONE

pytestmark = pytest.mark.browser


def test_a_picture_and_a_chinese_prompt_become_a_video(shared, visit, picture, tmp_path):
    page = visit(shared)
    assert page.is_checked('#model input[value="step-video-t2v"]')
    page.click('#model label:has(input[value="step-video-ti2v"])')
    page.wait_for_selector(".note >> text=up to 102 frames")
    page.set_input_files("#first-image input[type=file]", picture)
    page.wait_for_selector(".crop figcaption >> text=421 × 300")
    page.click("#prompt textarea")
    page.keyboard.insert_text(PROMPT)
    page.click("#drawer-toggle")
    page.select_option("#length select", label="0.7 s · 17 frames")
    page.fill("#steps input", "1")
    page.keyboard.press("Tab")
    page.wait_for_selector("#plan .plan.good")
    job = generate(shared, page)
    plays(page, job)
    page.wait_for_function("document.querySelector('.stage video').readyState >= 1")
    source = page.evaluate("document.querySelector('.stage video').src")
    assert source == f"{shared.url}/studio/media/{job.id}/result"
    made = tmp_path / "fetched.mp4"
    made.write_bytes(page.request.get(source).body())
    assert read_video(made).shape == (17, 544, 992, 3)
    told = read_metadata(made.read_bytes())["settings"]
    assert (told["prompt"], told["infer_steps"], told["motion_score"]) == (PROMPT, 1, 5.0)
    assert told["seed"] == job.settings.seed and f"Seed {told['seed']}" in " ".join(page.inner_text("#stage").split())
    assert (job.folder / "first_image").read_bytes() == picture.read_bytes()


def test_a_closed_page_stops_nothing(shared, visit, picture, undisturbed, tmp_path):
    page = visit(shared)
    ask(page, LONG, picture, tmp_path)
    job = generate(shared, page)
    page.wait_for_selector(".stage.running img")
    page.context.close()
    assert reached(shared, job, 1).state == JobState.RUNNING
    again = visit(shared, size=PHONE)
    plays(again, job)
    assert np.array_equal(frames_of(ended(shared, job, JobState.FINISHED)), undisturbed())


def test_stop_stops_and_resume_goes_on(shared, visit, picture, undisturbed, tmp_path):
    page = visit(shared)
    ask(page, LONG, picture, tmp_path)
    job = generate(shared, page)
    reached(shared, job, 20)
    page.click("#stop")
    until(lambda: (now := shared.queue.get(job.id)).stopping or now.state == JobState.CANCELLED)
    stopped = ended(shared, job, JobState.CANCELLED)
    step = saved_step(stopped)
    assert 20 <= step < LONG.infer_steps
    page.wait_for_selector(".stage.cancelled")
    page.click("#do-resume")
    steps = []

    def finished() -> bool:
        now = shared.queue.get(job.id)
        if now.progress and now.progress.phase == "denoise":
            steps.append(now.progress.step)
        return now.state == JobState.FINISHED

    until(finished)
    assert min(steps) >= step, "it goes on from its latents: until its next step it tells the one that is saved"
    assert np.array_equal(frames_of(shared.queue.get(job.id)), undisturbed())


def test_a_killed_worker_costs_one_job(shared, visit, picture, undisturbed, tmp_path):
    page = visit(shared)
    ask(page, LONG, picture, tmp_path)
    job = generate(shared, page)
    reached(shared, job, 20)
    shared.worker.kill()
    page.wait_for_selector(".stage.failed .alert >> text=The worker process was killed")
    assert ended(shared, job, JobState.FAILED).error.code == "worker_killed"
    ask(page, SHORT, picture, tmp_path)
    other = generate(shared, page)
    ended(shared, other, JobState.FINISHED)
    plays(page, other)
    page.click(f".strip .card[data-id='{job.id}']")
    page.wait_for_selector(".stage.failed")
    page.click("#do-resume")
    plays(page, job)
    assert np.array_equal(frames_of(ended(shared, job, JobState.FINISHED)), undisturbed())


def test_a_killed_program_loses_no_job(own, visit, picture, undisturbed, tmp_path):
    page = visit(own)
    ask(page, LONG, picture, tmp_path)
    job = generate(own, page)
    waits = generate(own, page)
    reached(own, job, 20)
    own.kill()
    page.wait_for_selector(".lost:visible >> text=The program does not answer")
    page.context.close()
    cut = own.queue.get(job.id)
    assert cut.state == JobState.INTERRUPTED and 0 < saved_step(cut) < LONG.infer_steps
    own.queue.cancel(waits.id)
    own.open()
    page = visit(own)
    page.wait_for_selector(".stage.cancelled")
    page.click(f".strip .card[data-id='{job.id}']")
    page.wait_for_selector(".stage.interrupted >> text=Resume goes on from its last saved step")
    until(lambda: own.worker.status() == psutil.STATUS_SLEEPING)
    ask(page, SHORT, picture, tmp_path)
    plays(page, generate(own, page))  # shown: a click while the page draws what has just ended may be lost
    assert own.queue.get(job.id).state == JobState.INTERRUPTED, "nobody starts it again but the user"
    page.click(f".strip .card[data-id='{job.id}']")
    page.wait_for_selector(".stage.interrupted")
    page.click("#do-resume")
    plays(page, job)
    assert np.array_equal(frames_of(ended(own, job, JobState.FINISHED)), undisturbed())
    assert own.queue.get(job.id).attempts == 2


@contextmanager
def second_program(first: Studio, models: Path) -> Iterator[Studio]:
    second = Studio(models, first.folder).open()
    yield second
    second.close()


def test_one_program_works_and_others_wait(own, visit, picture, model_dir, tmp_path):
    page = visit(own)
    ask(page, LONG, picture, tmp_path)
    job = generate(own, page)
    reached(own, job, 1)
    words = ["--model", "step-video-t2v", "--prompt", "猫", "--seed", 3, "--infer-steps", 1, "--num-frames", 17]
    beside = own.run("generate", *words, "--height", 64, "--width", 96, "--output", tmp_path / "beside.mp4")
    with second_program(own, model_dir) as second:
        other = visit(second)
        other.wait_for_selector("#banner >> text=this one only shows")
        other.wait_for_selector(f".strip .card[data-id='{job.id}']")
        write(other, "a second page")
        other.click("#generate")
        other.wait_for_selector("#message .alert >> text=this one only shows")
        assert other.is_disabled("#stop") and len(own.queue.list()) == 1
        own.queue.cancel(job.id)
        assert "Waiting for cpu, in use by the page's worker" in beside.stdout.readline()
        assert beside.poll() is None and not (tmp_path / "beside.mp4").exists()
        page.context.close()
        assert own.close() == 0
        assert beside.wait(WAIT) == 0, beside.stdout.read()
        assert read_video(tmp_path / "beside.mp4").shape == (17, 64, 96, 3)
        other.wait_for_selector("#banner .alert", state="detached")  # the second page has taken over
        ask(other, SHORT, picture, tmp_path)
        ended(second, generate(second, other), JobState.FINISHED)


def test_what_users_write_is_shown_as_written(shared, visit, picture, tmp_path):
    page = visit(shared)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    ask(page, replace(SHORT, prompt=EVIL, negative_prompt=EVIL), picture, tmp_path)
    job = generate(shared, page)
    plays(page, job)
    assert page.inner_text(".stage .words") == EVIL
    page.click('#tabs [role=tab][data-tab-id="gallery"]')
    card = f".grid .card[data-id='{job.id}']"
    page.click(card)
    page.wait_for_selector("#detail dl.settings")
    assert page.inner_text(f"{card} .name") == EVIL and page.inner_text("#detail dl.settings").count(EVIL) == 2
    assert not [url for url in asked if url.endswith("/x")]


def test_the_switch_leaves_no_untranslated_word(shared, visit, picture, tmp_path):
    """Of a running job, a failed, a stopped and a finished one whose prompt is cut, on the stage and in the gallery."""
    page = visit(shared)
    ask(page, replace(LONG, prompt="4711 " * 60, num_frames=102, height=192, width=192), picture, tmp_path)
    running = generate(shared, page)
    page.wait_for_selector(".stage.running .bar")
    seen = {language: switched(page, language) for language in ("zh", "en")}
    stopped = generate(shared, page)
    shared.queue.cancel(stopped.id)
    reached(shared, running, 1)
    shared.worker.kill()
    ended(shared, running, JobState.FAILED)
    ask(page, replace(SHORT, prompt="4711 " * 60), picture, tmp_path)
    finished = generate(shared, page)
    plays(page, finished)
    for job in (running, stopped, finished):
        page.click(f".strip .card[data-id='{job.id}']")
        page.wait_for_selector(f".stage.{shared.queue.get(job.id).state}")
        for language in ("zh", "en"):
            seen[language] += switched(page, language)
        page.click('#tabs [role=tab][data-tab-id="gallery"]')
        page.click(f".grid .card[data-id='{job.id}']")
        page.wait_for_selector(f".grid .card[data-id='{job.id}'][aria-pressed=true]")
        for language in ("zh", "en"):
            seen[language] += switched(page, language)
        page.click('#tabs [role=tab][data-tab-id="create"]')
    for language, words in seen.items():
        assert len(words) > 500
        found = {
            template for template in own_words(language) for seen_words in words if words_match(template, seen_words)
        }
        assert found == set(), language
    assert any("CLIP 只读取 77 个词元" in words for words in seen["zh"]), "the notice of the cut prompt is among them"
    models, moves = load_models(), load_camera_moves()
    asked = [job.settings for job in shared.queue.list()]  # other tests' jobs, too, are in the row of the latest
    sent = [compose(settings, models[settings.model], moves) for settings in asked]
    written = "\n".join([*(settings.prompt for settings in asked), *(t.positive + "\n" + t.negative for t in sent)])
    phrases = "|".join(move.phrase for move in moves.values())
    left = {"zh": re.compile(LATIN_IN_CHINESE + "|--ram"), "en": re.compile(f"{phrases}|中文")}
    foreign = {"zh": "[A-Za-z]{2,}", "en": "[\u4e00-\u9fff]"}
    for language, words in seen.items():
        said = {left[language].sub("", one) for one in words if one not in written}
        assert {one for one in said if re.search(foreign[language], one)} == set()


def switched(page: Any, language: str) -> list[str]:
    """What a reader meets after choosing a language; without reload, so that what the page holds stays."""
    page.evaluate("window.notReloaded = true")
    page.click(f'#language label:has(input[value="{language}"])')
    page.wait_for_selector(f".system[data-language={language}]")
    for part, key in (
        ("#generate", "generate"),
        ("#tabs [data-tab-id=create]", "tab.create"),
    ):  # gradio sets tabs later
        page.wait_for_selector(f"{part} >> text=/^\\s*{say(key, language)}\\s*$/", state="attached")
    assert page.evaluate("window.notReloaded")
    return words_of(page)


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_screenshots(shared, visit, picture, tmp_path, size):
    """Left in pytest's folder to be looked at: a finished generation in both lights and languages."""
    for light in ("light", "dark"):
        page = visit(shared, dark=light == "dark", size=size)
        ask(page, replace(SHORT, height=544, width=992, num_frames=1), picture, tmp_path)
        made = ended(shared, generate(shared, page), JobState.FINISHED)
        page.wait_for_selector(f".stage.finished img[src*='{made.id}']")
        for language in ("en", "zh"):
            switched(page, language)
            for part in ("#top", "#drawer", "#stage"):
                page.locator(part).evaluate("part => part.scrollIntoView({ behavior: 'instant' })")
                page.screenshot(path=tmp_path / f"{light}-{language}-{part[1:]}.png")
            too_wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert too_wide <= 0, f"{light} {language} is {too_wide} px too wide"
