"""Two to four videos side by side, or one laid over another: one scrubber, what differs, keep one."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import gradio as gr
from gradio.components import Component

from studio.errors import StudioError
from studio.queue.job import Job
from studio.queue.trash import Trash
from studio.service.backend import Backend
from studio.settings import FPS
from studio.ui import markup
from studio.ui.labels import Updates, clicked, html, react
from studio.ui.markup import media_url, text
from studio.ui.queue_rows import undo_bar
from studio.ui.series import differences
from studio.ui.strings import say
from studio.ui.theme import script

FEWEST, MOST = 2, 4
NAMES = "ABCD"
Data = Mapping[Component, Any]


class ComparePanel:
    """A dialog over the page. It holds nothing: its buttons say which videos they mean."""

    def __init__(self, backend: Backend, language: gr.HTML) -> None:
        self.backend, self.language = backend, language
        self.dialog = html(elem_id="compare", js_on_load=script("compare.js"))
        self.undo = html(elem_id="compare-undo", js_on_load=script("undo.js"))

    def wire(self, refresh: Callable[[Any], Any], openers: Iterable[gr.HTML]) -> None:
        """Attach every handler. openers: parts whose `edit` event asks for a comparison."""
        for part in openers:
            react(part.edit, self.compared, {self.language}, {self.dialog})
        refresh(react(self.dialog.select, self.acted, {self.language}, {self.dialog, self.undo}))
        refresh(react(self.undo.select, self.bring_back, {self.language}, {self.undo}))

    def compared(self, data: Data, event: gr.EventData) -> Updates:
        """Show the videos whose ids an event says; other events leave the dialog as it is."""
        if clicked(event, "act") != "compare":
            return {self.dialog: gr.skip()}
        jobs = self._jobs(clicked(event, "ids").split())
        return {self.dialog: compare_dialog(jobs, self.backend.may_change(), data[self.language])}

    def acted(self, data: Data, event: gr.EventData) -> Updates:
        """Close, or keep one of them: the others go into the trash, with ten seconds to undo."""
        language, kept = data[self.language], clicked(event, "id")
        nothing: Updates = {self.dialog: "", self.undo: gr.skip()}
        jobs = self._jobs(clicked(event, "ids").split())
        if clicked(event, "act") != "keep" or kept not in [job.id for job in jobs] or not self.backend.may_change():
            return nothing
        trash = Trash(self.backend.queue)
        try:
            gone = [job.id for job in jobs if job.id != kept and trash.remove(job.id)]
        except StudioError as error:
            return nothing | {self.undo: markup.alert([markup.sentence(error, language)])}
        words = say("gallery.several", language, count=len(gone))
        return nothing | {self.undo: undo_bar(" ".join(gone), words, language)}

    def bring_back(self, data: Data, event: gr.EventData) -> Updates:
        """Undo what `acted` removed."""
        try:
            for id in clicked(event, "id").split()[:MOST] if self.backend.may_change() else []:
                Trash(self.backend.queue).undo(id)
        except StudioError as error:
            return {self.undo: markup.alert([markup.sentence(error, data[self.language])])}
        return {self.undo: ""}

    def _jobs(self, ids: Sequence[str]) -> list[Job]:
        found = [self.backend.queue.get(id) for id in list(dict.fromkeys(ids))[:MOST]]
        return [job for job in found if job is not None and job.result_path and job.result_path.suffix == ".mp4"]


def compare_dialog(jobs: Sequence[Job], may_act: bool, language: str) -> str:
    """The dialog; a sentence where there are not two videos to compare."""
    title, close = text(say("compare", language)), text(say("compare.close", language))
    end = f'<button type="button" data-act="close">{close}</button>'
    if len(jobs) < FEWEST:
        few = text(say("compare.few", language))
        return f'<dialog class="compare" aria-label="{title}"><header><b>{title}</b>{end}</header><p>{few}</p></dialog>'
    names = NAMES[: len(jobs)]
    figures = "".join(_figure(job, name, may_act, language) for job, name in zip(jobs, names, strict=True))
    wipe = f'<button type="button" data-do="wipe" aria-pressed="false">{text(say("compare.wipe", language))}</button>'
    sides = "".join(_side(side, names, language) for side in ("left", "right")) if len(jobs) > 2 else ""
    return (
        f'<dialog class="compare" aria-label="{title}" data-ids="{" ".join(job.id for job in jobs)}" data-fps="{FPS}">'
        f"<header><b>{title}</b>{sides}{wipe}{end}</header>"
        f'<div class="screens" data-count="{len(jobs)}">{figures}</div>{_scrub(jobs, language)}'
        f"{_table(jobs, names, language)}</dialog>"
    )


def _figure(job: Job, name: str, may_act: bool, language: str) -> str:
    keep = text(say("compare.keep", language))
    button = f'<button type="button" data-act="keep" data-id="{job.id}">{keep}</button>' if may_act else ""
    video = f'<video src="{media_url(job.id, "result")}" muted playsinline preload="auto" aria-label="{name}"></video>'
    return f'<figure data-name="{name}">{video}<figcaption><b>{name}</b>{button}</figcaption></figure>'


def _side(side: str, names: str, language: str) -> str:
    chosen = {"left": names[0], "right": names[1]}[side]
    options = "".join(f"<option{' selected' if name == chosen else ''}>{name}</option>" for name in names)
    label = text(say(f"compare.{side}", language))
    return f'<label class="for-wipe">{label} <select data-side="{side}" aria-label="{label}">{options}</select></label>'


def _scrub(jobs: Sequence[Job], language: str) -> str:
    last = max(job.settings.num_frames for job in jobs) - 1
    play, frame, edge = (text(say(key, language)) for key in ("player.play", "player.frame", "compare.edge"))
    return (
        f'<div class="scrub"><button type="button" data-do="play" title="{play}" aria-label="{play}">▶</button>'
        f'<input type="range" data-do="scrub" min="0" max="{last}" value="0" step="1" aria-label="{frame}">'
        f"<output>1 / {last + 1}</output>"
        f'<label class="for-wipe">{edge} <input type="range" data-do="edge" min="0" max="100" value="50" '
        f'aria-label="{edge}"></label></div>'
    )


def _table(jobs: Sequence[Job], names: str, language: str) -> str:
    """What differs, marked; the rest in one sentence."""
    own = differences([job.settings for job in jobs], language)
    head = "".join(f"<th scope=col>{name}</th>" for name in names)
    rows = ""
    for label in own[0]:
        cells = "".join(f"<td><mark>{text(said[label]) or '–'}</mark></td>" for said in own)
        rows += f"<tr><th scope=row>{text(label)}</th>{cells}</tr>"
    same = text(say("compare.same" if rows else "compare.alike", language))
    table = f'<table class="settings-of"><thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table>'
    return f"{table if rows else ''}<p>{same}</p>"
