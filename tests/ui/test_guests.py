"""What guests may do is decided once, at the gate: every handler of the page, and what the page greys."""

import httpx
import pytest

from studio.service.rights import Right, asking
from studio.ui.handler_rights import MADE, WATCHED, right_of
from tests.ui.clicks import submit
from tests.ui.serving import call, finished_backend, serving

PREDICT = "/gradio_api/run/predict"
GUEST = {"X-Forwarded-For": "203.0.113.5"}  # somebody behind a proxy; this machine without it
CHANGES = {
    *{f"StagePanel.{name}" for name in ("stop", "ask")},
    *{f"QueuePanel.{name}" for name in ("acted", "edit", "leave")},
    *{f"GalleryTab.{name}" for name in ("remove", "bring_back", "marked", "marked_one", "remake", "show_folder",
                                        "delete", "resume")},
    *{f"ComparePanel.{name}" for name in ("acted", "bring_back")},
    *{f"SoundTab.{name}" for name in ("acted", "stop", "lines_asked", "draft_asked")},
    "SeriesPanel.acted", "AbsentPanel.acted", "CheckPanel.acted",
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
