"""Clips that go on from each other: which belong together, and the picture that the next one begins with."""

from pathlib import Path

from PIL import Image

from studio import filenames
from studio.errors import InputError, StudioError
from studio.media import png_bytes, read_frame
from studio.queue.database import unwritable
from studio.queue.job import Job
from studio.queue.job_files import write_picture
from studio.queue.jobs import JobQueue

LONGEST = 1000  # clips of a chain that are looked at
LAST = 2**31  # no video has so many frames: the last one is read


def chain(queue: JobQueue, id: str) -> list[Job]:
    """The clips before this one back to the first, this one, and those that follow; of several that follow one the
    newest. [] for an unknown id."""
    job = queue.get(id)
    found = [job] if job else []
    while found and found[0].source and len(found) < LONGEST and (before := queue.get(found[0].source)):
        found.insert(0, before)
    while found and len(found) < LONGEST and (after := queue.linked(source=found[-1].id)):
        found.append(after[-1])
    return found


def with_picture(queue: JobQueue, job: Job) -> Job:
    """The job, its first image written where that is the last frame of another one's video.

    Where that video is gone, a picture that the job has from an attempt before stays. Raises StudioError where it has
    none.
    """
    if not job.goes_on or job.settings.first_image is None:
        return job
    before = queue.get(job.source)
    frame = last_frame(before) if before else None
    if frame is None and Path(job.settings.first_image).is_file():
        return job
    if frame is None:
        raise StudioError("clip_before", state=before.state if before else "removed")
    try:
        write_picture(job.folder, Path(job.settings.first_image).name, png_bytes(frame), frame, job.settings)
    except OSError as error:
        raise unwritable(queue.folder, error.strerror or str(error)) from error
    return job


def last_frame(job: Job) -> Image.Image | None:
    """The last frame of a job's video, as it was decoded where the job kept it, else as the mp4 shows it."""
    path = job.result_path
    if path is None:
        return None
    kept = job.folder / filenames.LAST_FRAME
    try:
        return Image.open(kept, formats=["PNG"]).convert("RGB") if kept.is_file() else read_frame(path, LAST)
    except (OSError, InputError):
        return None
