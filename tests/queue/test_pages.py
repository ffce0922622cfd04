"""Many jobs and many files: any page can be reached, and a page costs what is on it."""

import os
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import pytest

from studio.queue import gallery as gallery_module
from studio.queue import jobs as jobs_module
from studio.queue.database import Database
from studio.queue.gallery import Gallery
from studio.queue.job import ENDED, JobState
from studio.queue.jobs import JobQueue
from studio.queue.result_files import ResultFiles
from studio.queue.search import Search
from tests.queue.test_jobs import SETTINGS, finished

PAGE = 60
ENOUGH = 200_000  # steps of SQLite's machine: two looks through an index of 5,000, sorted, take 126,400


def fill(queue: JobQueue, number: int, folder: Path, state: JobState = JobState.FINISHED) -> None:
    """Jobs number 1 to `number` (so are their ids, in hexadecimal), made that many seconds after 1970 began."""
    job = queue.submit(SETTINGS)
    queue.claim()
    queue.finish(job.id, state, result=finished(folder / "0.mp4") if state == JobState.FINISHED else None)
    queue.close()
    with sqlite3.connect(queue.folder / "queue.sqlite") as db:
        names = [row[1] for row in db.execute("PRAGMA table_info(jobs)")]
        names = [name for name in names if name not in ("number", "id", "created", "result")]
        given = "SELECT printf('%016x', value), value, replace(result, '0.mp4', value || '.mp4')"
        numbers = f"WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < {number})"
        columns = ", ".join(names)
        db.execute(f"{numbers} INSERT INTO jobs (id, created, result, {columns}) {given}, {columns} FROM n, jobs")
        db.execute("DELETE FROM jobs WHERE id = ?", (job.id,))
    db.close()


def write(path: Path, changed: float) -> None:
    path.write_bytes(b"frames")
    path.with_suffix(".json").write_text(SETTINGS.to_json(), encoding="utf-8")
    os.utime(path.with_suffix(".json"), (changed, changed))


def settle(folder: Path) -> None:
    """As if nothing had changed in the folder for a while."""
    os.utime(folder, (time.time() - 60, time.time() - 60))


def test_every_one_of_500_videos_is_on_a_page(tmp_path: Path) -> None:
    queue, folder = JobQueue(tmp_path / ".queue"), tmp_path.resolve()
    fill(queue, 300, folder)
    for number in range(200):
        write(folder / f"other{number}.mp4", number * 1.5 + 0.25)
    gallery = Gallery(queue, folder)
    everything = gallery.list()
    assert [entry.created for entry in everything] == sorted((entry.created for entry in everything), reverse=True)
    assert len({entry.id for entry in everything}) == 500 == gallery.count()
    pages = [gallery.list(limit=PAGE, offset=offset) for offset in range(0, 540, PAGE)]
    assert [entry for page in pages for entry in page] == everything
    assert sum(entry.job is None for entry in pages[4]) not in (0, PAGE), "the 300th is on a page of both kinds"


def test_a_page_of_5000_jobs_reads_its_own_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in rows and in steps of SQLite's machine, not in seconds."""
    queue, folder = JobQueue(tmp_path / ".queue"), tmp_path.resolve()
    fill(queue, 5000, folder)
    write(folder / "other.mp4", 2500.5)
    gallery, built, asked, steps = Gallery(queue, folder), [], [], []
    gallery.count()  # where the results of 5,000 jobs lie is known from now on
    build, read = jobs_module.job_of_row, Database.read
    monkeypatch.setattr(jobs_module, "job_of_row", lambda *given: built.append(1) or build(*given))
    monkeypatch.setattr(Database, "read", lambda *given: asked.append(given[1:]) or read(*given))
    connection = queue._db._connection()
    connection.set_progress_handler(lambda: steps.append(1), 100)
    for offset in (0, 2460, 4980):
        built.clear(), asked.clear(), steps.clear()
        page = gallery.list(ENDED, PAGE, offset)
        assert len(page) == min(PAGE, 5001 - offset) and len(built) == sum(entry.job is not None for entry in page)
        assert len(asked) <= 3 and 100 * len(steps) < ENOUGH
    asked.clear(), steps.clear(), built.clear()
    assert queue.count(ENDED) == 5000 and queue.count([JobState.QUEUED]) == 0 and not queue.claim()
    assert len(queue.list(limit=12)) == 12 == len(built) and 100 * len(steps) < ENOUGH
    plans = [row["detail"] for sql, *values in asked for row in read(queue._db, f"EXPLAIN QUERY PLAN {sql}", *values)]
    assert plans and not [plan for plan in plans if plan.startswith("SCAN jobs") and "COVERING INDEX" not in plan]


