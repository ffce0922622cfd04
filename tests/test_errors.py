"""Sentences for users, in both languages."""

import ast
import json
import re
import string
from collections import Counter
from pathlib import Path

from studio import errors
from studio.errors import Cancelled, InputError, StudioError
from studio.messages import MESSAGES, VALUE_LIMIT, clean, message

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [ROOT / "app.py", *sorted((ROOT / "studio").rglob("*.py"))]
KINDS = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, StudioError)}


def placeholders(text: str) -> set[tuple[str, str | None, str | None]]:
    return {part[1:] for part in string.Formatter().parse(text) if part[1] is not None}


def test_both_languages_say_the_same_values() -> None:
    wrong = []
    for code, (english, chinese) in MESSAGES.items():
        if placeholders(english) != placeholders(chinese):
            wrong.append(f"{code}: other values in Chinese")
        if re.search("[\\u4e00-\\u9fff]", english) or not re.search("[\\u4e00-\\u9fff]", chinese):
            wrong.append(f"{code}: the languages are mixed up")
        if not (english[0].isupper() or english[0] == "{" or english.startswith(("num_frames", "ffmpeg"))):
            wrong.append(f"{code}: begins like no sentence")
    assert not wrong, "\n".join(wrong)


def test_no_code_has_two_sentences() -> None:
    """The tables of the rooms are joined, and of two sentences under one code the last would speak for both."""
    found: Counter[str] = Counter()
    for path in sorted((ROOT / "studio").glob("messages*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.AnnAssign) and ast.unparse(node.target).endswith("MESSAGES"):
                dicts = [each for each in ast.walk(node) if isinstance(each, ast.Dict)]
                found.update(key.value for each in dicts for key in each.keys if isinstance(key, ast.Constant))
    assert set(found) == set(MESSAGES)
    assert [code for code, count in found.items() if count > 1] == []


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
    found, wrong = raised(), []
    for where, code, names in found:
        needed = {name for name, _, _ in placeholders(MESSAGES.get(code, ("", ""))[0])}
        if code not in MESSAGES:
            wrong.append(f"{where}: no sentence for {code}")
        elif names is not None and needed - names - {"program"}:
            wrong.append(f"{where}: {code} lacks {needed - names}")
    assert len(found) > 40 and not wrong, "\n".join(wrong)


def test_every_sentence_is_used() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES if not path.name.startswith("messages"))
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


STRANGE = (
    "a\x1b[2J\x1b]0;title\x07b",
    "a\nb\r\tc\x00",
    "a\u202egpj.exe\u2066x\u200f",
    "a\u2028b\x85c\x9b31m",
    "half \ud800 a character",
    "x" * 5000,
    "\U0001f469\u200d\U0001f680 \u3000 \u732b",
)


def test_values_from_outside_change_nothing_around_them() -> None:
    """No terminal escape, no new line, no turned direction, nothing that no file can hold; at most 200 characters."""
    wrong = []
    for text in STRANGE:
        for language in ("en", "zh"):
            said = message("file_unreadable", {"file": Path(text), "reason": text}, language)
            plain = message("file_unreadable", {"file": "", "reason": ""}, language)
            odd = [
                char
                for char in said
                if char < " " or "\x7f" <= char <= "\x9f" or char in "\u2028\u2029\u202e\u2066\u200f"
            ]
            if odd or len(said) > len(plain) + 2 * VALUE_LIMIT or said != said.encode("utf-8", "replace").decode():
                wrong.append(f"{text[:20]!r}: {said!r}")
    assert not wrong, "\n".join(wrong)


def test_a_cleaned_value_keeps_its_beginning_and_its_end() -> None:
    assert clean("/models/" + "x" * 500 + "/config.json").startswith("/models/xxx")
    assert clean("/models/" + "x" * 500 + "/config.json").endswith("x/config.json")
    assert clean("\u732b \U0001f469\u200d\U0001f680") == "\u732b \U0001f469\u200d\U0001f680"
    assert len(message("number_range", {"field": "seed", "value": 10**4000, "low": 0, "high": 1})) < 300
    sentence = "The sentence of a checkpoint may be longer. " * 10
    assert message("checkpoint", {"reason": sentence}).strip() == sentence.strip()
