"""Every word of the page comes from strings.py, in both languages, and no word there is unused."""

import ast
import re
from pathlib import Path
from string import Formatter

import pytest

from studio.config import load_camera_moves, load_models, load_presets
from studio.queue.job import JobState
from studio.ui import form_panels
from studio.ui.gallery_tab import FILTERS
from studio.ui.markup import NAMES
from studio.ui.strings import LANGUAGES, MOVES, STRINGS, say, say_gb, say_move, say_time

ROOM = Path(__file__).resolve().parents[2] / "studio" / "ui"
SOURCES = {path.name: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(ROOM.glob("*.py"))}
# The same in both languages: names and units.
SAME = {"app.title", "receives.step_llm", "receives.clip", "receives.tokens", "size.gb"}
WORD = re.compile(r"[A-Za-z]{2,}|[\u4e00-\u9fff]")


def constants(tree):
    """Every string in the code with the parts of f-strings, docstrings apart."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docs = {id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, documented) and is_doc(node)}
    return [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in docs]


def is_doc(node):
    first = node.body[0] if node.body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)


def used_keys():
    """Every literal key, and every family of keys that code puts together ("state." + something)."""
    literal, families = set(), set()
    for name, tree in SOURCES.items():
        if name == "strings.py":
            tree = ast.Module([node for node in tree.body if isinstance(node, ast.FunctionDef)], [])
        literal |= {node.value for node in constants(tree)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr) and node.values and isinstance(node.values[0], ast.Constant):
                families.add(node.values[0].value)
    return literal, {family for family in families if re.fullmatch(r"[a-z]+\.", family)}


def test_both_languages_say_everything_with_the_same_values():
    for key, (english, chinese) in STRINGS.items():
        fields = [{field for _, field, _, _ in Formatter().parse(words) if field} for words in (english, chinese)]
        assert english.strip() and chinese.strip(), key
        assert fields[0] == fields[1] or (key, fields[0] - fields[1]) == ("camera.sent", {"gloss"}), key
        assert (english == chinese) == (key in SAME), key
        if key not in SAME and not re.fullmatch(r"[\W\d]*(\{\w+\}[\W\d]*)+", chinese):
            assert re.search("[\u4e00-\u9fff]", chinese), key


def test_every_key_is_used_and_every_used_key_is_there():
    literal, families = used_keys()
    families |= {family + "." for family in literal if re.fullmatch(r"example[a-z.]*", family)}  # numbered ones
    unused = [key for key in STRINGS if key not in literal and key.rpartition(".")[0] + "." not in families]
    assert not unused
    wanted = [f"state.{state}" for state in JobState]
    wanted += [*NAMES.values(), *FILTERS.values(), *form_panels.MOTION_TICKS.values()]
    assert set(wanted) <= set(STRINGS)


def test_keys_given_to_say_and_to_labels_exist():
    for name, tree in SOURCES.items():
        for call in [node for node in ast.walk(tree) if isinstance(node, ast.Call)]:
            called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            given = call.args[:1] if called == "say" else []
            if called in ("label", "add") and call.args:
                given = [keyword.value for keyword in call.keywords]
            for key in given:
                if isinstance(key, ast.Constant):
                    assert key.value in STRINGS, f"{name}:{call.lineno}: {key.value}"


def test_html_holds_no_words_of_its_own():
    """Whatever stands between tags in our html comes from strings.py (or is the name of the program)."""
    for name in ("markup.py", "form_panels.py", "job_panels.py", "examples_panel.py", "gallery_tab.py", "page.py"):
        for node in ast.walk(SOURCES[name]):
            if isinstance(node, ast.JoinedStr | ast.Constant):
                parts = node.values if isinstance(node, ast.JoinedStr) else [node]
                html = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)
                html = re.sub("<style>.*</style>", "", html)
                for words in re.findall(r">([^<>]*)<", html):
                    assert not WORD.search(words) or words.strip() in ("Step-Video", "Studio"), f"{name}: {words}"
                assert not re.search(r'(?:alt|title|aria-label|placeholder)="[^"{]*[A-Za-z]', html), f"{name}: {html}"


def test_components_are_built_without_words():
    """label=, placeholder=, info= and button texts are keys given to Labels, never words."""
    for name, tree in SOURCES.items():
        for call in [node for node in ast.walk(tree) if isinstance(node, ast.Call)]:
            maker = call.func
            if not (isinstance(maker, ast.Attribute) and getattr(maker.value, "id", "") == "gr"):
                continue
            for keyword in call.keywords:
                if keyword.arg in ("label", "placeholder", "info") and isinstance(keyword.value, ast.Constant):
                    raise AssertionError(f"{name}:{call.lineno}: {keyword.value.value!r}")
            if maker.attr in ("Button", "Tab", "Accordion", "Markdown") and call.args:
                assert not isinstance(call.args[0], ast.Constant), f"{name}:{call.lineno}"


def test_camera_moves_have_short_names_that_are_the_phrase():
    moves = load_camera_moves()
    assert list(MOVES) == list(moves)
    for key, move in moves.items():
        assert MOVES[key][1] in move.phrase
    assert (say_move("", "en"), say_move("orbit", "zh")) == ("None", "环绕")


def test_every_camera_move_has_its_drawing():
    drawn = set(
        re.findall(r'#camera label:has\(input\[value="([^"]*)"\]\) \{', (ROOM / "assets/moves.css").read_text())
    )
    assert drawn == {"", *load_camera_moves()}


def test_names_from_the_configs_are_in_both_languages():
    for named in [*load_models().values(), *load_presets().values()]:
        assert set(named.title) == set(LANGUAGES)
    assert all(set(model.summary) == set(LANGUAGES) for model in load_models().values())


@pytest.mark.parametrize(
    "seconds, english, chinese",
    [
        (0.4, "0 s", "0 秒"),
        (59.6, "1 min", "1 分钟"),
        (75, "1 min 15 s", "1 分 15 秒"),
        (1234, "20 min", "20 分钟"),
        (7300, "2 h 1 min", "2 小时 1 分"),
    ],
)
def test_time_is_said_as_people_do(seconds, english, chinese):
    assert (say_time(seconds, "en"), say_time(seconds, "zh")) == (english, chinese)


def test_memory_is_said_with_as_many_digits_as_matter():
    assert (say_gb(7.25, "en"), say_gb(79.6, "zh")) == ("7.2 GB", "80 GB")
    assert say("tab.create", "zh") == "创作"
