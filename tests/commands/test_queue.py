"""`queue` as a user types it: each act changes the queue on disk, and what it cannot do is a sentence."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from studio.commands.cli import QUEUE_ACTS, main
from studio.commands.queue import found
from studio.errors import InputError
from studio.filenames import LATENTS
from studio.joining import packets_of
from studio.queue.job import JobState, Request
from studio.queue.jobs import HELD, SHARP, JobQueue
from studio.service.acts import Act
from tests.queue.test_chains import FIRST, check, make
from tests.queue.test_jobs import SETTINGS

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def queue(tmp_path: Path) -> JobQueue:
    return JobQueue(tmp_path / ".queue")


@pytest.fixture
def call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    """call("list", ...) -> (exit code, stdout, stderr)."""

    def run(*words: str) -> tuple[int, str, str]:
        code = main(["queue", "--output-dir", str(tmp_path), *words])
        out, error = capsys.readouterr()
        return code, out, error

    return run


def test_the_line_is_shown_and_moved(queue: JobQueue, call: Call) -> None:
    a, b, c = (queue.submit(replace(SETTINGS, prompt=prompt)).id for prompt in ("first", "second", "third " * 30))
    with pytest.raises(InputError, match="2 jobs have an id that begins with abcd; give more"):
        found([SimpleNamespace(id=f"abcd{end}") for end in "12"], "abcd")
    with pytest.raises(InputError, match="No job has an id that begins with abce"):
        found([SimpleNamespace(id="abcd1")], "abce")
    assert call("move", c[:8], "first")[0] == 0 and call("move", a, "after", b)[0] == 0
    queue.claim()
    code, out, _ = call("list")
    assert code == 0 and [line.split()[1] for line in out.splitlines()] == [c, b, a]
    assert "running" in out.splitlines()[0] and max(map(len, out.splitlines())) < 130
    code, _, error = call("move", a[:3], "last")
    assert code == 2 and f"No job has an id that begins with {a[:3]} (4 letters at least)" in error
    assert call("move", c, "last")[0] == 1, "what runs has no place among those that wait"


def test_clips_are_extended_and_joined(queue: JobQueue, call: Call, tmp_path: Path) -> None:
    first = queue.submit(check(FIRST))
    code, out, _ = call("extend", first.id[:8], "2", "--prompt", "it stops")
    one, two = (queue.get(id) for id in out.split())
    assert (code, one.source, two.source, two.settings.prompt) == (0, first.id, one.id, "it stops")
    code, out, _ = call("extend", two.id, "--hard-cut")
    assert code == 0 and queue.get(out.strip()).cut
    make(queue, tmp_path)
    assert call("join", first.id)[0] == 2, "there is one clip alone"
    make(queue, tmp_path)
    for words, frames in (((), 34), (("--frames", "5-20"), 16)):
        code, out, _ = call("join", first.id, *words)
        assert code == 0 and packets_of(Path(out.strip())).frames == frames
    for wrong in ("x", "0-5", "9-3", "1-99"):
        assert call("join", first.id, "--frames", wrong)[0] == 2


def test_every_act_does_to_the_queue_what_it_says(queue: JobQueue, call: Call, tmp_path: Path) -> None:
    assert set(QUEUE_ACTS) == {*Act, "extend", "join"}
    runs, waits = queue.submit(SETTINGS).id, queue.submit(SETTINGS).id
    queue.claim()
    for words, request in (("finish", Request.FINISH), ("skip", Request.SKIP), ("pause", Request.PAUSE)):
        assert call(words, runs)[0] == 0 and queue.request(runs) == request
    for words, state in (("pause", JobState.PAUSED), ("resume", JobState.QUEUED), ("stop", JobState.CANCELLED)):
        assert call(words, waits)[0] == 0 and queue.get(waits).state == state
    assert call("decode", waits)[0] == 1, "it has no latents"
    (queue.get(waits).folder / LATENTS).write_bytes(b"at step 3")
    assert call("decode", waits)[0] == 0 and queue.get(waits).request == Request.DECODE
    assert call("copy", waits, "3")[0] == 0 and len({job.settings.seed for job in queue.in_order()[2:]}) == 3
    assert call("star", waits)[0] == 0 and call("tag", waits, "red, boat", "sea")[0] == 0
    assert call("list")[1].splitlines()[1].endswith("  *  #red  #boat  #sea") and call("star", waits)[0] == 1
    assert call("unstar", waits)[0] == 0 and call("tag", waits)[0] == 0 and queue.get(waits).tags == ()
    assert call("remake", runs)[0] == 1, "only what ended is made again in its place"
    assert call("remove", waits)[0] == 0 and queue.get(waits) is None
    assert call("undo")[0] == 0 and queue.get(waits) is not None and call("undo")[0] == 1
    assert call("remove", runs)[0] == 1 or queue.get(runs), "what runs stays"
    assert call("whole", waits)[0] == 1, "it has no latents"
    assert call("sharp")[0] == 0 and queue.option(SHARP) and call("sharp")[0] == 1
    assert call("rough")[0] == 0 and not queue.option(SHARP) and call("rough")[0] == 1
    assert call("pause-all")[0] == 0 and queue.option(HELD) and "queue is paused" in call("list")[1]
    assert call("go-on")[0] == 0 and not queue.option(HELD)
    assert call("stop-all")[0] == 0 and queue.count([JobState.CANCELLED]) == 4
    assert queue.request(runs) == Request.CANCEL and waits in call("list", "--all")[1]
