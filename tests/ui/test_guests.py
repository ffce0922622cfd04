"""What guests may do: decided at the gate for every handler of the page, for each job by who made it, and greyed."""

from types import SimpleNamespace

import httpx
import pytest

from studio.queue.job import JobState
from studio.queue.trash import Trash
from studio.service.acts import OWN, Act
from studio.service.guests import maker_of, new_token
from studio.service.rights import Right, asking
from studio.ui.handler_rights import MADE, WATCHED, right_of
from tests.ui.clicks import filled, finish, in_gallery, submit
from tests.ui.serving import call, finished_backend, serving

PREDICT = "/gradio_api/run/predict"
GUEST = {"X-Forwarded-For": "203.0.113.5"}  # somebody behind a proxy; this machine without it
CHANGES = {
    *{f"GalleryTab.{name}" for name in ("show_folder", "delete")},
    *{f"ComparePanel.{name}" for name in ("acted", "bring_back")},
    *{f"SoundTab.{name}" for name in ("acted", "stop", "lines_asked", "draft_asked")},
    "AbsentPanel.acted", "CheckPanel.acted",
    *{f"ClientApi.{name}" for name in ("submit", "status", "cancel")},  # with a key, whose scopes decide
}  # fmt: skip


@pytest.fixture(scope="module")
def backend(tmp_path_factory):
    return finished_backend(tmp_path_factory.mktemp("guests"))[0]


def test_every_handler_is_known_and_every_act_is_refused_to_those_who_may_not(backend):
    for right in (Right.WATCH, Right.MAKE):
        with serving(backend, guests=right) as served, httpx.Client(base_url=served.url, timeout=60) as client:
            handlers = {index: function.fn for index, function in served.page.fns.items()}
            names = {index: getattr(fn, "func", fn).__qualname__ for index, fn in handlers.items()}
            known = {f"{room}.{name}" for table in (WATCHED, MADE) for room, all in table.items() for name in all}
            assert set(names.values()) == known | CHANGES, "a new handler has to be placed"
            needed = {name: right_of(handlers[index]) for index, name in names.items()}
            assert {name for name in needed if needed[name] == Right.ALL} == CHANGES
            private = [index for index, one in served.page.fns.items() if one.api_visibility == "private"]
            wrong = []
            numbers = {names[index]: index for index in private}
            for name, index in numbers.items():
                if right >= needed[name] == Right.MAKE:
                    continue  # what may be done is done by other tests
                answer = client.post(PREDICT, json=call(served, index), headers=GUEST)
                refused = answer.status_code == 403 and answer.json()["code"] == f"guests_{right.name.lower()}"
                wrong += [] if refused == (needed[name] > right) else [(right, name, answer.status_code, answer.text)]
            assert wrong == []
            tick = client.post(PREDICT, json=call(served, numbers["Page.tick"]), headers=GUEST)
            assert "You are a guest" in tick.text, "the handlers know who asks"
            upload = client.post("/gradio_api/upload", files={"files": ("x.png", b"x")}, headers=GUEST)
            assert (upload.status_code == 403) == (right == Right.WATCH)
            assert client.post(PREDICT, json=call(served, numbers["StagePanel.stop"])).status_code == 200, (
                "this machine is no guest"
            )


def test_the_page_of_a_guest_is_greyed_and_says_why(page):
    job = submit(page)
    for right, makes in ((Right.WATCH, False), (Right.MAKE, True), (Right.ALL, True)):
        with asking(right):
            shown, system = page.stage.look(job.id, "en"), page.system.look("en")
        assert shown[page.create.stop]["interactive"] == (right == Right.ALL)
        assert (page.create.generate not in shown) == makes
        assert ("You are a guest" in system[page.system.banner]) == (right != Right.ALL)
        assert (' data-act="stop-all"' in shown[page.stage.queue.rows]) == (right == Right.ALL)


