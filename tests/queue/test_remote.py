"""A job that is made on another machine, without a network between: what is sent, and what comes back."""

import errno
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from studio import filenames
from studio.errors import Cancelled, InputError, StudioError
from studio.events import Event, Finished, Notice, PhaseStarted, Preview, Progress
from studio.filenames import LATENTS
from studio.queue.job import Job
from studio.queue.jobs import JobQueue
from studio.queue.remote import Replay, Wishes, package, serve
from studio.queue.worker import Orders, is_of
from tests.queue.test_jobs import SETTINGS, picture


class Maker:
    """A runner that reports, saves latents, looks for wishes, and leaves a video with a picture beside."""

    def __init__(self, end: Callable[[Orders], None] = lambda orders: None) -> None:
        self.end, self.seen, self.learned = end, list[Job](), list[Finished]()

    def run(self, job: Job, emit: Callable[[Event], None], orders: Orders) -> Finished:
        self.seen.append(job)
        emit(PhaseStarted("denoise"))
        old = (job.folder / LATENTS).read_bytes() if (job.folder / LATENTS).exists() else b""
        (job.folder / LATENTS).write_bytes(old + b"+3 steps")
        (job.folder / "preview.webp").write_bytes(b"a picture")
        emit(Preview(3, "preview.webp"))
        emit(Progress("denoise", 3, 8, 1.5))
        emit(Notice("text_cut", {"encoder": "clip"}, "cut"))
        self.end(orders)
        result = job.folder.parent / "there-123456.mp4"
        result.write_bytes(b"a video")
        result.with_suffix(".jpg").write_bytes(b"a poster")
        return Finished(str(result), 7, {"denoise": 1.5}, 1, 2)

    def after(self, job: Job, result: Finished) -> None:
        self.learned.append(result)

    def release(self) -> None: ...

    def aside(self, acquire: object) -> bool:
        return False

    def idle(self) -> None: ...


@pytest.fixture
def job(tmp_path: Path) -> Job:
    queue = JobQueue(tmp_path / "queue")
    queue.submit(replace(SETTINGS, first_image="x"), picture())
    return queue.claim("cluster/a/0")


def replayed(job: Job, maker: Maker, folder: Path, wishes: Wishes) -> tuple[list[Event], Finished | None]:
    """The job made in `folder` and replayed here, through bytes as on a wire."""
    told: list[Event] = []
    replay, finished = Replay(job, folder / "here" / "mine", told.append), None
    (folder / "here").mkdir(exist_ok=True)
    for message in serve(pickle.loads(pickle.dumps(package(job))), folder / "there" / "job", maker, wishes):
        finished = replay.take(pickle.loads(pickle.dumps(message))) or finished
    return told, finished


def test_a_job_goes_there_with_its_files_and_its_video_comes_back(job: Job, tmp_path: Path) -> None:
    (job.folder / LATENTS).write_bytes(b"2 steps")
    maker = Maker()
    told, finished = replayed(job, maker, tmp_path, Wishes())
    (seen,) = maker.seen
    assert seen.folder == tmp_path / "there" / "job" and seen.id == job.id
    assert replace(seen.settings, first_image=None) == replace(job.settings, first_image=None)
    assert Path(seen.settings.first_image).read_bytes() == picture()
    assert [type(event) for event in told] == [PhaseStarted, Preview, Progress, Notice]
    assert told[2] == Progress("denoise", 3, 8, 1.5) and told[3].values == {"encoder": "clip"}
    assert (job.folder / LATENTS).read_bytes() == b"2 steps+3 steps"
    assert (job.folder / "preview.webp").read_bytes() == b"a picture"
    mine = tmp_path / "here" / "mine.mp4"
    assert finished == Finished(str(mine), 7, {"denoise": 1.5}, 1, 2) and mine.read_bytes() == b"a video"
    assert mine.with_suffix(".jpg").read_bytes() == b"a poster" and len(maker.learned) == 1
    assert not list((tmp_path / "there").glob("*.*")), "nothing of it stays there"


def test_it_ends_here_as_it_ended_there(job: Job, tmp_path: Path) -> None:
    def stopped(orders: Orders) -> None:
        assert orders.stop() and not orders.finish()
        raise Cancelled

    def refused(orders: Orders) -> None:
        raise InputError("size_step", field="width", value=65, step=16, below=64, above=80)

    def broken(orders: Orders) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    wishes = Wishes()
    wishes.set("stop")
    with pytest.raises(Cancelled):
        replayed(job, Maker(stopped), tmp_path, wishes)
    assert (job.folder / LATENTS).read_bytes() == b"+3 steps", "also what was saved last"
    for end, code, words in ((refused, "size_step", "width is 65"), (broken, "unexpected", "illegal memory access")):
        with pytest.raises(StudioError, match=words) as caught:
            replayed(job, Maker(end), tmp_path, Wishes())
        assert caught.value.code == code


def test_a_result_that_finds_no_room_here_is_a_sentence(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes, *, durable: bool = False) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(filenames, "write_whole", full)
    replay = Replay(job, tmp_path / "mine", lambda event: None)
    assert replay.take(("file", LATENTS, b"3 steps")) is None, "the job goes on there"
    with pytest.raises(StudioError, match="No space left on device") as caught:
        replay.take(("result", ".mp4", b"a video"))
    assert caught.value.code == "write_failed"


def test_names_from_elsewhere_lead_nowhere_else(job: Job, tmp_path: Path) -> None:
    replay = Replay(job, tmp_path / "mine", lambda event: None)
    replay.take(("file", "../../evil", b"x"))
    replay.take(("result", "/../evil.mp4", b"x"))
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*evil*")] == [
        (job.folder / "evil").relative_to(tmp_path)
    ]


def test_the_cards_of_a_cluster_belong_to_its_worker(tmp_path: Path) -> None:
    queue = JobQueue(tmp_path / "queue")
    ids = [queue.submit(SETTINGS).id for _ in range(4)]
    names = ["cluster/10.0.0.7/0", "cluster2/a/0", "cuda:1", "cluster"]
    assert [queue.claim(name).id for name in names] == ids
    assert [is_of(name, "cluster") for name in names] == [True, False, False, True]
    assert set(queue.interrupt_running("cluster")) == {ids[0], ids[3]}
    assert queue.interrupt_running("cuda:1") == [ids[2]] and queue.interrupt_running() == [ids[1]]
