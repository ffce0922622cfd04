"""What people ask of the queue, by name: the same words for the page, the command line and the HTTP API."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from studio.errors import StudioError
from studio.queue import marks, verbs
from studio.queue.job import ENDED
from studio.queue.jobs import JobQueue
from studio.queue.order import Where
from studio.queue.trash import Trash
from studio.service.rights import Right, limit, may, may_change
from studio.settings import drawn_seed
from studio.wildcards import Lists


class Act(StrEnum):
    """Those after STOP concern the whole queue and need no job."""

    MOVE = "move"  # to `where`, beside `other`
    PAUSE = "pause"  # the job keeps its place; a running one releases the device
    RESUME = "resume"  # a paused, stopped or failed job waits again
    SKIP = "skip"  # let the others go first
    FINISH = "finish"  # decode what there is after the step in work
    DECODE = "decode"  # of one that stopped: decode its saved latents
    WHOLE = "whole"  # of one finished early: a new job does the steps that were left
    COPY = "copy"  # `count` more with seeds of their own, behind it
    REMAKE = "remake"  # of one that ended: once more with another seed, and this one into the trash
    STAR = "star"  # a favourite
    UNSTAR = "unstar"
    TAG = "tag"  # `tags` instead of those it has
    REMOVE = "remove"  # into the trash
    UNDO = "undo"  # out of it; without an id the latest one
    STOP = "stop"  # end it; its latents are kept
    SHARP = "sharp"  # previews are decoded now and then
    ROUGH = "rough"  # they are not
    PAUSE_ALL = "pause-all"
    GO_ON = "go-on"
    STOP_ALL = "stop-all"


OWN = (  # what a guest may do who makes: with the jobs that he made
    *(Act.PAUSE, Act.RESUME, Act.SKIP, Act.FINISH, Act.DECODE, Act.WHOLE, Act.REMAKE),
    *(Act.STAR, Act.UNSTAR, Act.TAG, Act.REMOVE, Act.UNDO, Act.STOP),
)
WITHOUT_JOB = (Act.UNDO, Act.SHARP, Act.ROUGH, Act.PAUSE_ALL, Act.GO_ON, Act.STOP_ALL)


@dataclass(frozen=True)
class Order:
    """One act on one job. where and other: for MOVE; count: for COPY; tags: for TAG."""

    act: Act
    id: str = ""
    where: Where = Where.LAST
    other: str = ""
    count: int = 1
    tags: tuple[str, ...] = ()


def act(queue: JobQueue, trash: Trash, order: Order, lists: Callable[[], Lists] = dict) -> bool:
    """Do it; False where it changed nothing: the job is gone, or in a state for which the act has no meaning.

    Raises StudioError where who asks may not, the queue takes no writes, a job to be removed runs, or a copied job's
    picture is gone, or one of the `lists` that words of its prompt are drawn from.
    """
    id = order.id
    if not may(Right.ALL) and not (order.act in OWN and may_change(_maker(queue, trash, id))):
        raise StudioError(limit())
    doing: dict[Act, Callable[[], object]] = {
        Act.MOVE: lambda: verbs.move(queue, id, order.where, order.other),
        Act.PAUSE: lambda: verbs.pause(queue, id),
        Act.RESUME: lambda: queue.resume(id),
        Act.SKIP: lambda: verbs.skip(queue, id),
        Act.FINISH: lambda: verbs.finish_now(queue, id),
        Act.DECODE: lambda: verbs.decode_saved(queue, id),
        Act.WHOLE: lambda: _whole(queue, id),
        Act.COPY: lambda: verbs.duplicate(queue, id, [drawn_seed() for _ in range(order.count)], lists),
        Act.REMAKE: lambda: _remake(queue, trash, id, lists),
        Act.STAR: lambda: marks.set_favourite(queue, [id], True),
        Act.UNSTAR: lambda: marks.set_favourite(queue, [id], False),
        Act.TAG: lambda: marks.set_tags(queue, [id], order.tags),
        Act.REMOVE: lambda: trash.remove(id),
        Act.UNDO: lambda: trash.undo(id),
        Act.STOP: lambda: queue.cancel(id),
        Act.SHARP: lambda: verbs.set_sharp(queue, True),
        Act.ROUGH: lambda: verbs.set_sharp(queue, False),
        Act.PAUSE_ALL: lambda: verbs.hold(queue),
        Act.GO_ON: lambda: verbs.let_go_on(queue),
        Act.STOP_ALL: lambda: verbs.stop_all(queue),
    }
    return bool(doing[order.act]())


def _maker(queue: JobQueue, trash: Trash, id: str) -> str:
    """Who made a job, also one that was removed; "" where there is none such."""
    job = queue.get(id)
    return trash.maker(id) if job is None else job.maker


def _whole(queue: JobQueue, id: str) -> bool:
    """The latents of a video that went to its last step give the same one again: that is none of the act's."""
    job = queue.get(id)
    return job is not None and job.finished_early is not None and verbs.go_on(queue, id) is not None


def _remake(queue: JobQueue, trash: Trash, id: str, lists: Callable[[], Lists]) -> bool:
    """The new one is there before the old one goes: whatever goes wrong between loses nothing."""
    job = queue.get(id)
    if job is None or job.state not in ENDED:
        return False
    return bool(verbs.duplicate(queue, id, [drawn_seed()], lists)) and trash.remove(id)