def test_a_guest_changes_his_own_and_nobody_elses(page, tmp_path):
    """Every act of the queue, and whatever of the gallery and the form reaches a job without one."""
    queue, panel, gallery, mine = page.backend.queue, page.stage.queue, page.gallery, {page.create.language: "en"}
    ended = submit(page)
    finish(page, ended, tmp_path)
    with asking(Right.MAKE, "one"):
        made = [submit(page).id for _ in range(3)]
    others = [*(submit(page).id for _ in range(2)), ended.id]
    assert [queue.get(id).maker for id in (*made, *others)] == ["one"] * 3 + [""] * 3
    with asking(Right.MAKE, "one"):
        before = [queue.get(id) for id in others]
        for act in Act:
            said = panel.acted({page.stage.focus: ""} | mine, SimpleNamespace(act=act, id=others[0], other=others[1]))
            assert "You are a guest" in said[page.create.message], act
        for id in (*others, made[0]):
            panel.edit(mine, SimpleNamespace(id=id))
        panel.leave({panel.editing: others[0]} | mine)
        page.stage.generate(filled(page, prompt="mine now") | {panel.editing: others[1]})
        for asked in (gallery.remove, gallery.remake, gallery.resume):
            asked(in_gallery(page, others[2]))
        for asked in (Act.STAR, Act.REMOVE):
            gallery.marked(in_gallery(page, ""), SimpleNamespace(act=asked, ids=" ".join(others)))
        page.stage.series.acted(
            {page.stage.focus: others[0]} | mine, SimpleNamespace(act="extend", count="2", prompt="", cut="false")
        )
        gallery.marked_one(in_gallery(page, others[2]), SimpleNamespace(act="star", tags=""))
        assert [queue.get(id) for id in others] == before and queue.count() == 6
        assert queue.get(made[0]).state == JobState.PAUSED, "one's own can be edited"
        rows = page.stage.look(made[0], "en")[panel.rows]
        assert (
            rows.count('class="acts"') == 3 and 'data-act="copy"' not in rows and 'class="grip" aria-label' not in rows
        )
        for act in (Act.RESUME, Act.STAR, Act.PAUSE, Act.SKIP):
            panel.acted({page.stage.focus: ""} | mine, SimpleNamespace(act=act, id=made[0]))
        assert (queue.get(made[0]).state, queue.get(made[0]).favourite) == (JobState.PAUSED, True)
        page.stage.stop({page.stage.focus: made[1]} | mine)
        assert queue.get(made[1]).state == JobState.CANCELLED
        panel.acted({page.stage.focus: ""} | mine, SimpleNamespace(act=Act.REMOVE, id=made[2]))
        assert queue.get(made[2]) is None
    with asking(Right.MAKE, "another"):
        panel.acted({page.stage.focus: ""} | mine, SimpleNamespace(act=Act.UNDO, id=made[2]))
        gallery.bring_back(in_gallery(page, ""), SimpleNamespace(id=made[2]))
        assert queue.get(made[2]) is None and Trash(queue).maker(made[2]) == "one"
    with asking(Right.MAKE, "one"):
        panel.acted({page.stage.focus: ""} | mine, SimpleNamespace(act=Act.UNDO, id=made[2]))
        assert queue.get(made[2]).maker == "one"
    with asking(Right.MAKE):  # of a browser without cookies: what it makes looks like this machine's
        panel.acted({page.stage.focus: ""} | mine, SimpleNamespace(act=Act.STOP, id=others[0]))
        assert queue.get(others[0]).state == JobState.QUEUED
    assert {Act.MOVE, Act.COPY, Act.STOP_ALL}.isdisjoint(OWN), "they concern what others made"


def test_a_browser_is_known_again_and_an_account_in_every_browser(backend):
    with serving(backend, guests=Right.MAKE) as served, httpx.Client(base_url=served.url, headers=GUEST) as client:
        cookie = client.get("/").headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and "Max-Age" in cookie
        (name,) = client.cookies
        assert "set-cookie" not in client.get("/").headers, "known"
        with httpx.Client(base_url=served.url, headers=GUEST, cookies={name: "forged"}) as forger:
            assert "set-cookie" in forger.get("/").headers
        with httpx.Client(base_url=served.url) as local:
            assert "set-cookie" not in local.get("/").headers, "this machine is no guest"
    tokens = new_token(), new_token()
    names = [maker_of(*who) for who in (("", tokens[0]), ("", tokens[1]), ("ada", tokens[0]), ("bob", ""))]
    assert len(set(names)) == 4 and maker_of("ada", tokens[1]) == names[2] and maker_of("", "x") == ""
