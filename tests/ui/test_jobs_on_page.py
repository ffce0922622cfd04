"""What the page shows of jobs, and what its buttons do to them; no browser here either."""

import re
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest

from studio.errors import StudioError
from studio.events import Failed, PhaseStarted
from studio.queue.job import JobState
from studio.service.acts import Act
from studio.service.folder import folder_opener
from studio.settings import GenerationSettings
from studio.ui.strings import say
from tests.queue.test_pages import fill
from tests.ui.clicks import EVIL, filled, finish, in_gallery, message, picture, submit


def test_a_new_visitor_sees_what_runs_and_a_picked_job_stays(page):
    first, second, third = (submit(page) for _ in range(3))
    page.backend.queue.claim()
    assert page.stage.look("", "en")[page.stage.focus] == first.id
    assert page.stage.focus not in page.stage.look(third.id, "en")  # chosen it stays, whatever runs
    assert "earlier in the queue: 2" in page.stage.look(third.id, "en")[page.stage.stage]
    assert page.stage.look("../../etc/passwd", "en")[page.stage.focus] == first.id
    assert second.state == JobState.QUEUED


def test_buttons_follow_the_state(page, tmp_path):
    job = submit(page)
    shown = page.stage.look(job.id, "en")
    assert shown[page.create.stop]["interactive"] and not shown[page.stage.buttons["again"]]["visible"]
    page.stage.stop({page.stage.focus: job.id, page.create.language: "en"})
    shown = page.stage.look(job.id, "en")
    assert not shown[page.create.stop]["interactive"] and shown[page.stage.buttons["resume"]]["visible"]
    page.stage.ask(Act.RESUME, {page.stage.focus: job.id, page.create.language: "en"})
    finish(page, job, tmp_path)
    shown = page.stage.look(job.id, "en")
    assert shown[page.stage.buttons["again"]]["visible"] and not shown[page.stage.buttons["resume"]]["visible"]
    assert f"studio/media/{job.id}/download" in shown[page.stage.download]["value"]


def test_stop_asks_a_running_job_to_end(page):
    job = submit(page)
    page.backend.queue.claim()
    page.stage.stop({page.stage.focus: job.id, page.create.language: "en"})
    assert page.backend.queue.get(job.id).stopping
    shown = page.stage.look(job.id, "zh")
    assert "正在停止" in shown[page.stage.stage] and not shown[page.create.stop]["interactive"]


def test_previews_are_sharp_from_one_click_to_the_other(page):
    job = submit(page)
    page.backend.queue.claim()
    for act, other in ((Act.SHARP, Act.ROUGH), (Act.ROUGH, Act.SHARP)):
        page.stage.ask(act, {page.stage.focus: job.id, page.create.language: "en"})
        shown = page.stage.look(job.id, "en")
        assert shown[page.stage.buttons[other]]["visible"] and not shown[page.stage.buttons[act]]["visible"]
    page.backend.queue.record(job.id, PhaseStarted("decode"))
    assert not page.stage.look(job.id, "en")[page.stage.buttons["sharp"]]["visible"], "the video itself comes"


def test_again_and_new_seed(page, tmp_path):
    job = page.backend.queue.submit(
        GenerationSettings("nano", "a", first_image="x", seed=5).resolve(page.backend.models["nano"]), picture()
    )
    mine = {page.stage.focus: job.id, page.create.language: "en"}
    page.stage.again(mine)
    page.stage.new_seed(mine)
    fresh, same, _ = page.backend.queue.list()
    blank = {"first_image": None, "seed": 0}
    assert replace(same.settings, first_image=None) == replace(job.settings, first_image=None)
    assert replace(fresh.settings, **blank) == replace(job.settings, **blank) and fresh.settings.seed != 5
    with open(fresh.settings.first_image, "rb") as file:
        assert file.read() == picture()
    gone = page.stage.again({page.stage.focus: "gone", page.create.language: "zh"})
    assert "已不存在" in message(page, gone)


