"""What a person does to the queue: order, pauses, copies and edits."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from studio import filenames
from studio.errors import InputError, StudioError
from studio.events import Notice, Progress
from studio.queue import verbs
from studio.queue.job import FINISHED_EARLY, STOPPED, WAITING, Job, JobState, Request
from studio.queue.jobs import JobQueue
from studio.queue.order import Where
from studio.wildcards import expand
from tests.queue.filling import line, submit
from tests.queue.test_jobs import SETTINGS, finished, picture

ROOT = Path(__file__).resolve().parents[2]


def test_a_job_goes_where_it_is_put(queue: JobQueue) -> None:
    a, b, c, d = submit(queue, 4)
    assert verbs.move(queue, d, Where.FIRST) and line(queue) == [d, a, b, c]
    assert verbs.move(queue, d, Where.LAST) and line(queue) == [a, b, c, d]
    assert verbs.move(queue, a, Where.AFTER, c) and line(queue) == [b, c, a, d]
    assert verbs.move(queue, d, Where.BEFORE, c) and line(queue) == [b, d, c, a]
    assert not verbs.move(queue, a, Where.BEFORE, a) and not verbs.move(queue, a, Where.AFTER, "gone")
    assert queue.claim().id == b and not verbs.move(queue, b, Where.LAST) and not verbs.move(queue, a, Where.BEFORE, b)
    assert verbs.move(queue, a, Where.AFTER, b) and line(queue) == [b, a, d, c], "behind what runs is first"
    assert queue.in_order(2, 1) == queue.in_order()[1:3]
    assert [queue.claim().id for _ in range(3)] == [a, d, c]


def test_there_is_always_room_between_two(queue: JobQueue, tmp_path: Path) -> None:
    """A thousand moves to one place, far beyond what halving the gap between two numbers gives."""
    a, b, c = submit(queue, 3)
    for turn in range(120):
        moved = (b, c)[turn % 2]
        assert verbs.move(queue, moved, Where.AFTER, a) and line(queue)[:2] == [a, moved]
    copies = verbs.duplicate(queue, a, range(50))
    assert line(queue) == [a, *(job.id for job in copies), *((c, b) if moved == c else (b, c))]
    before = line(queue)
    queue.close()
    (queue.folder / "queue.sqlite").unlink()
    assert line(queue) == [] and all(queue.resume(job.id) for job in queue.list()), "what waited waits for a person"
    assert line(queue) == before, "the copies in the folders know the order, too"


def test_what_is_asked_of_a_running_job_decides_what_becomes_of_it(queue: JobQueue) -> None:
    for ask, state, first in (
        (queue.cancel, JobState.CANCELLED, False),
        (lambda id: verbs.pause(queue, id), JobState.PAUSED, True),
        (lambda id: verbs.skip(queue, id), JobState.QUEUED, False),
        (lambda id: queue.cancel(id) and queue.resume(id), JobState.QUEUED, True),
    ):
        runs, waits = submit(queue, 2)
        assert queue.claim().id == runs
        queue.record(runs, Progress("denoise", 3, 4, 1.0))
        assert ask(runs) and queue.get(runs).state == JobState.RUNNING
        assert queue.stopped(runs) == state and not queue.stopped(runs)
        job = queue.get(runs)
        assert (job.state, job.request, job.progress.step) == (state, Request.NONE, 3)
        assert (job.ended is not None) == (state == JobState.CANCELLED)
        if state in WAITING:
            assert line(queue) == ([runs, waits] if first else [waits, runs])
        for id in (runs, waits):
            queue.delete(id)


def test_a_paused_job_is_passed_over_and_goes_on_at_its_place(queue: JobQueue) -> None:
    a, b, c = submit(queue, 3)
    assert verbs.pause(queue, a) and not verbs.pause(queue, a) and queue.get(a).resumable
    assert queue.claim().id == b and line(queue) == [b, a, c]
    assert queue.resume(a) and [queue.claim().id, queue.claim().id] == [a, c]
    assert not verbs.pause(queue, "gone") and not verbs.skip(queue, "gone") and not verbs.finish_now(queue, "gone")


def test_the_whole_queue_pauses_and_goes_on_where_it_was(queue: JobQueue) -> None:
    a, b = submit(queue, 2)
    queue.claim()
    version = queue.version()
    assert verbs.hold(queue) and queue.version() > version and queue.request(a) == Request.HOLD
    assert queue.stopped(a) == JobState.QUEUED and queue.claim() is None
    assert not verbs.hold(queue) and line(queue) == [a, b]
    assert JobQueue(queue.folder).claim() is None, "also in another process"
    assert verbs.let_go_on(queue) and not verbs.let_go_on(queue) and queue.claim().id == a
    verbs.hold(queue)
    verbs.let_go_on(queue)
    assert queue.request(a) == Request.NONE and queue.get(a).state == JobState.RUNNING, "it had not stopped yet"


def test_a_wish_to_decode_outlives_a_stop(queue: JobQueue) -> None:
    """Of a running job that is to end with what it has, or one that decodes its saved latents, whatever stops it."""
    (decodes,) = submit(queue, 1)
    (queue.get(decodes).folder / filenames.LATENTS).write_bytes(b"at step 3")
    verbs.pause(queue, decodes)
    assert verbs.decode_saved(queue, decodes) and verbs.pause(queue, decodes) and queue.resume(decodes)
    assert queue.claim().request == Request.DECODE, "paused while it waited"
    queue.cancel(decodes)
    assert queue.stopped(decodes) == JobState.CANCELLED
    assert queue.resume(decodes) and queue.claim().request == Request.NONE, "who cancels it wants none of it"
    assert verbs.finish_now(queue, decodes)
    again = {
        Request.HOLD: (lambda: verbs.hold(queue), lambda: verbs.let_go_on(queue)),
        Request.PAUSE: (lambda: verbs.pause(queue, decodes), lambda: queue.resume(decodes)),
        Request.SKIP: (lambda: verbs.skip(queue, decodes), lambda: True),
        Request.EDIT: (lambda: verbs.take_back(queue, decodes), lambda: queue.resume(decodes)),
    }
    for asked, (stop, go_on) in again.items():
        assert queue.get(decodes).request == Request.FINISH
        if asked == Request.EDIT:  # of one that waits
            queue.stopped(decodes)
            assert stop() and queue.get(decodes).request == asked
        else:
            assert stop() and queue.request(decodes) == queue.get(decodes).request == asked
            assert queue.get(decodes).stopping
            queue.stopped(decodes)
        assert go_on() and queue.claim().id == decodes
    for stop, withdraw in ((verbs.hold, verbs.let_go_on), (verbs.pause, lambda queue: queue.resume(decodes))):
        stop(queue, *([decodes] if stop is verbs.pause else []))
        assert queue.get(decodes).stopping and withdraw(queue)
        assert queue.request(decodes) == Request.FINISH, "it had not stopped yet"
    for stop, state in ((queue.cancel, JobState.CANCELLED), (lambda id: verbs.pause(queue, id), JobState.PAUSED)):
        stop(decodes)
        assert verbs.hold(queue) and queue.stopped(decodes) == state, "a pause of all is less than what is asked of one"
        assert verbs.let_go_on(queue) and queue.resume(decodes) and queue.claim().id == decodes


def test_stop_all_stops_all(queue: JobQueue) -> None:
    a, b, c = submit(queue, 3)
    queue.claim()
    verbs.pause(queue, c)
    assert verbs.stop_all(queue) == 3 and queue.request(a) == Request.CANCEL
    assert queue.stopped(a) == JobState.CANCELLED and line(queue) == []
    assert {queue.get(id).state for id in (b, c)} == {JobState.CANCELLED} and verbs.stop_all(queue) == 0
    assert all(queue.resume(id) for id in (c, a, b)) and line(queue) == [a, b, c]


def test_copies_stand_behind_the_job_with_its_picture_and_their_seeds(queue: JobQueue) -> None:
    data = picture()
    first = queue.submit(replace(SETTINGS, first_image="x"), data)
    second = queue.submit(SETTINGS)
    copies = verbs.duplicate(queue, first.id, [11, 12])
    assert line(queue) == [first.id, copies[0].id, copies[1].id, second.id]
    assert [job.settings.seed for job in copies] == [11, 12]
    for job in copies:
        assert Path(job.settings.first_image).parent == job.folder
        assert Path(job.settings.first_image).read_bytes() == data
        assert Image.open(job.folder / filenames.THUMBNAIL).size == (64, 64)
    queue.claim()
    (last,) = verbs.duplicate(queue, first.id, [13])
    assert line(queue)[-1] == last.id, "of one that does not wait they go to the end"
    assert verbs.duplicate(queue, "gone", [1]) == [] == verbs.duplicate(queue, first.id, [])
    Path(first.settings.first_image).unlink()
    with pytest.raises(InputError, match="cannot be read"):
        verbs.duplicate(queue, first.id, [1])
    drawn = queue.submit(replace(SETTINGS, prompt="a red cat", prompt_template="a {red|blue} __animal__"))
    lists = {"animal": ("cat", "dog")}
    copies = verbs.duplicate(queue, drawn.id, range(9), lambda: lists)
    assert [job.settings.prompt for job in copies] == [expand("a {red|blue} __animal__", n, lists) for n in range(9)]
    assert len({job.settings.prompt for job in copies}) > 2
    with pytest.raises(InputError, match="__animal__"):
        verbs.duplicate(queue, drawn.id, [1])


def test_copies_are_all_made_or_none(queue: JobQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    job, write = queue.submit(SETTINGS), JobQueue.write_copy
    calls = []

    def full_at_the_third(self: JobQueue, row: object) -> None:
        calls.append(row)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        write(self, row)

    monkeypatch.setattr(JobQueue, "write_copy", full_at_the_third)
    with pytest.raises(StudioError, match="No space left"):
        verbs.duplicate(queue, job.id, range(5))
    assert line(queue) == [job.id] and [path.name for path in queue.folder.glob("jobs/*")] == [job.id]


def test_an_edited_job_keeps_its_place_and_changes_whole(queue: JobQueue) -> None:
    a = queue.submit(replace(SETTINGS, first_image="x"), picture(seed=1))
    b = queue.submit(SETTINGS)
    assert verbs.take_back(queue, a.id) and queue.get(a.id).request == Request.EDIT
    assert queue.claim().id == b.id, "it does not run while it is in the form"
    for name in (filenames.LATENTS, filenames.PREVIEW):
        (a.folder / name).write_bytes(b"old")
    changed = verbs.put_back(queue, a.id, replace(SETTINGS, prompt="another", first_image="x"), picture(seed=2))
    assert (changed.id, changed.position, changed.created) == (a.id, a.position, a.created)
    assert changed.state == JobState.QUEUED and changed.settings.prompt == "another"
    assert Path(changed.settings.first_image).read_bytes() == picture(seed=2)
    left = {path.name for path in a.folder.iterdir()}
    assert left == {"job.json", "first_image-2", filenames.THUMBNAIL}
    again = verbs.put_back(queue, a.id, replace(SETTINGS, prompt="words alone"))
    assert again.settings.first_image is None and {path.name for path in a.folder.iterdir()} == {"job.json"}
    with pytest.raises(InputError):
        verbs.put_back(queue, a.id, SETTINGS, b"no picture")
    assert queue.get(a.id) == again
    assert queue.claim().id == a.id and verbs.put_back(queue, a.id, SETTINGS) is None
    assert not verbs.take_back(queue, a.id) and not verbs.take_back(queue, "gone")


def test_an_edit_that_changes_nothing_keeps_the_work(queue: JobQueue) -> None:
    job = queue.submit(SETTINGS)
    (job.folder / filenames.LATENTS).write_bytes(b"half done")
    verbs.take_back(queue, job.id)
    verbs.put_back(queue, job.id, SETTINGS)
    assert (job.folder / filenames.LATENTS).read_bytes() == b"half done"


def test_a_picture_with_a_foreign_name_is_no_job(queue: JobQueue) -> None:
    job = queue.submit(SETTINGS)
    copy = job.folder / "job.json"
    queue.close()
    (queue.folder / "queue.sqlite").unlink()
    evil = replace(SETTINGS, first_image="../../../etc/passwd").to_json().replace('"', '\\"')
    copy.write_text(copy.read_text().replace(SETTINGS.to_json().replace('"', '\\"'), evil))
    assert queue.count() == 0


def early(queue: JobQueue, folder: Path) -> Job:
    """A job that was finished after step 3 of 4, with its latents."""
    job = queue.submit(SETTINGS)
    queue.claim()
    (job.folder / filenames.LATENTS).write_bytes(b"at step 3")
    queue.record(job.id, Notice(FINISHED_EARLY, {"step": 3, "steps": 4}, "finished early"))
    queue.record(job.id, finished(folder / "a.mp4"))
    return queue.get(job.id)


def test_a_video_finished_early_keeps_its_latents_and_goes_on_as_another(queue: JobQueue, tmp_path: Path) -> None:
    job = early(queue, tmp_path)
    assert job.finished_early.values == {"step": 3, "steps": 4} and verbs.saved_latents(job)
    whole = verbs.go_on(queue, job.id)
    assert whole.settings == job.settings and (whole.folder / filenames.LATENTS).read_bytes() == b"at step 3"
    assert queue.claim().request == Request.NONE and verbs.go_on(queue, "gone") is None
    assert verbs.go_on(queue, queue.submit(SETTINGS).id) is None, "it has none"


def test_saved_latents_are_decoded_by_the_job_itself(queue: JobQueue) -> None:
    for state in (*STOPPED, JobState.PAUSED):
        job = queue.submit(SETTINGS)
        (job.folder / filenames.LATENTS).write_bytes(b"at step 3")
        assert not verbs.decode_saved(queue, job.id)
        queue.claim()
        queue.finish(job.id, state)
        assert verbs.decode_saved(queue, job.id)
        assert queue.claim().request == Request.DECODE and not queue.get(job.id).stopping
        queue.cancel(job.id)
        assert queue.stopped(job.id) == JobState.CANCELLED and queue.get(job.id).request == Request.NONE
        (job.folder / filenames.LATENTS).unlink()
        assert not verbs.decode_saved(queue, job.id), "it has none"
