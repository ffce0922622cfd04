"""`queue`: what waits, and everything that the page does to it, from the command line, whether the page runs or not."""

import argparse
import sys
from collections.abc import Sequence

from studio.commands.machine import studio_config
from studio.config import load_camera_moves, load_models, load_wildcards
from studio.errors import InputError
from studio.filenames import QUEUE_FOLDER
from studio.pipeline.engine import is_installed
from studio.queue.job import Job, JobState
from studio.queue.jobs import HELD, JobQueue
from studio.queue.order import Where
from studio.queue.trash import Trash
from studio.queue.worker import WORKER
from studio.service.acts import WITHOUT_JOB, Act, Order, act
from studio.service.project import Extension, extend, join_chain
from studio.settings import FPS, GenerationSettings, ResolvedSettings
from studio.wildcards import with_words_drawn

PROMPT_LETTERS = 40
SHORTEST = 4  # letters that name a job


def run(options: argparse.Namespace) -> int:
    """List the jobs, or do one act. Exit code 0: done, 1: it changed nothing."""
    config = studio_config(options)
    queue = JobQueue(config.output_dir / QUEUE_FOLDER)
    if options.act == "list":
        for line in listed(queue, everything=options.all):
            print(line)
        return 0
    if options.act in ("extend", "join"):
        return _project(queue, options)
    wanted = Act(options.act)
    id = options.job or ""
    if wanted not in WITHOUT_JOB:
        id = found(queue.list(), id)
    other = found(queue.in_order(), options.other) if getattr(options, "other", None) else ""
    where, count = Where(getattr(options, "where", Where.LAST)), getattr(options, "count", 1)
    tags = tuple(getattr(options, "tags", ()))
    order = Order(wanted, id, where, other, count, tags)
    if not act(queue, Trash(queue), order, lambda: load_wildcards(config.wildcard_dir)):
        print("Nothing changed: the job is in no state for that.", file=sys.stderr)
        return 1
    return 0


def _project(queue: JobQueue, options: argparse.Namespace) -> int:
    """`extend` and `join`."""
    config, id = studio_config(options), found(queue.list(), options.job)
    if options.act == "join":
        begin, end = _frames(options.frames)
        print(join_chain(queue, id, config.output_dir, begin, end))
        return 0
    models, moves = load_models(), load_camera_moves()

    lists = load_wildcards(config.wildcard_dir)

    def check(asked: GenerationSettings) -> ResolvedSettings:
        settings = with_words_drawn(asked, lists).resolve(models[asked.model])
        settings.check(models[asked.model], moves)
        return settings

    installed = {name: is_installed(model, config.model_dir) for name, model in models.items()}
    asked = Extension(options.count, options.prompt or "", options.hard_cut)
    for job in extend(queue, id, asked, models, installed, check):
        print(job.id)
    return 0


def _frames(text: str | None) -> tuple[int, int | None]:
    """Where the frames "A-B" begin and end, from 0 and exclusive; all of them without a text. Raises InputError."""
    if text is None:
        return 0, None
    first, _, last = text.partition("-")
    if not (first.isdecimal() and last.isdecimal() and len(text) < 20):
        raise InputError("number_invalid", field="frames", value=text[:40])
    return int(first) - 1, int(last)


def listed(queue: JobQueue, *, everything: bool = False) -> list[str]:
    """A line per job: what runs and waits in the order of running, then, with `everything`, what ended."""
    lines = ["The queue is paused; `queue go-on` lets it run."] if queue.option(HELD) else []
    unfinished = queue.in_order()
    lines += [_line(f"{place:>3}", job) for place, job in enumerate(unfinished, 1)]
    if everything:
        known = {job.id for job in unfinished}
        lines += [_line("   ", job) for job in queue.list() if job.id not in known]
    return lines or ["Nothing waits."]


def found(jobs: Sequence[Job], beginning: str) -> str:
    """The id that begins so. Raises InputError for none and for several."""
    ids = [job.id for job in jobs if job.id.startswith(beginning)] if len(beginning) >= SHORTEST else []
    if not ids:
        raise InputError("job_absent", id=beginning[:32], least=SHORTEST)
    if len(ids) > 1:
        raise InputError("job_unknown", id=beginning[:32], found=len(ids))
    return ids[0]


def _line(place: str, job: Job) -> str:
    settings, state = job.settings, str(job.state)
    if job.state == JobState.RUNNING and job.progress and job.progress.steps:
        state = f"{100 * job.progress.step // job.progress.steps} %"
    if job.state == JobState.RUNNING and job.worker not in ("", WORKER):
        state += f" {job.worker}"
    shape = f"{settings.num_frames / FPS:.1f} s {settings.width}x{settings.height}"
    words = " ".join(settings.prompt.split())
    prompt = words if len(words) <= PROMPT_LETTERS else words[: PROMPT_LETTERS - 3] + "..."
    marks = ("  *" if job.favourite else "") + "".join(f"  #{tag}" for tag in job.tags)
    return f"{place}  {job.id}  {state:<11}  {settings.model:<20}  {shape:<16}  {settings.seed:>10}  {prompt}{marks}"
