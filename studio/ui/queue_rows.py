"""The line of jobs as html: what runs, what waits, when each will be done, what can be done with it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from studio import filenames
from studio.queue.job import Job, JobState, Request
from studio.queue.kinds import JobKind
from studio.service.acts import Act
from studio.ui.failed_rows import failed_row
from studio.ui.job_panels import shape_words
from studio.ui.markup import media_url, text
from studio.ui.strings import say

MANY = 4  # the larger of the two numbers of copies


@dataclass(frozen=True)
class Line:
    """The jobs shown, when each ends (Unix seconds or None), how many there are, whether the queue is paused, whether
    everything may be changed, the models' titles by name and language, the ids of the jobs that may be changed, and
    jobs that failed lately."""

    jobs: Sequence[Job]
    ends: Sequence[float | None]
    count: int
    held: bool
    may_act: bool
    titles: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    mine: frozenset[str] = frozenset()
    failed: Sequence[Job] = ()

    def title(self, model: str, language: str) -> str:
        """A model's title; its name where it is no longer on the menu."""
        return self.titles.get(model, {}).get(language, model)


def queue_rows(line: Line, chosen: str, language: str, mark: str = "") -> str:
    """The whole panel; where nothing runs, waits or failed, an element without content.

    mark: attributes of the panel, for queue.js.
    """
    if not (line.jobs or line.held or line.failed):
        return f"<i hidden {mark}></i>"
    rows = "".join(
        _row(job, end, place, line, job.id == chosen, language)
        for place, (job, end) in enumerate(zip(line.jobs, line.ends, strict=True), 1)
    )
    more = line.count - len(line.jobs)
    rest = f'<p class="more">{text(say("queue.more", language, count=more))}</p>' if more > 0 else ""
    label = text(say("queue", language))
    ordered = f'<ol aria-label="{label}">{rows}</ol>' if rows else ""
    failed = "".join(failed_row(job, _thumb(job), line.may_act or job.id in line.mine, language) for job in line.failed)
    label = text(say("failed", language))
    others = f'<ul class="failures" aria-label="{label}">{failed}</ul>' if failed else ""
    return f'<div class="queue" {mark}>{_head(line, language)}{ordered}{rest}{others}</div>'


def clock(seconds: float) -> str:
    """A time of the day as this machine's clock shows it, the date with it where it is another day."""
    when, today = time.localtime(seconds), time.localtime()
    same = (when.tm_year, when.tm_yday) == (today.tm_year, today.tm_yday)
    return time.strftime("%H:%M" if same else "%m-%d %H:%M", when)


def undo_bar(id: str, prompt: str, language: str) -> str:
    """The way back of what was removed; the style sheet takes it away after ten seconds."""
    words = text(say("queue.removed", language, prompt=prompt[:60] or "…"))
    button = f'<button type="button" data-act="{Act.UNDO}" data-id="{id}">{text(say("queue.undo", language))}</button>'
    return f'<div class="undo" role="status"><span>{words}</span>{button}</div>'


def edit_bar(prompt: str, language: str) -> str:
    """That the form holds a job of the queue, and how to leave that job as it was."""
    words = text(say("queue.editing", language, prompt=prompt[:60]))
    button = f'<button type="button" data-id="leave">{text(say("queue.leave", language))}</button>'
    return f'<div class="editing" role="status"><span>{words}</span>{button}</div>'


def _head(line: Line, language: str) -> str:
    last = line.ends[-1] if line.ends else None
    known = [end for end in line.ends if end is not None]
    until = ""
    if line.held:
        until = say("queue.held", language)
    elif last is not None and len(line.jobs) == line.count:
        until = say("queue.until", language, time=clock(max(known)))
    title = f"<h2>{text(say('queue', language))} <b>{line.count}</b><small>{text(until)}</small></h2>"
    if not line.may_act or not (line.jobs or line.held):
        return f"<header>{title}</header>"
    turn = _button(Act.GO_ON, "queue.go_on", language) if line.held else _button(Act.PAUSE_ALL, "queue.hold", language)
    sure = text(say("queue.stop_all_sure", language))
    stop = _button(Act.STOP_ALL, "queue.stop_all", language, f' data-sure="{sure}"')
    return f"<header>{title}<span>{turn}{stop}</span></header>"


