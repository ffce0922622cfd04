"""Every word of the page comes from strings.py, in both languages, and no word there is unused."""

import ast
import re
from pathlib import Path
from string import Formatter

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


def calls():
    """(file, call) of every call in the room."""
    return [(name, node) for name, tree in SOURCES.items() for node in ast.walk(tree) if isinstance(node, ast.Call)]


def used_keys():
    """Every literal key, and every family of keys that code puts together ("state." + something)."""
    literal, families = set(), set()
    for name, tree in SOURCES.items():
        if name.startswith("strings"):
            tree = ast.Module([node for node in tree.body if isinstance(node, ast.FunctionDef)], [])
        literal |= {node.value for node in constants(tree)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr) and node.values and isinstance(node.values[0], ast.Constant):
                families.add(node.values[0].value)
    return literal, {family for family in families if re.fullmatch(r"[a-z.]+\.", family)}


def test_both_languages_say_everything_with_the_same_values():
    wrong = []
    for key, (english, chinese) in STRINGS.items():
        fields = [{field for _, field, _, _ in Formatter().parse(words) if field} for words in (english, chinese)]
        only_values = re.fullmatch(r"[\W\d]*(\{\w+\}[\W\d]*)+", chinese)
        sound = (
            bool(english.strip() and chinese.strip())
            and (fields[0] == fields[1] or (key, fields[0] - fields[1]) == ("camera.sent", {"gloss"}))
            and (english == chinese) == (key in SAME)
            and (key in SAME or only_values or re.search("[\u4e00-\u9fff]", chinese))
        )
        wrong += [] if sound else [key]
    assert wrong == []


def test_every_key_is_used_and_every_used_key_is_there():
    literal, families = used_keys()
    families |= {family + "." for family in literal if re.fullmatch(r"example[a-z.]*", family)}  # numbered ones
    unused = [key for key in STRINGS if key not in literal and key.rpartition(".")[0] + "." not in families]
    assert not unused
    wanted = [f"state.{state}" for state in JobState]
    wanted += [*NAMES.values(), *FILTERS.values(), *form_panels.MOTION_TICKS.values()]
    assert set(wanted) <= set(STRINGS)


def test_keys_given_to_say_and_to_labels_exist():
    unknown = []
    for name, call in calls():
        called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        given = call.args[:1] if called == "say" else []
        if called in ("label", "add") and call.args:
            given = [keyword.value for keyword in call.keywords]
        keys = [key.value for key in given if isinstance(key, ast.Constant)]
        unknown += [f"{name}:{call.lineno}: {key}" for key in keys if key not in STRINGS]
    assert unknown == []


def test_html_holds_no_words_of_its_own():
    """Whatever stands between tags in our html comes from strings.py (or is the name of the program)."""
    found = []
    for name, tree in SOURCES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr | ast.Constant):
                parts = node.values if isinstance(node, ast.JoinedStr) else [node]
                html = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)
                html = re.sub("<style>.*</style>", "", html)
                words = [text for text in re.findall(r">([^<>]*)<", html) if WORD.search(text)]
                words += re.findall(r'(?:alt|title|aria-label|placeholder)="[^"{]*[A-Za-z][^"]*"', html)
                found += [f"{name}: {text}" for text in words if text.strip() not in ("Step-Video", "Studio")]
    assert found == []


def test_components_are_built_without_words():
    """label=, placeholder=, info= and button texts are keys given to Labels, never words."""
    found = []
    for name, call in calls():
        maker = call.func
        if isinstance(maker, ast.Attribute) and getattr(maker.value, "id", "") == "gr":
            given = [keyword.value for keyword in call.keywords if keyword.arg in ("label", "placeholder", "info")]
            given += call.args[:1] if maker.attr in ("Button", "Tab", "Accordion", "Markdown") else []
            found += [f"{name}:{call.lineno}: {words.value!r}" for words in given if isinstance(words, ast.Constant)]
    assert found == []


def test_camera_moves_have_short_names_that_are_the_phrase():
    moves = load_camera_moves()
    assert list(MOVES) == list(moves)
    assert [key for key, move in moves.items() if MOVES[key][1] not in move.phrase] == []
    assert (say_move("", "en"), say_move("orbit", "zh")) == ("None", "环绕")


def test_every_camera_move_has_its_drawing():
    drawn = set(
        re.findall(r'#camera label:has\(input\[value="([^"]*)"\]\) \{', (ROOM / "assets/moves.css").read_text())
    )
    assert drawn == {"", *load_camera_moves()}


def test_names_from_the_configs_are_in_both_languages():
    models, presets = load_models().values(), load_presets().values()
    told = [*(named.title for named in (*models, *presets)), *(model.summary for model in models)]
    assert [words for words in told if set(words) != set(LANGUAGES)] == []


def test_time_is_said_as_people_do():
    said = {seconds: (say_time(seconds, "en"), say_time(seconds, "zh")) for seconds in (0.4, 59.6, 75, 1234, 7300)}
    assert said == {
        0.4: ("0 s", "0 秒"),
        59.6: ("1 min", "1 分钟"),
        75: ("1 min 15 s", "1 分 15 秒"),
        1234: ("20 min", "20 分钟"),
        7300: ("2 h 1 min", "2 小时 1 分"),
    }


def test_memory_is_said_with_as_many_digits_as_matter():
    assert (say_gb(7.25, "en"), say_gb(79.6, "zh")) == ("7.2 GB", "80 GB")
    assert say("tab.create", "zh") == "创作"
