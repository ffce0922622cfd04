"""The page's evaluations: what may be asked, the one process that makes them, and which files of a report go out."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from studio.errors import InputError, StudioError
from studio.evals.asked import file_name, parse, read_asked
from studio.evals.blind_tests import BlindTests
from studio.evals.evaluate_routes import report_file
from studio.evals.evaluations import Evaluations, Stage
from studio.evals.progress import Progress, read_progress
from studio.evals.run import LOCK
from studio.queue.clock import CLOCK
from studio.queue.locks import FileLock
from tests.evals.test_summary import row, run

ASKED = {"source": "suite", "prompts": "nano", "recipes": ["nano", "mine"], "own": {"mine": {"model": "nano"}}}
# Stands for `evaluate`: says how far it is, and ends when it is asked to or its parent is gone.
COMMAND = """
import signal, sys
from pathlib import Path
from studio.evals.progress import Progress
folder = Path(sys.argv[sys.argv.index("--to") + 1])
if "nano-turbo" in sys.argv[sys.argv.index("--recipe") + 1]:
    sys.exit("the worker cannot start")
def end(*_):
    Progress(1, 0, 47, 1).store(folder)
    sys.exit(130)
signal.signal(signal.SIGTERM, end)
Progress(1, 0, 47, 0, 94.0, 47e6).store(folder)
sys.stdin.read()
end()
"""


@pytest.fixture
def evaluations(tmp_path: Path) -> Iterator[Evaluations]:
    made = Evaluations(tmp_path / "runs", lambda words: [sys.executable, "-c", COMMAND, *words], lambda words: 48)
    yield made
    made.close()


def until(condition: Callable[[], bool]) -> None:
    for _ in range(1200):
        if condition():
            return
        CLOCK.sleep(0.05)
    raise AssertionError("it did not come to pass")


def test_what_is_asked_is_read_strictly() -> None:
    asked = parse(ASKED | {"seeds": 2, "limit": 5, "shuffle": True}, ASKED["own"], paths=False)
    words = asked.words(Path("/r"))
    assert words[:4] == ["evaluate", "nano", "--to", "/r"] and words[4:6] == ["--recipe", "nano,mine"]
    assert words[6:] == ["--seeds", "2", "--recipes", "/r/recipes.json", "--limit", "5", "--shuffle"]
    path = {"source": "path", "prompts": "/etc/hosts.txt"}
    assert parse(ASKED | path, None, paths=True).words(Path("/r"))[1] == "/etc/hosts.txt"
    unsound = (
        path,  # of a page that others can reach
        {"source": "suite", "prompts": "/etc/passwd"},
        {"source": "text", "prompts": "/../x.txt"},
        {"recipes": "nano"},
        {"recipes": ["--to=/x"]},
        {"seeds": 0},
        {"seeds": True},
        {"limit": "5"},
        {"prompts": 5},
        {"source": ["suite"]},
    )
    taken = []
    for change in unsound:
        try:
            parse(ASKED | change, None, paths=False)
            taken.append(change)
        except InputError:
            continue
    for own in ({"--x": {}}, {"a": "nano"}, ["a"]):
        with pytest.raises(InputError):
            parse(ASKED, own, paths=False)
    assert not taken
    assert [file_name(name) for name in ("ani_V_005.PNG", "../../a b.txt", "图片 1.jpg")] == [
        "ani_V_005.png", "a-b.txt", "图片-1.jpg",
    ]  # fmt: skip
    for name in ("a.sh", ".txt", "a", "../.png"):
        with pytest.raises(InputError):
            file_name(name)


def test_one_evaluation_is_made_at_a_time_and_goes_on(evaluations: Evaluations) -> None:
    name = evaluations.create("first", ASKED, paths=False)
    until(lambda: evaluations.get(name).progress.made == 1)
    shown = evaluations.get(name)
    assert (shown.stage, shown.progress.seconds_left, shown.progress.waiting) == (Stage.RUNNING, 94.0, 47)
    assert shown.asked == read_asked(evaluations.folder / name) and shown.asked.own == ASKED["own"]
    with pytest.raises(StudioError, match="first is being made"):
        evaluations.create("", ASKED, paths=False)
    with pytest.raises(StudioError, match="first is being made"):
        evaluations.remove(name)
    assert [one.name for one in evaluations.all()] == [name], "what was refused leaves nothing"
    evaluations.stop(name)
    until(lambda: evaluations.get(name).stage == Stage.STOPPED)
    assert evaluations.get(name).progress.measured == 1
    evaluations.start(name)
    until(lambda: evaluations.get(name).progress.measured == 0)
    evaluations.close()
    assert evaluations.get(name).stage != Stage.RUNNING

    second = evaluations.create("first", ASKED | {"recipes": ["nano-turbo"]}, paths=False)
    assert second == "first-2"
    until(lambda: evaluations.get(second).stage == Stage.FAILED)
    assert evaluations.get(second).error["zh"] == "the worker cannot start"
    Progress(2, ended=True).store(evaluations.folder / name)
    assert Evaluations(evaluations.folder, list, len).get(name).stage == Stage.ENDED  # as another page sees it
    lock = FileLock(evaluations.folder / name / LOCK)
    lock.acquire()
    assert evaluations.get(name).stage == Stage.ELSEWHERE
    lock.release()
    evaluations.remove(name)
    assert [one.name for one in evaluations.all()] == [second]
    for unknown in ("none", "..", "a/b"):
        with pytest.raises(InputError):
            evaluations.get(unknown)


def test_pictures_come_one_by_one_before_the_start(evaluations: Evaluations) -> None:
    name = evaluations.create("set", ASKED | {"source": "folder", "prompts": ""}, paths=False)
    assert evaluations.get(name).stage == Stage.DRAFT
    evaluations.add_file(name, "../a.png", b"picture")
    evaluations.add_file(name, "a.txt", b"words")
    folder = evaluations.folder / name / "pictures"
    assert sorted(path.name for path in folder.iterdir()) == ["a.png", "a.txt"]
    evaluations.start(name)
    until(lambda: evaluations.get(name).progress.made == 1)
    with pytest.raises(InputError):
        evaluations.add_file(name, "b.png", b"late")


def test_progress_is_read_as_it_was_told_or_not_at_all(tmp_path: Path) -> None:
    told = Progress(1, 2, 3, 1, 4.5, 6e6, {"en": "a", "zh": "b"}, True, {"en": "c", "zh": "d"})
    told.store(tmp_path)
    assert read_progress(tmp_path) == told
    for text in ('{"made": 1}', "[]", '{"made": "x"}', (tmp_path / "progress.json").read_text().replace("4.5", '"x"')):
        (tmp_path / "progress.json").write_text(text)
        assert read_progress(tmp_path) is None


def test_of_a_report_its_own_files_alone_go_out(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    for name in ("one/index.html", "one/asked.json", "one/clips/a.mp4", "one/.queues/x.json", "one/clips/.h.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    (tmp_path / "secret.json").write_text("x")
    (folder / "one" / "clips" / "link.json").symlink_to(tmp_path / "secret.json")
    names = ("one/index.html", "one/clips/a.mp4", "one/asked.json", "one/clips/.h.json", "one/.queues/x.json",
             "one/clips/link.json", "../secret.json", "one/../secret.json", "one", "one/clips", "two/index.html",
             "one/clips/../clips/a.mp4")  # fmt: skip
    assert [name for name in names if report_file(folder, name)] == ["one/index.html", "one/clips/a.mp4"]


def test_blind_tests_compare_recipes_of_the_pages_evaluations_alone(tmp_path: Path) -> None:
    tests = BlindTests(tmp_path, tmp_path)
    for name in ("one", "two"):
        run([row(f"c{n}", recipe) for n in range(3) for recipe in "ab"], tmp_path / name).store()
    assert sorted(tests.recipes()) == [("one", "a"), ("one", "b"), ("two", "a"), ("two", "b")]
    id = tests.create(["one", "a"], ["two", "b"])
    assert tests.get(id) is tests.get(id) and id == BlindTests(tmp_path, tmp_path).create(["one", "a"], ["two", "b"])
    before = tests.get(id)
    run([row(f"c{n}", recipe) for n in range(4) for recipe in "ab"], tmp_path / "one").store()
    assert tests.get(id) is not before, "its clips are other ones now"
    for first in (["../one", "a"], ["one", "z"], "one", None, [["one"], "a"], {"one": "a"}, ["three", "a"]):
        with pytest.raises(InputError):
            tests.create(first, ["one", "b"])
    for unknown in ("", "0" * 16, "../one/../../x", "x" * 16):
        with pytest.raises(InputError):
            tests.get(unknown)
