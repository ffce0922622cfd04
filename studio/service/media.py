"""Files of jobs, results and examples by id. An id is looked up and never made into a path."""

from pathlib import Path

from studio.embedded import carried_picture
from studio.examples import MOTION, motion_thumbnail, thumbnail
from studio.filenames import LAST_FRAME, THUMBNAIL, beside
from studio.queue.disk import LATENTS_BESIDE
from studio.queue.frames import FrameWish
from studio.queue.gallery import Entry
from studio.queue.kinds import JobKind
from studio.queue.verbs import saved_latents
from studio.service.backend import Backend


def find_media(backend: Backend, id: str, kind: str) -> Path | None:
    """The file behind an id, None where there is none; it may be gone from the disk.

    kind: "result", "download", "poster", "preview" or "first" (the first image as it is used: pixel for pixel where the
    result keeps it, before that small); of an example a language; of examples.MOTION a motion score.
    """
    if id == MOTION:
        return motion_thumbnail(kind)
    if example := backend.examples.get(id):
        return thumbnail(example, kind) if kind in example.prompt else None
    job = backend.queue.get(id)
    if job and kind == "preview":
        return job.preview
    if job and kind == "first":
        exact = beside(Path(job.result.path), ".first.png") if job.result else None
        return exact if exact is not None and exact.is_file() else job.folder / THUMBNAIL
    if job and job.result:
        path = Path(job.result.path)
        return {"result": path, "download": path, "poster": beside(path, ".jpg")}.get(kind)
    entry = backend.gallery.get(id)
    if entry is None:
        return None
    first = Path(entry.settings.first_image) if entry.settings.first_image else None  # beside the result, see Gallery
    return {"result": entry.path, "download": entry.path, "poster": entry.poster, "first": first}.get(kind)


def first_image(backend: Backend, id: str) -> bytes | None:
    """The picture a job or result started from: as it was uploaded, where the job has it or the video carries it, else
    as it was cropped. None for text alone, or where the picture is gone.
    """
    found = backend.queue.get(id) or backend.gallery.get(id)
    if found is None:
        return None
    path = Path(found.settings.first_image) if found.settings.first_image else None
    video = found.path if isinstance(found, Entry) else found.result_path
    gone = path is not None and not path.is_file()  # of a result that no job knows the cropped one alone lies there
    if video is not None and (isinstance(found, Entry) or gone):
        if inside := carried_picture(video, backend.config.upload_limit_mb << 20):
            return inside
    return path.read_bytes() if path and path.is_file() else None


def frame_wish(backend: Backend, id: str, frame: int) -> FrameWish | None:
    """What a worker is asked for, to decode a frame of a result from its latents; None where they are not kept, or are
    not those of the whole video.

    frame: counted from 0 in the video as it is played.
    """
    job, entry = backend.queue.get(id), backend.gallery.get(id)
    if job is None:
        latents = beside(entry.path, LATENTS_BESIDE) if entry is not None and entry.path is not None else None
    else:
        latents = saved_latents(job) if job.is_whole and job.kind is JobKind.VIDEO else None
    if latents is None or not latents.is_file():
        return None
    return FrameWish(latents, frame + 1, job is not None and job.goes_on)


def exact_frame(backend: Backend, id: str, frame: int) -> bytes | None:
    """A frame of a job's video as a png of the decoded pixels, where they are kept: those of the last frame are.

    frame: counted from 0 in the video as it is played.
    """
    job = backend.queue.get(id)
    kept = job.folder / LAST_FRAME if job is not None else None
    if job is None or kept is None or not kept.is_file():
        return None
    last = job.settings.num_frames - 1 - (job.goes_on and job.settings.num_frames > 1)  # its first one is not shown
    return kept.read_bytes() if frame == last else None