def test_reuse_fills_the_form_with_the_picture(page):
    settings = GenerationSettings("nano", EVIL, first_image="x", motion_score=30.0, seed=2**62)
    job = page.backend.queue.submit(settings.resolve(page.backend.models["nano"]), picture())
    updates = page.stage.reuse({page.stage.focus: job.id, page.create.language: "en"})
    with open(updates[page.create.first_image]["value"], "rb") as file:
        assert file.read() == picture()
    fields = page.create.fields
    assert updates[fields["prompt"]]["value"] == EVIL and updates[fields["seed"]]["value"] == str(2**62)
    assert updates[fields["motion_score"]] | {"value": 30.0, "maximum": 30.0} == updates[fields["motion_score"]]


def test_a_page_that_does_not_own_the_queue_only_shows(page, fake):
    job = submit(page)
    fake.is_owner = False
    shown = page.stage.look(job.id, "en")
    assert not shown[page.create.stop]["interactive"] and not shown[page.stage.buttons["again"]]["visible"]
    assert "only shows" in page.system.look("en")[page.system.banner]
    assert "only shows" in message(page, page.stage.generate(filled(page)))
    mine = {page.stage.focus: job.id, page.create.language: "en"}
    page.stage.stop(mine)
    page.stage.again(mine)
    gallery = in_gallery(page, job.id)
    page.gallery.delete(gallery)
    page.gallery.resume(gallery)
    (left,) = page.backend.queue.list()
    assert left.state == JobState.QUEUED


def test_a_queue_that_takes_no_writes_is_a_sentence(page, monkeypatch):
    def fail(*_):
        raise StudioError("disk_full", folder=EVIL, free_gb=0.0, need_gb=1.0)

    failed, job = submit(page), submit(page)
    page.backend.queue.claim()
    page.backend.queue.finish(failed.id, JobState.FAILED)
    for name in ("submit", "cancel", "resume", "delete"):
        monkeypatch.setattr(page.backend.queue, name, fail)
    mine = {page.stage.focus: job.id, page.create.language: "zh"}
    gallery = in_gallery(page, failed.id, language="zh")
    told = [message(page, page.stage.generate(filled(page, language="zh")))]
    told += [
        message(page, act(mine)) for act in (page.stage.stop, partial(page.stage.ask, Act.RESUME), page.stage.again)
    ]
    told += [act(gallery)[page.gallery.message] for act in (page.gallery.delete, page.gallery.resume)]
    monkeypatch.setattr(page.backend.queue, "version", fail)
    told += [page.tick(looking(page) | mine | gallery)[page.system.banner]]
    assert all("请清理空间" in words and EVIL not in words for words in told)


def test_why_nothing_can_run_is_shown(page, fake):
    fake.trouble = Failed("checkpoint", {"reason": EVIL}, EVIL)
    banner = page.system.look("zh")[page.system.banner]
    assert "模型文件有问题" in banner and EVIL not in banner


def test_the_gallery_plays_deletes_and_resumes(page, tmp_path):
    done, failed = submit(page, prompt=EVIL), submit(page)
    path = finish(page, done, tmp_path)
    page.backend.queue.claim()
    page.backend.queue.record(failed.id, Failed("write_failed", {"file": "a", "reason": "b"}, "told then"))
    gallery = page.gallery

    def data(id, kind="all"):
        return in_gallery(page, id, kind)

    shown = gallery.pick(data(""), SimpleNamespace(id=done.id))
    assert f"studio/media/{done.id}/result" in shown[gallery.player] and EVIL not in "".join(map(str, shown.values()))
    assert shown[gallery.buttons["delete"]]["visible"] and not shown[gallery.buttons["sure"]]["visible"]
    assert failed.id not in gallery.look(data("", "finished"))[gallery.grid]
    assert done.id not in gallery.look(data("", "unfinished"))[gallery.grid]
    assert gallery.look(data(failed.id))[gallery.buttons["resume"]]["visible"]
    gallery.resume(data(failed.id))
    assert page.backend.queue.get(failed.id).state == JobState.QUEUED
    used = gallery.use(data(done.id))
    assert used[page.create.fields["prompt"]]["value"] == EVIL and used[page.tabs]["selected"] == "create"
    removed = gallery.remove(data(done.id))
    assert page.backend.queue.get(done.id) is None and not path.exists() and done.id in removed[gallery.undo]
    back = gallery.bring_back(data(""), SimpleNamespace(id=done.id))
    assert path.read_bytes() == b"video" and back[gallery.chosen] == done.id and not back[gallery.undo]
    gallery.remove(data(done.id))
    assert gallery.look(data("../x"))[gallery.chosen] == ""


