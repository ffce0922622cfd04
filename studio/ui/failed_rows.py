"""Jobs that failed, under the line of jobs: each says why, with a button that does what would help."""

from collections.abc import Iterable
from enum import StrEnum

from studio.queue.job import Job
from studio.queue.jobs import JobQueue
from studio.queue.kinds import JobKind
from studio.service.acts import Act
from studio.ui.markup import sentence, text
from studio.ui.strings import say

SHOWN = 3  # at once; the gallery has all
SHOWN_SECONDS = 24 * 3600.0  # from the failure on


class Help(StrEnum):
    """What a button does: acts of the queue, or what queue.js does on the page."""

    RETRY = Act.RESUME  # it waits again, at its place and with its latents
    FORM = "edit"  # the form holds its settings, to be changed
    MODELS = "models"  # the list of models that are not here opens
    SPACE = "space"  # what the results take on disk is shown, where they can be deleted


WORDS = {
    Help.RETRY: "failed.retry",
    Help.FORM: "failed.form",
    Help.MODELS: "failed.models",
    Help.SPACE: "failed.space",
}
# Code of an error -> what would help, the best first. Others are tried again: what ended them may have passed.
HELPS = {
    **dict.fromkeys(("disk_full", "write_failed", "queue_unwritable"), (Help.SPACE, Help.RETRY)),
    **dict.fromkeys(("model_missing", "model_absent", "checkpoint", "int8_missing"), (Help.MODELS, Help.RETRY)),
    **dict.fromkeys(("model_unknown",), (Help.FORM,)),
    **dict.fromkeys(("out_of_memory", "rank_memory", "worker_killed"), (Help.FORM, Help.RETRY)),
    **dict.fromkeys(("unexpected", "worker_crashed", "worker_exited"), (Help.RETRY, Help.FORM)),
}
# The request itself cannot be made: it fails again until it is changed.
UNFIT = (
    *("no_plan", "prompt_", "number_", "size_", "frames_", "image_", "motion_", "camera_", "choice_", "speed_"),
    *("picture_", "values_", "latents_", "gpus_", "extend_", "cut_", "output_"),
)


def failed_jobs(queue: JobQueue, jobs: Iterable[Job]) -> list[Job]:
    """Of failed jobs those that the line shows: of the last day, a few."""
    since = queue.clock.now() - SHOWN_SECONDS
    return [job for job in jobs if job.error and (job.ended or 0.0) > since][:SHOWN]


def helps(job: Job) -> tuple[Help, ...]:
    """What would help a failed job, the best first. A soundtrack has no form."""
    code = job.error.code if job.error else ""
    found = HELPS.get(code, (Help.FORM,) if code.startswith(UNFIT) else (Help.RETRY,))
    if job.kind is JobKind.VIDEO:
        return found
    return tuple(help for help in found if help is not Help.FORM) or (Help.RETRY,)


def failed_row(job: Job, thumb: str, may_change: bool, language: str) -> str:
    """One failed job. thumb: its shape as html."""
    why = text(sentence(job.error, language)) if job.error else ""
    buttons = ""
    if may_change:
        buttons = "".join(
            f'<button type="button" class="help" data-act="{help}">{text(say(WORDS[help], language))}</button>'
            for help in helps(job)
        )
        label = text(say("queue.remove", language))
        named = f'aria-label="{label}" title="{label}"'
        buttons += f'<button type="button" class="act remove" data-act="{Act.REMOVE}" {named}></button>'
    words = text(job.settings.prompt[:160])
    return (
        f'<li class="entry failed" data-id="{job.id}"><button type="button" class="what" data-act="look">{thumb}'
        f'<span><b>{words}</b><small class="why">{why}</small></span></button>'
        f'<span class="acts">{buttons}</span></li>'
    )
