"""Keys: made and revoked on the command line, known to a running page at once, counted by their rates."""

import json
import stat
from pathlib import Path

import pytest

from studio.api.keys import KEYS_FILE, Keys, Scope
from studio.commands.cli import main
from studio.errors import InputError, StudioError
from studio.filenames import QUEUE_FOLDER
from tests.queue.fake_clock import FakeClock


def test_the_command_makes_lists_and_revokes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--output-dir", str(tmp_path)]
    page = Keys(tmp_path / QUEUE_FOLDER / KEYS_FILE)
    assert main(["key", "list", *place]) == 0 and page.check("anything") is None
    capsys.readouterr()
    assert main(["key", "new", "robot", *place]) == 0
    write = capsys.readouterr().out.strip()
    assert main(["key", "new", "watcher", "--scope", "read", "--rate", "7", *place]) == 0
    read = capsys.readouterr().out.strip()
    assert (found := page.check(write)) and found.scopes == {"read", "write"} and found.user == "robot"
    assert (found := page.check(read)) and found.scopes == {"read"}
    file = tmp_path / QUEUE_FOLDER / KEYS_FILE
    assert write not in file.read_text() and read not in file.read_text() and stat.S_IMODE(file.stat().st_mode) == 0o600
    assert main(["key", "list", *place]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in listed] == [["robot", "write", "120"], ["watcher", "read", "7"]]
    assert main(["key", "revoke", "robot", *place]) == 0
    assert page.check(write) is None and page.check(read) is not None
    for words, said in ((["revoke", "robot"], "no key named 'robot'; the keys are: watcher"),
                        (["new", "watcher"], "a key named watcher already"), (["new", "a b"], "1 to 64 letters"),
                        (["new", "c", "--rate", "-1"], "rate is -1")):  # fmt: skip
        capsys.readouterr()
        assert main(["key", *words, *place]) == 2 and said in capsys.readouterr().err


def test_a_rate_lets_a_minutes_requests_in_and_then_tells_how_long_to_wait(tmp_path: Path) -> None:
    clock = FakeClock()
    keys = Keys(tmp_path / KEYS_FILE, clock.monotonic)
    text, other = keys.new("robot", Scope.WRITE, 60), keys.new("other", Scope.WRITE, 1)
    assert [keys.check(text).wait for _ in range(60)] == [0.0] * 60
    assert keys.check(text).wait == pytest.approx(1.0) and keys.check(other).wait == 0.0
    clock.seconds = 0.75
    assert keys.check(text).wait == pytest.approx(0.25)
    clock.seconds = 1.5
    assert [keys.check(text).wait for _ in range(2)] == [0.0, pytest.approx(0.5)]
    clock.seconds = 10_000.0
    assert [keys.check(text).wait == 0.0 for _ in range(61)] == [True] * 60 + [False]


def test_a_broken_file_opens_nothing_and_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = Keys(tmp_path / KEYS_FILE)
    text = keys.new("robot", Scope.WRITE, 60)
    whole = json.loads((tmp_path / KEYS_FILE).read_text())
    entry = whole["keys"][0]
    changes = [{"scope": "all"}, {"rate": 0}, {"rate": "60"}, {"name": 5}, {"sha256": None}, {"x": 1}]
    broken = ["", "[]", "{", '{"keys": [5]}', *(json.dumps({"keys": [entry | change]}) for change in changes)]
    for content in broken:
        (tmp_path / KEYS_FILE).write_text(content)
        caplog.clear()
        assert keys.check(text) is None and "cannot be read" in caplog.text, content
        with pytest.raises(StudioError, match="no key opens anything"):
            keys.new("another", Scope.READ, 1)
    (tmp_path / KEYS_FILE).write_text(json.dumps(whole))
    assert keys.check(text) is not None


def test_names_and_rates_have_limits(tmp_path: Path) -> None:
    keys = Keys(tmp_path / KEYS_FILE)
    for name, rate in (("", 1), ("a/b", 1), ("x" * 65, 1), ("a", 0), ("a", 100_001)):
        with pytest.raises(InputError):
            keys.new(name, Scope.READ, rate)
    assert keys.entries() == []
