"""Jobs that belong together as html: a chain of clips and what is done with it, a grid of variations."""

from collections.abc import Mapping, Sequence

from studio.queue.job import Job, JobState
from studio.settings import ResolvedSettings
from studio.ui.job_panels import job_card, settings_words, state_words
from studio.ui.markup import FIELDS, media_url, text
from studio.ui.strings import say, say_move

MOST_CLIPS = 8  # offered at once


def extend_part(jobs: Sequence[Job], finished: int, id: str, language: str) -> str:
    """More clips behind this one; where there are several, the chain and what makes one file of it.

    jobs: the chain; finished: how many of it, from the first on, can be joined; id: of the job one looks at.
    """
    counts = "".join(f"<option>{count}</option>" for count in range(1, MOST_CLIPS + 1))
    keys = ("prompt", "count", "cut", "cut_info")
    prompt, clips, cut, info = (text(say(f"extend.{key}", language)) for key in keys)
    form = (
        f'<div class="line"><label>{clips} <select data-field="count" aria-label="{clips}">{counts}</select></label>'
        f'<input type="text" data-field="prompt" placeholder="{prompt}" aria-label="{prompt}" autocomplete="off">'
        f'<label title="{info}"><input type="checkbox" data-field="cut"> {cut}</label>'
        f'<button type="button" data-act="extend">{text(say("extend", language))}</button></div>'
    )
    return f'<details class="series"><summary>{text(say("extend.title", language))}</summary>{form}</details>' + (
        _chain(jobs, finished, id, language) if len(jobs) > 1 else ""
    )


def _chain(jobs: Sequence[Job], finished: int, id: str, language: str) -> str:
    cards = "".join(f"<li{' class=cut' if job.cut else ''}>{job_card(job, id, language)}</li>" for job in jobs)
    join = ""
    if finished > 1:
        first, last, part = (text(say(f"join.{key}", language)) for key in ("first", "last", "part"))
        join = (
            f'<div class="line"><button type="button" data-act="join">'
            f"{text(say('join', language, count=finished))}</button>"
            f'<span class="range"><input type="number" min="1" data-field="first" aria-label="{first}">–'
            f'<input type="number" min="1" data-field="last" aria-label="{last}">'
            f'<button type="button" data-act="part">{part}</button></span></div>'
        )
    title = text(say("extend.chain", language, count=len(jobs)))
    return f'<section class="chain"><h2>{title}</h2><ol>{cards}</ol>{join}</section>'


def moves_part(moves: Sequence[str], own: str, language: str) -> str:
    """The moves as switches, and the button that makes a variation with each that is on."""
    switches = "".join(
        f'<button type="button" class="chip" data-move="{text(move)}" aria-pressed="false">'
        f"{text(say_move(move, language))}</button>"
        for move in moves
        if move != own
    )
    button = f'<button type="button" data-act="moves">{text(say("vary.moves_make", language))}</button>'
    return (
        f'<details class="series"><summary>{text(say("vary.moves", language))}</summary>'
        f'<div class="line picks">{switches}{button}</div></details>'
    )


def grid(jobs: Sequence[Job], id: str, language: str) -> str:
    """The jobs of a project, each with what is its own; finished ones play."""
    done = [job.id for job in jobs if job.state == JobState.FINISHED and job.result_path is not None]
    differing = differences([job.settings for job in jobs], language)
    tiles = "".join(_tile(job, differing[index], id, language) for index, job in enumerate(jobs))
    compare = ""
    if len(done) > 1:
        words = text(say("compare", language))
        compare = f'<button type="button" data-compare="{" ".join(done[:4])}">{words}</button>'
    title = text(say("vary.title", language, done=len(done), count=len(jobs)))
    columns = 2 if len(jobs) in (2, 4) else 3
    return (
        f'<section class="variations"><h2>{title}{compare}</h2>'
        f'<div class="tiles" style="--columns:{columns}">{tiles}</div></section>'
    )


def differences(settings: Sequence[ResolvedSettings], language: str) -> list[dict[str, str]]:
    """Of each of the settings the labels and words of what is not the same in all of them."""
    said = [settings_words(one, one.model, language) for one in settings]
    keys = {"model": "model"} | FIELDS
    own = [name for name in keys if len({words.get(name, "") for words in said}) > 1]
    return [{say(keys[name], language): words.get(name, "") for name in own} for words in said]


def _tile(job: Job, own: Mapping[str, str], id: str, language: str) -> str:
    size = f"aspect-ratio:{job.settings.width}/{job.settings.height}"
    label = ", ".join(f"{name} {value}" for name, value in own.items()) or job.settings.prompt
    inside = f'<i class="shimmer"></i><span class="phase">{text(state_words(job, language))}</span>'
    if job.state == JobState.FINISHED and job.result_path is not None and job.result_path.suffix == ".mp4":
        inside = f'<video src="{media_url(job.id, "result")}" muted loop autoplay playsinline></video>'
    elif job.preview and job.state == JobState.RUNNING:
        step = job.progress.step if job.progress else 0
        inside = f'<img src="{media_url(job.id, "preview")}?v={step}" alt=""><span class="phase">{step}</span>'
    pressed = str(job.id == id).lower()
    return (
        f'<button type="button" class="variation {job.state}" data-id="{job.id}" aria-pressed="{pressed}">'
        f'<span class="frame" style="{size}">{inside}</span><span class="name">{text(label[:120])}</span></button>'
    )
