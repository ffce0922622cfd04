"""Calls of the page's handlers as no browser sends them are refused; whatever a browser may send gets an answer."""

import inspect
import json
import logging
import math

import gradio as gr
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.ui.calls import call_check
from studio.ui.page import Page
from studio.ui.parts import kind_of
from tests.ui.clicks import EVIL, filled, in_gallery, picture, submit
from tests.ui.conftest import ALL
from tests.ui.fake_backend import FakeBackend
from tests.ui.serving import call, finished_backend, serving

PREDICT = "/gradio_api/run/predict"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    fake, _ = finished_backend(tmp_path_factory.mktemp("called"))
    with serving(fake) as page:
        yield page


@pytest.fixture(scope="module")
def check(served):
    return call_check(served.page, served.uploads)


@pytest.fixture(scope="module")
def calls(served):
    """A sound call of every handler, by its number."""
    return {index: call(served, index) for index in served.page.fns}


def forged(sound):
    """Bodies made of a sound call, each wrong in one way."""
    yield from (b"", b"{", b"[]", b"null", b"[" * 100_000, b'{"data": ' * 5000, b"\xff\xfe", b'"x"', b"1e999")
    changes = [{"fn_index": value} for value in (None, -1, 10**6, 10**30, 1.0, "0", True, [], {}, math.nan)]
    changes += [
        {"data": value} for value in (None, {}, "x", [*sound["data"], 1], sound["data"][1:] + [1, 1], [[]] * 99)
    ]
    changes += [{"session_hash": value} for value in ("", "a b", "../x", "x" * 65, 1, [], {}, "\ud800")]
    changes += [{"event_data": value} for value in (1, "\ud800", [], True)]
    changes += [{"trigger_id": value} for value in ("x", 1.5, [], True)]
    changes += [{name: 1} for name in ("event_id", "oauth_token", "simple_format", "batched", "request", EVIL)]
    yield from (json.dumps(sound | change).encode() for change in changes)
    outside = [{"path": path, "meta": {"_type": "gradio.FileData"}} for path in ("/etc/passwd", "", "x", 1, None, "\0")]
    for at in range(len(sound["data"])):
        for wrong in (
            [],
            [1],
            math.nan,
            math.inf,
            10**400,
            "\ud800",
            {"a": [1]},
            {"\ud800": 1, "b": "\ud800"},
            *outside,
        ):
            yield json.dumps(sound | {"data": [*sound["data"][:at], wrong, *sound["data"][at + 1 :]]}).encode()


def test_a_forged_call_is_none_of_this_page(check, calls, served):
    named = [index for index, function in served.page.fns.items() if function.api_visibility == "public"]
    assert [index for index, sound in calls.items() if check(json.dumps(sound).encode())] == named and len(named) == 3
    bodies = [(served.page.fns[index].name, body) for index, sound in calls.items() for body in forged(sound)]
    typed = [sound | {"event_data": "what a text field holds"} for sound in calls.values()]
    assert [index for index, sound in zip(calls, typed, strict=True) if check(json.dumps(sound).encode())] == named
    passed = [(name, body[:300]) for name, body in bodies if check(body) is None]
    assert [found for found in passed if found[0] != "open"] == [] and len(bodies) > 5000
    assert all(b"path" in body for _, body in passed), (
        "what a browser kept may be any plain values, read by form.restored"
    )


def test_a_refused_call_is_one_line_and_no_traceback(served, calls, caplog, capfd):
    sound = max(calls.values(), key=lambda found: len(found["data"]))
    bodies = list(forged(sound))[:80]
    with caplog.at_level(logging.WARNING), httpx.Client(base_url=served.url, timeout=30) as client:
        answers = [client.post(PREDICT, content=body) for body in bodies]
        assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(422, "call_unknown")}
        assert client.post(PREDICT, json=sound).status_code == 200
    assert len(caplog.records) == len(bodies)
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_handler_takes_uploads_only(served, calls):
    """What a client says of a file is believed only if the file lies among the uploads."""
    with httpx.Client(base_url=served.url, timeout=30) as client:
        path = client.post("/gradio_api/upload", files={"files": ("a.png", b"no picture")}).json()[0]
        (index,) = [number for number, fn in served.page.fns.items() if fn.name == "picture_given"]
        names = [part.elem_id for part in served.page.fns[index].inputs]
        queue = served.uploads.folder.parent / "queue.sqlite"
        for named, status, words in (
            (path, 200, "cannot be read"),
            (path + "x", 200, "no longer here"),
            ("/etc/passwd", 422, "call_unknown"),
            (str(queue), 422, "call_unknown"),
            (f"{path}/../../../queue.sqlite", 422, "call_unknown"),
        ):
            data = list(calls[index]["data"])
            data[names.index("first-image")] = named
            answer = client.post(PREDICT, json=calls[index] | {"data": data})
            assert answer.status_code == status and words in answer.text, (named, answer.text[:300])


