"""What the page shows of jobs and results, as html: the stage, cards, the table of settings."""

import time
from collections.abc import Iterable
from pathlib import Path

from studio import filenames
from studio.messages import phase_title
from studio.queue.job import Job, JobState
from studio.queue.kinds import PHASES_OF, RARE_PHASES
from studio.service.sound import has_words
from studio.settings import CENTRED, ResolvedSettings
from studio.ui.markup import FIELDS, alert, media_url, plain, seconds_words, sentence, text
from studio.ui.player import player
from studio.ui.strings import MOVES, STRINGS, say, say_move, say_time

SMALL_SIDE = 672  # of the longer side at most, in CSS pixels: three times nano's 224


def stage(job: Job, ahead: int, language: str) -> str:
    """The large right half: a job on its way, its video, or why there is none."""
    told = f'data-job="{job.id}" data-state="{job.state}"'
    words = {
        "done": say("stage.done", language, prompt=job.settings.prompt[:80]),
        "stop": say("stage.stop_soon", language, seconds="{seconds}"),
        "undo": say("queue.undo", language),
    }
    told += "".join(f' data-{name}="{text(said)}"' for name, said in words.items())
    return (
        f'<section class="stage {job.state}" {told}>{_screen(job, language)}'
        f'<div class="side">{_phases(job, language) if job.state == JobState.RUNNING else ""}'
        f'<div class="facts">{_facts(job, ahead, language)}</div>{_story(job, language)}</div></section>'
    )


def empty_stage(language: str) -> str:
    """The large right half before the first job."""
    return (
        f'<section class="stage empty"><div class="screen blank"><div><h2>{say("stage.empty", language)}</h2>'
        f"<p>{say('stage.examples', language)}</p></div></div></section>"
    )


def percent_of(job: Job) -> str:
    """How far a running job's steps are, "" where none are done yet or any more."""
    progress = job.progress
    if job.state != JobState.RUNNING or not progress or not progress.steps or progress.phase != "denoise":
        return ""
    return f"{100 * progress.step // progress.steps}%"


def _screen(job: Job, language: str) -> str:
    settings = job.settings
    inside = ""
    if job.state == JobState.FINISHED and job.result:
        path = Path(job.result.path)
        poster = filenames.beside(path, ".jpg").is_file()
        found, frames = path if path.is_file() else None, settings.num_frames
        words = has_words(job.sound.track if job.sound else None)
        inside = player(job.id, found, poster, settings.prompt, frames, language, words)
    elif preview := _preview(job):
        inside = f'<img src="{preview}" alt="{text(say("stage.preview", language))}">'
    elif settings.first_image is not None and (job.folder / filenames.THUMBNAIL).is_file():
        inside = f'<img class="first" src="{media_url(job.id, "first")}" alt="{text(say("image", language))}">'
    kind = "" if inside else " blank"
    if job.state in (JobState.RUNNING, JobState.QUEUED):
        inside += "" if inside else '<i class="shimmer"></i>'
        inside += f'<span class="phase">{state_words(job, language)}</span>' if not _preview(job) else ""
    elif not inside:
        inside = f"<span>{state_words(job, language)}</span>"
    return f'<div class="screen{kind}" style="{ratio(settings)}">{inside}{_mark(job, language)}</div>'


def _mark(job: Job, language: str) -> str:
    """On a video that was finished early: how far it is."""
    early = job.finished_early
    if early is None or job.state != JobState.FINISHED or not early.values.get("steps"):
        return ""
    percent = 100 * int(early.values["step"]) // int(early.values["steps"])
    return f'<b class="mark" title="{text(sentence(early, language))}">{percent}%</b>'