def test_the_300th_of_500_videos_can_be_reached(page, tmp_path):
    fill(page.backend.queue, 500, tmp_path, JobState.CANCELLED)
    tab, newest = page.gallery, [f"{number:016x}" for number in range(500, 0, -1)]

    def shown(updates):
        return re.findall(r'data-id="(\w+)"', updates[tab.grid])

    updates, clicks = tab.look(in_gallery(page, "")), 0
    assert shown(updates) == newest[:60] and "1 to 60 of 500" in updates[tab.place]
    assert not updates[tab.newer]["visible"] and updates[tab.older]["visible"]
    while newest[299] not in shown(updates):
        updates, clicks = tab.turn_older(in_gallery(page, "", start=updates[tab.start])), clicks + 1
    assert clicks == 4 and shown(updates) == newest[240:300]
    assert shown(tab.turn_newer(in_gallery(page, "", start=updates[tab.start]))) == newest[180:240]
    end = tab.turn_older(in_gallery(page, "", start="480", language="zh"))
    assert shown(end) == newest[480:] and not end[tab.older]["visible"] and "第 481 至 500 个" in end[tab.place]
    assert tab.filtered(in_gallery(page, "", "unfinished", start="240"))[tab.start] == "0"
    starts = ("-1", "x", "9" * 30, "٣", "", None, [])
    assert {shown(tab.look(in_gallery(page, "", start=start)))[0] for start in starts} == {newest[0]}
    assert shown(tab.look(in_gallery(page, "", start="999999999"))) == newest[480:], "beyond the end is the last page"


def test_a_job_that_is_gone_is_said(page):
    """Another page may have deleted what this one still shows."""
    for id, language in (("gone", "en"), ("", "zh"), (EVIL, "en")):
        mine = {page.stage.focus: id, page.create.language: language}
        gallery = in_gallery(page, id, language=language)
        stage, tab = page.stage, page.gallery
        told = [
            message(page, act(mine))
            for act in (stage.stop, partial(stage.ask, Act.RESUME), stage.again, stage.new_seed, stage.reuse)
        ]
        answers = [act(gallery) for act in (tab.delete, tab.resume, tab.use)]
        told += [answer[tab.message] for answer in answers]
        assert all(say("gallery.gone", language) in words and EVIL not in words for words in told)
        assert all(answer[tab.chosen] == "" for answer in answers)


def looking(page):
    """What a look reads besides: nothing was seen before, but for the models that are here."""
    absent = page.create.absent
    return dict.fromkeys(page.looking, "") | {absent.seen: absent.stamp(), absent.is_open: ""}


def test_a_tick_sends_only_what_changed(page):
    job = submit(page)
    data = looking(page) | {page.stage.focus: "", page.create.language: "en"}
    data |= in_gallery(page, "")
    first = page.tick(data)
    assert first[page.stage.focus] == job.id and page.gallery.grid in first
    data |= {page.seen: first[page.seen], page.stage.focus: job.id}
    assert set(page.tick(data)) == {page.system.bar, page.system.banner}
    page.backend.queue.claim()
    began = page.tick(data)
    assert page.stage.stage in began
    page.backend.queue.record(job.id, PhaseStarted("denoise"))
    after = page.tick(data | {page.seen: began[page.seen]})
    assert page.stage.stage in after and page.gallery.grid not in after


