"""The queue on the page, without a browser: its rows, what its buttons do, what the form does with a job of it."""

import re
from dataclasses import replace
from types import SimpleNamespace

from studio.events import Failed
from studio.queue.job import JobState
from studio.queue.jobs import HELD
from studio.service.rights import Right, asking
from studio.service.schedule import Schedule
from studio.service.submit import submit as ask
from studio.settings import GenerationSettings
from studio.ui.failed_rows import SHOWN, SHOWN_SECONDS, failed_jobs
from tests.ui.clicks import filled, finish, message, picture, submit


def click(page, act, id="", **more):
    panel = page.stage.queue
    mine = {page.stage.focus: "", page.create.language: "en"}
    return panel.acted(mine, SimpleNamespace(act=act, id=id, **more))


def line(page):
    return [job.id for job in page.backend.queue.in_order()]


def test_an_edited_job_goes_through_the_form_and_back_to_its_place(page):
    settings = GenerationSettings("nano", "a boat", first_image="x", seed=5)
    ids = [submit(page).id, ask(page.backend, settings, picture()).id, submit(page).id]
    panel, mine = page.stage.queue, {page.stage.focus: "", page.create.language: "en"}
    updates = panel.edit(mine, SimpleNamespace(id=ids[1]))
    assert updates[page.create.fields["prompt"]]["value"] == "a boat" and updates[panel.editing] == ids[1]
    assert updates[page.create.generate]["value"] == "Put back into the queue"
    assert page.backend.queue.get(ids[1]).state == JobState.PAUSED
    assert "in the form" in panel.look("", "en")[panel.rows]
    given = filled(page, prompt="a ship", seed="") | {panel.editing: ids[1]}
    done = page.stage.generate(given)
    job = page.backend.queue.get(ids[1])
    assert (job.settings.prompt, job.settings.seed, job.settings.first_image) == ("a ship", 5, None)
    assert line(page) == ids and done[panel.editing] == "" and done[page.create.generate]["value"] == "Generate"
    panel.edit(mine, SimpleNamespace(id=ids[0]))
    panel.leave({panel.editing: ids[0], page.create.language: "en"})
    assert page.backend.queue.get(ids[0]).state == JobState.QUEUED
    page.backend.queue.cancel(ids[1])
    assert "no longer here" in message(page, page.stage.generate(given))


def test_buttons_of_the_rows_do_what_they_say(page, fake):
    a, b, c = (submit(page).id for _ in range(3))
    click(page, "move", c, where="before", other=a)
    assert line(page) == [c, a, b]
    click(page, "copy", a, count="4")
    assert len(line(page)) == 7 and line(page)[:2] == [c, a] and line(page)[-1] == b
    removed = click(page, "remove", b)[page.stage.queue.undo]
    assert b not in line(page) and f'data-id="{b}"' in removed
    click(page, "undo", b)
    assert b in line(page)
    click(page, "pause-all")
    rows = page.stage.queue.look("", "zh")[page.stage.queue.rows]
    assert page.backend.queue.option(HELD) and "已暂停" in rows and "继续" in rows
    click(page, "go-on")
    fake.is_owner = False
    click(page, "stop-all")
    shown = page.stage.queue.look("", "en")[page.stage.queue.rows]
    assert len(line(page)) == 7 and 'data-act="stop-all"' not in shown, "this page only shows"


def test_what_runs_stays_in_view_and_the_place_is_told(page, fake):
    first = submit(page)
    page.backend.queue.claim()
    updates = page.stage.generate(filled(page))
    assert updates[page.stage.focus] == first.id and "number 2 in the queue, done at about" in message(page, updates)


def test_ends_add_up_along_the_line_and_pauses_have_none(page, fake):
    jobs = [submit(page) for _ in range(3)]
    whole = page.backend.plan(jobs[0].settings)["seconds_total"]
    schedule = Schedule(page.backend, clock=lambda: 1000.0)
    assert [round(end - 1000, 6) for end in schedule.ends(jobs)] == [round(whole * n, 6) for n in (1, 2, 3)]
    paused = replace(jobs[1], state=JobState.PAUSED)
    ends = schedule.ends([jobs[0], paused, jobs[2]])
    assert ends[1] is None and round(ends[2] - 1000, 6) == round(2 * whole, 6)
    page.backend.queue.set_option(HELD, "1")
    assert schedule.ends(jobs) == [None] * 3


def test_a_finished_video_is_varied_and_its_frame_taken(page, fake, tmp_path):
    player = fake.play()
    job = submit(page, num_frames=17, height=64, width=64)
    while page.backend.queue.get(job.id).state in (JobState.QUEUED, JobState.RUNNING):
        player.join(0.02)
    player.end()
    mine = {page.stage.focus: job.id, page.create.language: "en"}
    page.stage.more_seeds(mine)
    assert len({one.settings.seed for one in page.backend.queue.list()}) == 5
    updates = page.events.frames.given(filled(page), SimpleNamespace(id=job.id, frame="3"))
    assert updates[page.create.picture_size] == "64x64" and "Frame 4" in updates[page.create.message]
    for frame in ("99999", "-1", "x", ""):
        said = page.events.frames.given(filled(page), SimpleNamespace(id=job.id, frame=frame))
        assert "no longer here" in said[page.create.message]
    assert (
        "no longer here"
        in page.events.frames.given(filled(page), SimpleNamespace(id="../x", frame="1"))[page.create.message]
    )
    waiting = page.backend.queue.in_order()[0]
    finish(page, waiting, tmp_path)
    said = page.events.frames.given(filled(page), SimpleNamespace(id=waiting.id, frame="1"))
    assert "made.mp4" in said[page.create.message], "a file that is no video is a sentence"


def test_a_failed_row_says_why_with_a_button_that_does_what_would_help(page, fake):
    """For each kind of error the first button; what it asks for happens; guests and old failures have none."""
    panel, queue, mine = page.stage.queue, page.backend.queue, {page.stage.focus: "", page.create.language: "en"}
    wanted = {
        "disk_full": "space",
        "model_missing": "models",
        "out_of_memory": "edit",
        "image_large": "edit",
        "number_range": "edit",
        "device_absent": "resume",
        "unexpected": "resume",
    }
    found = {}
    for code in wanted:
        job = submit(page, prompt=f"a boat <b>{code}")
        queue.claim()
        queue.record(job.id, Failed(code, {}, f"why: <i>{code}"))
        rows = panel.look("", "en")[panel.rows]
        mine_alone = rows[rows.index(f'data-id="{job.id}"') :].split("</li>")[0]
        assert f"why: &lt;i&gt;{code}" in mine_alone and "<i>" not in mine_alone, code
        found[code] = re.search(r'class="help" data-act="(\w+)"', mine_alone)[1]
    assert found == wanted and rows.count("entry failed") == SHOWN
    updates = panel.edit(mine, SimpleNamespace(id=job.id))
    assert updates[page.create.fields["prompt"]]["value"] == job.settings.prompt and panel.editing not in updates
    assert "why: " in updates[page.create.message]
    before = panel.stamp()
    click(page, "resume", job.id)
    assert line(page) == [job.id] and panel.stamp() != before
    with asking(Right.WATCH):
        assert "entry failed" in (rows := panel.look("", "zh")[panel.rows]) and 'class="help"' not in rows
    late = queue.clock.now() + SHOWN_SECONDS + 1
    failed = queue.list((JobState.FAILED,))
    assert failed_jobs(SimpleNamespace(clock=SimpleNamespace(now=lambda: late)), failed) == []
