"""What a person does to jobs that wait or run, besides asking, cancelling, resuming (jobs.py), removing (trash.py).

Each verb does one transaction and returns whether it changed anything: an unknown id, or a job in a state that the
verb has no meaning for, changes nothing.
"""

import re
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from studio import filenames
from studio.embedded import carried_picture
from studio.errors import InputError
from studio.media import read_image
from studio.queue import order
from studio.queue.asked import ASKED, CANCEL, KEPT, beside_kept
from studio.queue.database import unwritable
from studio.queue.job import STOPPED, STOPS, WAITING, Job, JobState, Link, Request, key
from studio.queue.job_files import write_picture
from studio.queue.jobs import HELD, SHARP, UNFINISHED, JobQueue, Rows
from studio.queue.kinds import Again, JobKind, stored
from studio.queue.order import Where
from studio.settings import ResolvedSettings
from studio.wildcards import Lists, with_seed

MOST_COPIES = 100
MOST_CARRIED = 512 * 2**20  # bytes
IS_VIDEO = f"kind = '{JobKind.VIDEO}'"


def move(queue: JobQueue, id: str, where: Where, other: str = "") -> bool:
    """Put a job that waits at an end of the queue, or beside another one that waits."""

    def work(db: sqlite3.Connection) -> Rows:
        return queue.copied(order.move(db, key(id), where, key(other)))

    return bool(queue.changed(work))


def pause(queue: JobQueue, id: str) -> bool:
    """A job that waits keeps its place and is passed over; a running one releases the device and waits so, too."""
    return bool(
        queue.turn(
            f"request = CASE state WHEN 'running' THEN {beside_kept(Request.PAUSE)} ELSE {KEPT} END, "
            "state = CASE state WHEN 'running' THEN state ELSE 'paused' END",
            "id = ? AND state IN ('running', 'queued')",
            key(id),
        )
    )


def skip(queue: JobQueue, id: str) -> bool:
    """Let the others go first: a running job stops between blocks and waits behind them, with its latents."""
    asked = queue.turn(f"request = {beside_kept(Request.SKIP)}", "id = ? AND state = 'running'", key(id))
    return bool(asked) or move(queue, id, Where.LAST)


def finish_now(queue: JobQueue, id: str) -> bool:
    """A running job decodes what it has after the step in work, and ends with a video that tells so."""
    return bool(queue.turn("request = 'finish'", f"id = ? AND state = 'running' AND {IS_VIDEO}", key(id)))


def decode_saved(queue: JobQueue, id: str) -> bool:
    """A stopped or paused job runs again to decode its saved latents, after one step more. Not one without latents."""
    job = queue.get(id)
    if job is None or saved_latents(job) is None:
        return False
    states = (*STOPPED, JobState.PAUSED)
    return bool(
        queue.turn(
            "state = 'queued', request = 'decode', ended = NULL, phase = '', error = NULL, notices = '[]'",
            f"id = ? AND state IN ({', '.join('?' * len(states))}) AND {IS_VIDEO}",
            *(key(id), *states),
        )
    )


def hold(queue: JobQueue) -> bool:
    """Pause the whole queue: nothing begins, and what runs releases the device and waits at its place, unless it is to
    stop for another reason already.
    """
    before = queue.option(HELD)
    queue.set_option(HELD, "1")
    others = ", ".join(f"'{stop}'" for stop in STOPS)
    change = f"request = {beside_kept(Request.HOLD)}"
    asked = queue.turn(change, f"state = 'running' AND {ASKED} NOT IN ({others})")
    return not before or bool(asked)


def let_go_on(queue: JobQueue) -> bool:
    """End a pause of the whole queue."""
    if not queue.option(HELD):
        return False
    queue.set_option(HELD, "")
    queue.turn(f"request = {KEPT}", f"state = 'running' AND {ASKED} = 'hold'")
    return True


def set_sharp(queue: JobQueue, sharp: bool) -> bool:
    """Whether previews of videos are decoded, now and then, or drawn roughly."""
    before = bool(queue.option(SHARP))
    if before != sharp:
        queue.set_option(SHARP, "1" if sharp else "")
    return before != sharp


def stop_all(queue: JobQueue) -> int:
    """Cancel what runs and everything that waits. Returns their number."""
    return len(queue.turn(CANCEL, UNFINISHED, queue.clock.now()))


