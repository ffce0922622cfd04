"""The user's language model on the page: its text is shown before it is used; nothing is there where none was named."""

from html import unescape
from types import SimpleNamespace

import pytest

from studio.chat import Chat
from studio.commands.cli import build_parser
from studio.service.chat_desk import ChatDesk
from studio.ui.strings import LANGUAGES, say
from tests.toy_chat import toy_chat
from tests.ui.clicks import EVIL, filled


@pytest.fixture
def toy(page):
    """A toy server that the page knows."""
    with toy_chat() as server:
        object.__setattr__(page.backend, "chat", ChatDesk(Chat(server.url)))
        yield server
        object.__setattr__(page.backend, "chat", None)


def click(page, data, act):
    return page.create.chat.acted(data, SimpleNamespace(act=act))


def test_a_prompt_is_expanded_and_shown_before_it_is_used(page, toy):
    chat, prompt = page.create.chat, page.create.fields["prompt"]
    for language in LANGUAGES:
        toy.text = f"A paper boat {EVIL}\non a pond."
        data = filled(page, prompt="a boat", language=language)
        line = page.open(language, None)[chat.panel]
        assert say("chat.expand", language) in line and toy.url.removeprefix("http://") in line
        assert f'data-busy="{say("chat.busy", language)}"' in line
        shown = click(page, data, "ask")
        assert prompt not in shown and shown[chat.written] == f"A paper boat {EVIL} on a pond."
        assert EVIL not in shown[chat.panel] and shown[chat.written] in unescape(shown[chat.panel])
        assert toy.requests.pop()[1]["messages"][1]["content"] == "a boat"
        waiting = data | {chat.written: shown[chat.written]}
        told = chat.show(waiting[chat.written], language)  # as after a change of the language
        assert told[chat.written] == shown[chat.written] and say("chat.use", language) in told[chat.panel]
        used = click(page, waiting, "use")
        assert used[prompt]["value"] == shown[chat.written] and used[chat.written] == ""
        left = click(page, waiting, "leave")
        assert prompt not in left and left[chat.written] == "" and "chat-written" not in left[chat.panel]
        assert prompt not in click(page, data, "use"), "nothing was written"
        toy.raw = (500, b"", {})
        first, second = (click(page, data, "ask")[chat.panel] for _ in range(2))
        assert "alert bad" in first and "500" in first and first != second, "drawn anew, so that it can be asked again"
        assert "2001" in click(page, filled(page, prompt="x" * 2001, language=language), "ask")[chat.panel]
        toy.raw = None


def test_nothing_is_asked_where_no_server_was_named(page):
    chat, data = page.create.chat, filled(page, prompt="a boat")
    for act in ("ask", "use", "leave", EVIL):
        assert click(page, data | {chat.written: "written"}, act) == {chat.panel: "", chat.written: ""}
    assert page.open("en", None)[chat.panel] == ""
    assert build_parser().parse_args([]).chat_url is None, "and none is named unless somebody does"
    named = build_parser().parse_args(["--chat-url", "http://a:1", "--chat-model", "m"])
    assert (named.command, named.chat_url, named.chat_model) == (None, "http://a:1", "m")


def test_a_second_question_waits_for_no_answer(toy):
    desk = ChatDesk(Chat(toy.url))
    told = []

    class Slow(Chat):
        def expand(self, prompt):
            with pytest.raises(Exception, match="still writing") as failure:
                desk.lines("idea", 2.0)
            told.append(failure.value.code)
            return "done"

    desk._chat = Slow(toy.url)
    assert desk.expand("a") == "done" and told == ["chat_busy"]
    desk._chat = Chat(toy.url)
    assert desk.expand("a") == "A cat.", "free again"
