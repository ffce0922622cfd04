"""`chat` against a toy server with OpenAI's protocol: what is sent, what is shown, each failure a sentence."""

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

import app
from studio import chat
from studio.errors import StudioError
from tests.audio.clips import make_clip
from tests.toy_chat import Toy, toy_chat


@pytest.fixture
def toy() -> Iterator[Toy]:
    with toy_chat() as server:
        yield server


def test_a_prompt_is_expanded_and_lines_fit_the_clip(
    toy: Toy, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    toy.text = "<think>hm\nhm</think>\nA grey cat\x1b[2J sleeps\non a roof.\n"
    assert app.main(["chat", "a cat", "--chat-url", f"{toy.url}/v1/"]) == 0
    assert capsys.readouterr().out == "A grey cat [2J sleeps on a roof.\n"
    (path, _), (chat_path, asked) = toy.requests
    assert (path, chat_path) == ("/v1/models", "/v1/chat/completions")
    assert asked["model"] == "toy-8b" and asked["messages"][1] == {"role": "user", "content": "a cat"}

    clip = make_clip(tmp_path / "clip.mp4", 50)
    toy.text = "Here you are:\n0: -It's a $(cat).\n- [1.2 s]: 再见。\n1：好\n7: too late"
    toy.requests.clear()
    words = ["chat", "calm", "--clip", str(clip), "--chat-url", toy.url, "--chat-model", "mine"]
    assert app.main(words) == 0
    told = capsys.readouterr()
    flags = ["--say=-It's a $(cat).", "--at", "0", "--say=再见。", "--at", "1.2", "--say=好", "--at", "1"]
    assert shlex.split(told.out) == flags, "as a shell reads it"
    assert told.err == "Not a line: Here you are:\nNot a line: 7: too late\n"
    ((_, asked),) = toy.requests
    assert asked["model"] == "mine" and "2 seconds long" in asked["messages"][0]["content"]


def test_every_failure_is_a_sentence_and_nothing_goes_elsewhere(toy: Toy, capsys: pytest.CaptureFixture[str]) -> None:
    other = Toy()
    raws = [
        ((302, b"", {"Location": f"http://127.0.0.1:{other.server_address[1]}/"}), "it answered 302"),
        ((401, b"no", {}), "it answered 401 Unauthorized"),
        ((200, b"<html>", {}), "Expecting value"),
        ((200, b"[" * 100_000, {}), "("),
        ((200, b" " * (chat.ANSWER_BYTES + 1), {}), "longer than 1 MB"),
        ((200, b'{"choices": []}', {}), "its answer holds no text"),
    ]
    cases = [(toy.url, "a", raw, 1, sentence) for raw, sentence in raws]
    for url in (
        "file:///etc/passwd",
        "http://",
        "127.0.0.1:80",
        "http://a:b@c",
        "http://[",
        "http://x:99999",
        "http://a b",
    ):
        cases.append((url, "a", None, 2, "is no address of a chat server"))
    cases.append((toy.url, " ", None, 2, "has 1 characters"))
    cases.append((toy.url, "x" * 2001, None, 2, "has 2001 characters"))
    cases.append((f"http://127.0.0.1:{other.server_address[1]}/gone", "a", None, 1, "gave nothing"))
    other.server_close()
    wrong = []
    for url, text, raw, code, sentence in cases:
        toy.raw = raw
        found, said = app.main(["chat", text, "--chat-url", url, "--chat-model", "m"]), capsys.readouterr().err
        if found != code or sentence not in said:
            wrong.append(f"{url} {raw and raw[1][:20]}: {found} {said}")
    toy.raw = (200, b'{"data": []}', {})
    assert app.main(["chat", "a", "--chat-url", toy.url]) == 1 and "it lists no model" in capsys.readouterr().err
    assert not wrong, "\n".join(wrong)
    assert not other.requests
    toy.raw, toy.text = None, "later"
    slow = chat.Chat(toy.url, "m", clock=iter([0.0, 1e9]).__next__)
    with pytest.raises(StudioError, match="took more than 300 seconds"):
        slow.expand("a")
