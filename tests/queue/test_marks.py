"""Favourites, tags and orders: kept with the job through everything that happens to the queue, found by a search."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from studio.queue import marks
from studio.queue.gallery import Gallery
from studio.queue.job import ENDED, Job, JobState
from studio.queue.jobs import JobQueue
from studio.queue.search import Search, Sort
from studio.queue.trash import Trash
from studio.service.acts import Act, Order, act
from tests.queue.fake_clock import FakeClock
from tests.queue.test_gallery import write_result
from tests.queue.test_jobs import SETTINGS, finished, picture


@pytest.fixture
def queue(tmp_path: Path) -> JobQueue:
    return JobQueue(tmp_path / ".queue")


def ended(queue: JobQueue, prompt: str = "a", frames: int = 17) -> Job:
    job = queue.submit(replace(SETTINGS, prompt=prompt, num_frames=frames))
    queue.cancel(job.id)
    return job


def test_marks_outlive_the_trash_and_the_database(queue: JobQueue) -> None:
    a, b, c = (ended(queue).id for _ in range(3))
    version = queue.version()
    assert marks.set_favourite(queue, [a, b, a, "gone", ""], True) == 2 and queue.version() > version
    version = queue.version()
    assert marks.set_favourite(queue, [a, b], True) == 0 and queue.version() == version, "no page has to look again"
    assert marks.set_tags(queue, [a], ["red boat", "海"]) == 1 and marks.add_tags(queue, [a, b], ["sea", "海"]) == 2
    before = queue.get(a)
    assert (before.favourite, before.tags, queue.get(b).tags) == (True, ("red boat", "海", "sea"), ("sea", "海"))
    Trash(queue).remove(a)
    assert Trash(queue).undo() == a and queue.get(a).tags == before.tags and queue.get(a).favourite
    queue.close()
    (queue.folder / "queue.sqlite").unlink()
    assert {job.id: (job.favourite, job.tags) for job in queue.list()} == {
        **{a: (True, before.tags), b: (True, ("sea", "海"))},
        **{c: (False, ())},
    }


def test_tags_are_words_whatever_is_typed() -> None:
    for typed, tags in (
        ("a,b,a", ["a", "b"]),
        ("  red   boat ，海、天;x ", ["red boat", "海", "天", "x"]),
        ("[\"x\", <b>'y'</b>] \\ %_", ["x", "b y b _"]),
        ("e\u0301", ["\u00e9"]),
        (",".join(map(str, range(99))), [str(number) for number in range(marks.MOST_TAGS)]),
        ("w" * 99, ["w" * marks.LONGEST_TAG]),
        (" , \n", []),
    ):
        assert marks.tags_of(typed) == tags
        assert marks.tags_of(", ".join(tags)) == tags


def test_favourites_and_tags_are_found(queue: JobQueue, tmp_path: Path) -> None:
    a, b, c = (ended(queue, prompt).id for prompt in ("one", "two", "three"))
    write_result(tmp_path / "other.mp4", replace(SETTINGS, prompt="sea"))
    marks.set_favourite(queue, [a, c], True)
    marks.set_tags(queue, [b, c], ["Sea", "red boat"])
    gallery = Gallery(queue, tmp_path)

    def found(words: str = "", favourites: bool = False) -> list[str | None]:
        search = Search(words, favourites)
        entries = gallery.list(search=search)
        assert gallery.count(search=search) == len(entries)
        return [entry.job and entry.job.id for entry in entries]

    assert found(favourites=True) == [c, a] and found("sea", favourites=True) == [c]
    assert sorted(map(str, found("sea"))) == sorted(map(str, [None, c, b])) and found("boat two") == [b]
    assert found('"') == found(",") == found("[") == []
    assert gallery.list([JobState.FINISHED], search=Search(favourites=True)) == []


def test_every_order_is_one_over_jobs_and_files(tmp_path: Path) -> None:
    clock, order = FakeClock(), random.Random(3)
    queue = JobQueue(tmp_path / ".queue", clock=clock)
    for number in range(9):
        job = queue.submit(replace(SETTINGS, num_frames=17 * order.randint(1, 3)))
        queue.claim()
        queue.finish(job.id, JobState.FINISHED, result=finished(tmp_path / f"job{number}.mp4"))
        other = replace(SETTINGS, num_frames=17 * order.randint(1, 3))
        write_result(tmp_path / f"{number}.mp4", other, clock.now() + order.choice((-0.5, 0.5)))
        clock.sleep(1.0)
    gallery = Gallery(queue, tmp_path)
    for sort, rank in (
        (Sort.NEWEST, lambda entry: (-entry.created,)),
        (Sort.OLDEST, lambda entry: (entry.created,)),
        (Sort.LONGEST, lambda entry: (-entry.settings.num_frames, -entry.created)),
    ):
        everything = gallery.list(search=Search(sort=sort))
        assert len(everything) == 18 and everything == sorted(everything, key=rank)
        pages = [gallery.list(ENDED, 5, start, Search(sort=sort)) for start in (0, 5, 10, 15, 20)]
        assert [entry for page in pages for entry in page] == everything


def test_made_again_the_old_one_goes(queue: JobQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    trash = Trash(queue)
    old = queue.submit(replace(SETTINGS, first_image="x"), picture())
    assert not act(queue, trash, Order(Act.REMAKE, old.id)), "it waits still"
    queue.cancel(old.id)
    assert act(queue, trash, Order(Act.REMAKE, old.id)) and not act(queue, trash, Order(Act.REMAKE, old.id))
    (new,) = queue.list()
    assert new.state == JobState.QUEUED and new.settings.seed != old.settings.seed
    assert Path(new.settings.first_image or "").read_bytes() == picture() and trash.holds(old.id)
    queue.cancel(new.id)
    Path(queue.get(new.id).settings.first_image).unlink()
    with pytest.raises(Exception, match="first_image"):
        act(queue, trash, Order(Act.REMAKE, new.id))
    assert [job.id for job in queue.list()] == [new.id], "without its picture nothing is made and nothing goes"