def test_marks_of_one_and_of_several(page, fake, tmp_path):
    tab, queue = page.gallery, page.backend.queue
    a, b, c = (submit(page, prompt=prompt) for prompt in ("one", "two", "three"))
    for job in (a, b, c):
        queue.cancel(job.id)
    data = in_gallery(page, a.id)
    tab.marked_one(data, SimpleNamespace(act="star"))
    shown = tab.marked_one(data, SimpleNamespace(act="tag", tags=f"sea, {EVIL}"))
    assert queue.get(a.id).favourite and "sea, img src x onerror alert 1" in shown[tab.marks]
    assert a.id in shown[tab.grid] and b.id not in tab.filtered(in_gallery(page, a.id, "favourites"))[tab.grid]
    both = {"ids": f"{b.id} {c.id} gone"}
    tab.marked(data, SimpleNamespace(act="tag", tags="boat", **both))
    assert (queue.get(a.id).tags[0], queue.get(b.id).tags, queue.get(c.id).tags) == ("sea", ("boat",), ("boat",))
    for wrong in ("stop-all", "go-on", "", "x"):
        tab.marked(data, SimpleNamespace(act=wrong, **both))
    found = tab.searched(data, SimpleNamespace(words="boat", sort="oldest"))
    assert found[tab.grid].index(b.id) < found[tab.grid].index(c.id) and a.id not in found[tab.grid]
    removed = tab.marked(data, SimpleNamespace(act="remove", **both))
    assert [job.id for job in queue.list()] == [a.id] and f'data-id="{b.id} {c.id}"' in removed[tab.undo]
    fake.is_owner = False
    assert "check" not in tab.marked(data, SimpleNamespace(act="remove", ids=a.id))[tab.grid] and queue.get(a.id)
    fake.is_owner = True
    tab.bring_back(data, SimpleNamespace(id=f"{b.id} {c.id}"))
    assert len(queue.list()) == 3
    again = tab.remake(in_gallery(page, b.id))
    new, *_ = queue.list()
    assert (
        new.settings.prompt == "two" and new.settings.seed != 5 and queue.get(b.id) is None and b.id in again[tab.undo]
    )


def test_the_folder_is_opened_only_where_the_page_says_so(page, tmp_path):
    tab, job, opened = page.gallery, submit(page), []
    path = finish(page, job, tmp_path)
    assert not tab.look(in_gallery(page, job.id))[tab.buttons["folder"]]["visible"]
    assert "no longer" in tab.show_folder(in_gallery(page, job.id))[tab.message]
    object.__setattr__(page.backend, "show_folder", opened.append)
    try:
        assert tab.look(in_gallery(page, job.id))[tab.buttons["folder"]]["visible"]
        tab.show_folder(in_gallery(page, job.id))
        tab.show_folder(in_gallery(page, "../etc"))
    finally:
        object.__setattr__(page.backend, "show_folder", None)
    assert opened == [path.parent]


def test_no_folder_opens_where_others_may_look(tmp_path):
    program = tmp_path / "xdg-open"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    desktop = {"DISPLAY": ":0", "PATH": str(tmp_path)}
    for host, otherwise, environ, opens in (
        ("127.0.0.1", False, desktop, True),
        ("localhost", False, desktop, True),
        ("0.0.0.0", False, desktop, False),
        ("127.0.0.1", True, desktop, False),
        ("127.0.0.1", False, {"PATH": str(tmp_path)}, False),
        ("127.0.0.1", False, {"DISPLAY": ":0", "PATH": "/nowhere"}, False),
    ):
        opener = folder_opener(host, reached_otherwise=otherwise, platform="linux", environ=environ)
        assert (opener is not None) == opens, (host, otherwise, environ)
    opener = folder_opener("127.0.0.1", reached_otherwise=False, platform="linux", environ=desktop)
    program.unlink()
    with pytest.raises(StudioError, match="by hand"):
        opener(tmp_path)