def _button(act: Act, key: str, language: str, extra: str = "") -> str:
    return f'<button type="button" data-act="{act}"{extra}>{text(say(key, language))}</button>'


def _row(job: Job, end: float | None, place: int, line: Line, chosen: bool, language: str) -> str:
    settings = job.settings
    kind = f"entry {job.state}" + (" chosen" if chosen else "")
    grip = '<i class="grip" aria-hidden="true"></i>'
    if line.may_act and job.state != JobState.RUNNING:
        label = text(say("queue.move", language, place=place, count=line.count))
        grip = f'<button type="button" class="grip" aria-label="{label}" title="{label}"></button>'
    maker = say("sound.kind", language) if job.sound else line.title(settings.model, language)
    words = f"{text(maker)} · {shape_words(settings, language)} · {text(settings.seed)}"
    return (
        f'<li class="{kind}" data-id="{job.id}">{grip}'
        f'<button type="button" class="what" data-act="look">{_thumb(job)}<span><b>{text(settings.prompt[:160])}</b>'
        f"<small>{words}</small></span></button>"
        f'<span class="when">{text(_when(job, end, language))}</span>{_acts(job, line, language)}</li>'
    )


def _thumb(job: Job) -> str:
    width, height = job.settings.width or 16, job.settings.height or 9
    has_picture = job.settings.first_image is not None and (job.folder / filenames.THUMBNAIL).is_file()
    inside = f'<img src="{media_url(job.id, "first")}?v={job.version}" alt="">' if has_picture else ""
    tall = "tall" if 20 * width < 27 * height else ""
    return f'<span class="shape"><i class="{tall}" style="aspect-ratio:{width}/{height}">{inside}</i></span>'


def _when(job: Job, end: float | None, language: str) -> str:
    if job.request == Request.EDIT:
        return say("queue.in_form", language)
    if job.state == JobState.PAUSED:
        return say("state.paused", language)
    if job.stopping:
        return say("stage.stopping", language)
    return say("queue.at", language, time=clock(end)) if end is not None else ""


def _acts(job: Job, line: Line, language: str) -> str:
    if not (line.may_act or job.id in line.mine):
        return ""
    paused, runs = job.state == JobState.PAUSED, job.state == JobState.RUNNING
    acts: list[tuple[str, str, str]] = []
    if runs:
        acts = [(Act.PAUSE, "queue.pause", ""), (Act.SKIP, "queue.skip", ""), (Act.STOP, "stop", "")]
    else:
        copies: list[tuple[str, str, str]] = [
            ("edit", "queue.edit", ""),
        ]
        if line.may_act:  # they stand before what others made
            copies += [
                (Act.COPY, "queue.copy", ' data-count="1"'),
                (Act.COPY, "queue.copy_many", f' data-count="{MANY}"'),
            ]
        acts = [
            *(copies if job.kind is JobKind.VIDEO else ()),
            (Act.RESUME if paused else Act.PAUSE, "queue.continue" if paused else "queue.pause", ""),
            (Act.REMOVE, "queue.remove", ""),
        ]
    buttons = ""
    for act, key, extra in acts:
        label = text(say(key, language, count=MANY))
        many = f"×{MANY}" if key == "queue.copy_many" else ""
        kind = f"act {act}{' many' if many else ''}"
        named = f'aria-label="{label}" title="{label}"'
        buttons += f'<button type="button" class="{kind}" data-act="{act}"{extra} {named}>{many}</button>'
    return f'<span class="acts">{buttons}</span>'