def test_a_search_finds_all_of_its_words_among_jobs_and_files(tmp_path: Path) -> None:
    queue, folder = JobQueue(tmp_path / ".queue"), tmp_path.resolve()
    for prompt, seed in (("A red Boat at sunrise", 41), ("a red kite", 4711), ("雪中的红船", 7), ('100% "boat"_', 8)):
        job = queue.submit(replace(SETTINGS, prompt=prompt, seed=seed))
        queue.cancel(job.id)
    write(folder / "other.mp4", 2500.5)  # its prompt is the one of SETTINGS
    gallery = Gallery(queue, folder)

    def found(words: str) -> list[int]:
        search = Search(words)
        entries = gallery.list(search=search)
        assert len(entries) == gallery.count(search=search)
        assert [entry for start in range(5) for entry in gallery.list(ENDED, 1, start, search)] == entries
        return sorted(entry.settings.seed for entry in entries)

    own, everything = SETTINGS.seed, sorted([41, 4711, 7, 8, SETTINGS.seed])
    assert found("") == found("  ") == found(SETTINGS.model.upper()) == everything
    assert found("RED boat") == [41] and found("boat") == [8, 41] and found("红船") == [7] and found("4711") == [4711]
    assert found("%") == [8] and found('"boat"_') == [8] and found(SETTINGS.prompt) == [own]
    assert found("prompt") == [] and found("negative_prompt") == [] and found("\0") == []


def test_a_folder_without_changes_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trip").mkdir()
    for number in range(3):
        write(tmp_path / f"{number}.mp4", number)
        write(tmp_path / "trip" / f"{number}.mp4", number + 0.5)
    settle(tmp_path / "trip")
    settle(tmp_path)
    queue = JobQueue(tmp_path.parent / "queue")
    gallery, scanned, scan, opened = Gallery(queue, tmp_path), [], os.scandir, []
    read = gallery_module.read_metadata_file
    monkeypatch.setattr(gallery_module, "read_metadata_file", lambda path: opened.append(1) or read(path))
    monkeypatch.setattr(os, "scandir", lambda folder: scanned.append(Path(folder).name) or scan(folder))
    first = gallery.list()
    assert len(first) == 6 == len(opened) and scanned == [tmp_path.name, "trip"]
    assert gallery.list() == first and len(opened) == 6 and len(scanned) == 2
    assert [gallery.get(entry.id) for entry in first] == first and len(scanned) == 2
    write(tmp_path / "trip" / "new.mp4", 99)
    assert [entry.path.name for entry in gallery.list(limit=1)] == ["new.mp4"]
    assert scanned[2:] == ["trip"] and len(opened) == 7
    gallery.list()
    assert scanned[3:] == ["trip"], "two changes at one time could be missed: a young folder is read again"


def test_a_folder_that_cannot_be_read_holds_nothing(tmp_path: Path) -> None:
    files = ResultFiles(tmp_path / "gone")
    assert files.newest_first() == []
    (tmp_path / "gone").mkdir()
    write(tmp_path / "gone" / "a.mp4", 1.0)
    assert [file.path.name for file in files.newest_first()] == ["a.mp4"]


def test_the_number_ahead_follows_the_order_of_running(tmp_path: Path) -> None:
    queue = JobQueue(tmp_path)
    jobs = [queue.submit(replace(SETTINGS, seed=seed)) for seed in range(5)]
    assert [queue.ahead(job.id) for job in jobs] == [0, 1, 2, 3, 4] and queue.ahead("gone") == 0
    queue.claim()
    queue.cancel(jobs[1].id)
    assert [queue.ahead(job.id) for job in jobs] == [0, 0, 1, 2, 3]
    queue.close()
    with sqlite3.connect(tmp_path / "queue.sqlite") as db:  # the last one is put before the third
        db.execute("UPDATE jobs SET position = ? WHERE id = ?", (jobs[2].position - 0.001, jobs[4].id))
    db.close()
    assert [queue.ahead(job.id) for job in (jobs[4], jobs[2], jobs[3])] == [1, 2, 3]
    assert [queue.claim().id for _ in range(3)] == [jobs[4].id, jobs[2].id, jobs[3].id]
    assert [job.id for job in queue.list()] == [job.id for job in reversed(jobs)], "a list is by the time of asking"