def ratio(settings: ResolvedSettings) -> str:
    """The shape of a video for the style sheet; small ones are scaled by a whole number."""
    width, height = settings.width or 16, settings.height or 9
    whole = max(SMALL_SIDE // max(width, height), 1)
    shape = f"--ratio:{width}/{height};--width:{width};--whole:{width * (whole if whole > 1 else 3)}px"
    return shape + (f";--step:{width}px;--tall:76vh" if whole > 1 else "")


def _preview(job: Job) -> str:
    """The url of the latest picture of unfinished work, "" where there is none."""
    if not job.preview or job.state == JobState.QUEUED:
        return ""
    return f"{media_url(job.id, 'preview')}?v={job.progress.step if job.progress else 0}"


def _phases(job: Job, language: str) -> str:
    phases = PHASES_OF[job.kind]
    current = phases.index(job.phase) if job.phase in phases else -1
    skipped = {*RARE_PHASES} if job.settings.first_image else {*RARE_PHASES, "encode_image"}
    items = []
    for index, phase in enumerate(phases):
        if phase not in skipped or index == current:
            kind = "done" if index < current else "now" if index == current else "next"
            items.append(f'<li class="{kind}">{phase_title(phase, language)}</li>')
    bar = '<div class="bar busy"><i></i></div>'
    if job.progress and job.progress.steps > 0:
        percent = 100 * job.progress.step / job.progress.steps
        bar = f'<div class="bar"><i style="width:{percent:.1f}%"></i></div>'
    return f'<ol class="phases">{"".join(items)}</ol>{bar}'


def _facts(job: Job, ahead: int, language: str) -> str:
    facts = [f'<b class="state">{state_words(job, language)}</b>']
    progress = job.progress
    if job.state == JobState.QUEUED:
        facts.append(say("stage.waiting", language, count=ahead) if ahead else say("stage.next", language))
    if job.state == JobState.RUNNING and progress and progress.steps:
        facts.append(f"{progress.step} / {progress.steps}")
        if progress.seconds_left is not None:
            facts.append(say("stage.left", language, time=say_time(progress.seconds_left, language)))
    if job.state == JobState.RUNNING and job.started:
        facts.append(say("stage.elapsed", language, time=say_time(time.time() - job.started, language)))
    if job.state == JobState.FINISHED and job.started and job.ended:
        facts.append(say("stage.took", language, time=say_time(job.ended - job.started, language)))
    facts.append(shape_words(job.settings, language))
    if job.settings.seed is not None:
        facts.append(say("stage.seed", language, seed=f"<code data-copy>{text(job.settings.seed)}</code>"))
    return "".join(f"<span>{fact}</span>" for fact in facts)


def state_words(job: Job, language: str) -> str:
    """What the job does, or how it ended."""
    if job.stopping:
        return say("stage.stopping", language)
    if job.state == JobState.RUNNING:
        return phase_title(job.phase, language) if job.phase in PHASES_OF[job.kind] else say("stage.next", language)
    return say(f"state.{job.state}", language)


def _story(job: Job, language: str) -> str:
    """Notices, and why a job ended without a video."""
    story = alert([sentence(notice, language) for notice in job.notices], "warn")
    if job.state == JobState.FAILED and job.error:
        story += alert([sentence(job.error, language)])
    if job.state == JobState.INTERRUPTED:
        story += alert([say("stage.resume_hint", language)], "warn")
    return f'{story}<p class="words">{text(job.settings.prompt)}</p>'


def shape_words(settings: ResolvedSettings, language: str) -> str:
    """Length and size of a video in a few words."""
    frames, width, height = settings.num_frames, settings.width, settings.height
    if not (frames and width and height):
        return ""
    key = "length.still" if frames == 1 else "length.choice"
    return f"{say(key, language, seconds=seconds_words(frames), frames=frames)} · {width} × {height}"


def download(id: str, language: str) -> str:
    """The link that saves a job's file."""
    return f'<a class="button" href="{media_url(id, "download")}" download>{text(say("download", language))}</a>'


def strip(jobs: Iterable[Job], chosen: str, language: str) -> str:
    """The latest jobs in a row under the stage."""
    row = "".join(job_card(job, chosen, language) for job in jobs)
    return f'<h2>{text(say("recent", language))}</h2><div class="strip">{row}</div>' if row else ""


def job_card(job: Job, chosen: str, language: str) -> str:
    """A job as a card, its state over it until it is done."""
    done = job.state == JobState.FINISHED
    poster = job.result and filenames.beside(Path(job.result.path), ".jpg").is_file()
    picture = media_url(job.id, "poster") if poster else _preview(job)
    badge = "" if done else f'<b class="{job.state}">{state_words(job, language)}</b>'
    plays = bool(poster and job.result and job.result.path.endswith(".mp4"))
    return card(job.id, picture, badge, job.settings.prompt, job.id == chosen, plays=plays)


def card(id: str, picture: str, badge: str, prompt: str, chosen: bool = False, *, plays: bool = False) -> str:
    """A picture with words, to be clicked; badge: html over the picture; plays: its video does under a pointer."""
    image = f'<img src="{picture}" alt="" loading="lazy">' if picture else ""
    moves = " data-plays" if plays else ""
    return (
        f'<button type="button" class="card" data-id="{id}" aria-pressed="{str(chosen).lower()}"{moves}>'
        f'<span class="thumb">{image}{badge}</span><span class="name">{text(prompt[:120])}</span></button>'
    )


def crop_words(place: object) -> str:
    """Where the picture is cropped, "" for the middle and for what is no place."""
    return f"{100 * place:.0f} %" if isinstance(place, int | float) and place != CENTRED else ""


def choice(family: str, value: str, language: str) -> str:
    """The name of a choice; files of others hold choices that this version does not know."""
    key = f"{family}.{value}"
    return say(key, language) if key in STRINGS else value


def settings_words(settings: ResolvedSettings, model_title: str, language: str) -> dict[str, str]:
    """Field -> how it is said, of all that says something; with the model first, then in the order of FIELDS."""
    frames = settings.num_frames or 0
    shown = {
        "model": model_title,
        **{name: plain(getattr(settings, name)) for name in FIELDS if name != "size"},
        "num_frames": say("length.choice", language, seconds=seconds_words(frames), frames=frames),
        "size": f"{settings.width} × {settings.height}",
        "speed": choice("speed", settings.speed, language),
        "guidance_schedule": choice("guidance", settings.guidance_schedule, language),
        "camera_speed": choice("camera.speed", settings.camera_speed, language),
        "magic_words": choice("magic", settings.magic_words, language),
        **{name: crop_words(getattr(settings, name)) for name in ("crop_left", "crop_top")},
        "camera_move": say_move(settings.camera_move, language) if settings.camera_move in MOVES else None,
    }
    return {name: str(shown[name]) for name in ("model", *FIELDS) if shown[name] not in (None, "")}


def settings_table(settings: ResolvedSettings, model_title: str, language: str) -> str:
    """How a video was made, field by field."""
    labels = {"model": "model"} | FIELDS
    words = settings_words(settings, model_title, language)
    rows = [(say(labels[name], language), said) for name, said in words.items()]
    if settings.prompt_template:  # what the prompt was drawn from
        rows.append((say("template", language), settings.prompt_template))
    cells = "".join(f"<dt>{text(label)}</dt><dd data-copy>{text(value)}</dd>" for label, value in rows)
    return f'<dl class="settings">{cells}</dl>'
