"""Sentences for users, in both languages; events as plain data."""

import ast
import json
import re
import string
from dataclasses import fields
from pathlib import Path

import pytest

from studio import errors, events
from studio.errors import Cancelled, InputError, StudioError
from studio.messages import MESSAGES, message

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [ROOT / "app.py", *sorted((ROOT / "studio").rglob("*.py"))]
KINDS = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, StudioError)}


def placeholders(text: str) -> set[tuple[str, str | None, str | None]]:
    return {part[1:] for part in string.Formatter().parse(text) if part[1] is not None}


@pytest.mark.parametrize("code", MESSAGES)
def test_both_languages_say_the_same_values(code: str) -> None:
    english, chinese = MESSAGES[code]
    assert placeholders(english) == placeholders(chinese)
    assert re.search("[\\u4e00-\\u9fff]", chinese) and not re.search("[\\u4e00-\\u9fff]", english)
    assert english[0].isupper() or english[0] == "{" or english.startswith(("num_frames", "ffmpeg"))


def raised() -> list[tuple[str, str, set[str] | None]]:
    """(where, code, names of the values or None where they are passed on) of every error made in the program."""
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or not node.args:
                continue
            code = node.args[0]
            if node.func.id in KINDS and isinstance(code, ast.Constant) and isinstance(code.value, str):
                names = {keyword.arg for keyword in node.keywords}
                found.append((f"{path.name}:{node.lineno}", code.value, None if None in names else names))
    return found


def test_every_error_has_a_sentence_and_gives_it_its_values() -> None:
    assert len(raised()) > 40
    for where, code, names in raised():
        assert code in MESSAGES, f"{where}: no sentence for {code}"
        needed = {name for name, _, _ in placeholders(MESSAGES[code][0])}
        assert names is None or needed <= names, f"{where}: {code} lacks {needed - names}"


def test_every_sentence_is_used() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES if path.name != "messages.py")
    used = {code for _, code, _ in raised()} | set(re.findall(r'"([a-z_]+)"', text)) | {"cancelled"}
    assert set(MESSAGES) <= used, f"nothing says {set(MESSAGES) - used}"


def test_an_error_speaks_and_knows_its_exit_code() -> None:
    error = InputError("number_range", field="seed", value=-1, low=0, high=5)
    assert str(error) == "seed is -1, it must lie between 0 and 5."
    assert message(error.code, error.values, "zh") == "seed 为 -1，必须在 0 到 5 之间。"
    assert (StudioError("ffmpeg_missing").exit_code, error.exit_code, Cancelled().exit_code) == (1, 2, 130)


def test_a_value_may_have_a_text_for_each_language() -> None:
    error = StudioError("no_plan", reason={"en": "Use less.", "zh": "请减少。"})
    assert str(error) == "This video does not fit. Use less."
    assert message(error.code, json.loads(json.dumps(error.values)), "zh") == "该视频超出内存预算。请减少。"


EVENTS = [
    events.PhaseStarted("denoise"),
    events.Progress("denoise", 1, 4, 0.5, None, 3, 4),
    events.Preview(2, "preview.webp"),
    events.Notice("text_cut", {"encoder": "clip", "limit": 77, "cut": 3}, "clip reads 77 tokens"),
    events.Finished("/out/a.mp4", 7, {"denoise": 1.0}, 1, 2),
    events.Failed("write_failed", {"file": "a", "reason": "b"}, "a could not be written: b."),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_events_survive_json(event: events.Event) -> None:
    assert events.from_dict(json.loads(json.dumps(events.to_dict(event)))) == event


def test_every_event_has_its_own_kind() -> None:
    assert {type(event) for event in EVENTS} == set(events._KINDS.values())
    assert all("event" not in {field.name for field in fields(type(event))} for event in EVENTS)
    with pytest.raises(KeyError):
        events.from_dict({"event": "Unknown"})