TEXTS = st.sampled_from(
    ["", "nano", "en", "x" * 3000, EVIL, "0", "17", "-1", "64x64", "9x9", "1e300", "NaN", "orbit", "all", "finished"]
    + ["../../etc/passwd", "\0", "٣", "a\n\u2028b", "9" * 30 + "x1", "gone", "step-video-ti2v", "60x90", "a|b|c"]
) | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NUMBERS = st.sampled_from([0, -1, 1.5, 17, 204, 1e300, -1e300, 5e-324, 2**53, 10**22]) | st.floats(-1e9, 1e9)
PLAIN = st.none() | st.booleans() | TEXTS | NUMBERS
KEPT = st.dictionaries(st.sampled_from(["model", "prompt", "size", "seed", "camera_move", "infer_steps", "x"]), PLAIN)


def values_of(part, page):
    """Whatever calls.py lets through as the value of a component."""
    if part is page.language:
        return st.sampled_from(["en", "zh"])
    if kind_of(part) == "file":
        paths = [page.create.uploads.keep(data, "f") for data in (picture(), EVIL.encode(), b'{"model": "nano"}')]
        paths += [page.create.uploads.folder / "gone", page.create.uploads.folder]
        return st.none() | st.sampled_from(["", *map(str, paths)])
    if kind_of(part) == "number":
        return st.sampled_from([None, ""]) | NUMBERS
    if kind_of(part) == "choice":
        return st.none() | NUMBERS | TEXTS
    if isinstance(part, gr.BrowserState):
        return PLAIN | KEPT
    return st.none() | TEXTS


@pytest.fixture(scope="module")
def wired(tmp_path_factory):
    """(page, its handlers, an id of a job)."""
    fake = FakeBackend(tmp_path_factory.mktemp("wired"), installed=ALL)
    with gr.Blocks() as blocks:
        made = Page(fake.backend, fake.uploads)
        made.wire(blocks)
    return made, list(blocks.fns.values()), submit(made).id


def answers(wired, data):
    """No handler raises for values of the right kind, however senseless: it says what is wrong, or does nothing."""
    page, handlers, job = wired
    handler = data.draw(st.sampled_from(handlers))
    sound = filled(page, data.draw(st.sampled_from(sorted(page.backend.models))), image=data.draw(IMAGES))
    sound |= in_gallery(page, job) | {page.stage.focus: job, page.seen: ""}
    senseless = data.draw(st.sets(st.sampled_from(sorted(handler.inputs, key=id)))) if handler.inputs else set()
    given = {
        part: data.draw(values_of(part, page)) if part in senseless else sound.get(part) for part in handler.inputs
    }
    arguments = [given] if handler.inputs_as_dict else list(given.values())
    if "event" in inspect.signature(handler.fn).parameters:
        names = ["id", "score", "act", "where", "count", "frame", "words", "ids", "tags", "sort", "subject"]
        said = data.draw(TEXTS | st.dictionaries(st.sampled_from(names), PLAIN))
        arguments.append(gr.EventData(None, said))
    answer = handler.fn(*arguments)
    assert answer and set(answer) <= set(handler.outputs), "gradio takes an empty answer for a broken one"


IMAGES = st.sampled_from([None, picture(), EVIL.encode()])


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_whatever_a_browser_may_send_gets_an_answer(wired, data):
    answers(wired, data)


@pytest.mark.slow
@settings(deadline=None, max_examples=5000)
@given(st.data())
def test_whatever_many_browsers_may_send_gets_an_answer(wired, data):
    answers(wired, data)