def duplicate(queue: JobQueue, id: str, seeds: Sequence[int], lists: Callable[[], Lists] = dict) -> list[Job]:
    """The same video once more for each of the seeds, behind the job where it waits, else at the end of the queue.

    Where words of its prompt were drawn, each seed draws its own from `lists`. Raises InputError where one is gone, or
    the picture.
    """
    job = queue.get(id)
    if job is None or job.kind is not JobKind.VIDEO or not seeds:
        return []
    known = lists() if job.settings.prompt_template else {}
    wanted = [with_seed(job.settings, seed, known) for seed in seeds[:MOST_COPIES]]
    if job.goes_on:  # each from the same frame
        return [queue.submit_all([one], link=Link(source=job.source))[0] for one in wanted]
    return queue.submit_all(wanted, _picture(job), behind=job.id if job.state in WAITING else "")


def go_on(queue: JobQueue, id: str) -> Job | None:
    """A new job that goes on from the latents of a finished one; None where that one has none."""
    job = queue.get(id)
    latents = None if job is None else saved_latents(job)
    if job is None or latents is None:
        return None
    files = {filenames.LATENTS: latents}
    if job.goes_on:
        link = Link(source=job.source)
        return queue.submit_all([job.settings], files=files, link=link, again=job.again)[0]
    return queue.submit_all([job.settings], _picture(job), files=files, again=job.again)[0]


def take_back(queue: JobQueue, id: str) -> bool:
    """Hold a job that waits while a person changes it in the form; `put_back` or `resume` lets it run."""
    fits = f"id = ? AND state IN ('queued', 'paused') AND {IS_VIDEO}"
    return bool(queue.turn(f"state = 'paused', request = {beside_kept(Request.EDIT)}", fits, key(id)))


def put_back(
    queue: JobQueue, id: str, settings: ResolvedSettings, image: bytes | None = None, again: Again | None = None
) -> Job | None:
    """Give a job that waits other settings and another picture, at its place. None where it does not wait any more.

    Raises as `submit`. What it had done for the old settings is dropped. again: see Job.again.
    """
    job = queue.get(id)
    if job is None or job.state not in WAITING or job.kind is not JobKind.VIDEO:
        return None
    picture = None if image is None else read_image(image, *queue.limits)
    try:
        name = _next_name(job)
        if image is None and job.goes_on and job.settings.first_image is not None:
            name = Path(job.settings.first_image).name  # written when its turn comes
        wanted = queue.storable(settings, image is not None or job.goes_on, name)
        if image is not None and picture is not None:
            write_picture(job.folder, name, image, picture, wanted)
        rows = queue.turn(
            "state = 'queued', request = '', settings = ?, "
            "preview = NULL, progress = NULL, notices = '[]', error = NULL",
            "id = ? AND state IN ('queued', 'paused')",
            *(stored(wanted, again=again), job.id),
        )
        if rows:
            _drop(job, wanted)
    except OSError as error:
        raise unwritable(queue.folder, error.strerror or str(error)) from error
    return queue.job(rows[0]) if rows else None


def saved_latents(job: Job) -> Path | None:
    """The latents that a job has in its folder or beside its result, None where it has none."""
    places = [job.folder / filenames.LATENTS]
    if job.result:
        places.append(filenames.beside(Path(job.result.path), ".latents.safetensors"))
    return next((path for path in places if path.is_file()), None)


def _picture(job: Job) -> bytes | None:
    """The picture as it was uploaded, also where the video alone still has it. Raises InputError where it is gone."""
    if job.settings.first_image is None:
        return None
    if not Path(job.settings.first_image).is_file() and job.result_path is not None:
        if carried := carried_picture(job.result_path, MOST_CARRIED):
            return carried
    try:
        return Path(job.settings.first_image).read_bytes()
    except OSError as error:
        raise InputError("file_unreadable", file=job.settings.first_image, reason=error.strerror or "?") from None


def _next_name(job: Job) -> str:
    """Another name than the present picture's, so that the old one stays until the row names the new one."""
    names = [path.name for path in job.folder.iterdir() if filenames.PICTURE_NAME.fullmatch(path.name)]
    numbers = [int(number.group()) for name in names if (number := re.search(r"\d+$", name))]
    return f"{filenames.FIRST_IMAGE}-{max(numbers, default=1) + 1}"


def _drop(job: Job, settings: ResolvedSettings) -> None:
    """Remove what belongs to the old settings: pictures of other names, the preview, latents where they do not fit."""
    kept = {settings.first_image}
    if settings.first_image is not None:
        kept.add(filenames.THUMBNAIL)
    same = asdict(replace(settings, first_image=None)) == asdict(replace(job.settings, first_image=None))
    if same and settings.first_image is None and job.settings.first_image is None:
        kept.add(filenames.LATENTS)
    for path in job.folder.iterdir():
        own = filenames.PICTURE_NAME.fullmatch(path.name)
        if path.name not in kept and (own or path.name in (filenames.THUMBNAIL, filenames.PREVIEW, filenames.LATENTS)):
            path.unlink(missing_ok=True)
