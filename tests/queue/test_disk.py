"""What is taken on disk is counted by kind; the oldest latents and first images go beyond their limits."""

from dataclasses import replace
from pathlib import Path

from studio import filenames
from studio.filenames import beside
from studio.queue import verbs
from studio.queue.disk import Use, disk_use, keep_within
from studio.queue.job import JobState
from studio.queue.jobs import JobQueue
from studio.queue.trash import Trash
from studio.video_writer import carry_picture
from tests.queue.test_chains import frames_of, write
from tests.queue.test_jobs import SETTINGS, finished, picture


def test_what_is_taken_is_counted_and_kept_within_limits(tmp_path: Path) -> None:
    queue, image = JobQueue(tmp_path / ".queue"), picture(20)
    made = []
    for number in range(4):
        job = queue.submit(replace(SETTINGS, seed=number), image)
        queue.claim()
        (job.folder / filenames.LATENTS).write_bytes(bytes(1000))
        path = write(tmp_path / f"{number}.mp4", frames_of(2, 0))
        if number != 1:
            carry_picture(path, image)
        queue.finish(job.id, JobState.FINISHED, result=finished(path))
        (job.folder / filenames.LATENTS).write_bytes(bytes(1000))  # as of one that was finished early
        made.append(queue.get(job.id))
    beside(made[0].result_path, ".latents.safetensors").write_bytes(bytes(50))
    videos = sum(job.result_path.stat().st_size for job in made)
    assert disk_use(queue, tmp_path) == Use(videos, 4 * len(image), 4050, 0)
    Trash(queue).remove(made[3].id)
    assert disk_use(queue, tmp_path).trash > 1000
    Trash(queue).undo(made[3].id)
    assert keep_within(queue, 4000, 4 * len(image)) == [], "nothing goes that is within"

    removed = keep_within(queue, 2500, 2 * len(image))
    assert sorted(path.parent.name for path in removed if path.name == filenames.LATENTS) == sorted(
        job.id for job in made[:2]
    ), "the oldest latents"
    gone = [path.parent.name for path in removed if path.name == filenames.FIRST_IMAGE]
    assert made[0].id in gone and made[1].id not in gone, "what no video carries stays"
    (again,) = verbs.duplicate(queue, made[0].id, [9])
    assert Path(again.settings.first_image).read_bytes() == image, "taken from the video again"


def test_a_waiting_or_running_job_loses_nothing(tmp_path: Path) -> None:
    queue = JobQueue(tmp_path / ".queue")
    jobs = [queue.submit(SETTINGS, picture()) for _ in range(2)]
    for job in jobs:
        (job.folder / filenames.LATENTS).write_bytes(bytes(1000))
    queue.claim()
    assert keep_within(queue, 0, 0) == [] and disk_use(queue, tmp_path).latents == 2000
