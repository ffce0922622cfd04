"""The right half of the page: the job one looks at, its video, and the latest others.

The page keeps only the id of the job it looks at; everything shown is read from the queue, so that closing the tab
stops nothing and any tab shows the same.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import gradio as gr
from gradio.components import Component

from studio.errors import InputError, ModelMissing, StudioError
from studio.queue import verbs
from studio.queue.job import ENDED, WAITING, Job, JobState, Request
from studio.queue.jobs import HELD, SHARP
from studio.queue.kinds import JobKind
from studio.queue.trash import Trash
from studio.service.acts import Act, Order, act
from studio.service.media import first_image
from studio.service.rights import Right, may
from studio.service.sound import clip_of
from studio.service.submit import Record, Rejected, put_back, record_of_job, submit, vary
from studio.settings import GenerationSettings, drawn_seed
from studio.ui import form_panels, job_panels, markup
from studio.ui.form_events import FormEvents, read_record
from studio.ui.labels import Labels, Updates, html, react, visible_if
from studio.ui.queue_panel import QueuePanel
from studio.ui.series_panel import SeriesPanel
from studio.ui.several_pictures import SeveralPictures
from studio.ui.strings import say
from studio.ui.theme import script
from studio.wildcards import with_seed

LATEST = 12
ACTIVE = (JobState.RUNNING, *WAITING)
BUTTONS = {  # under the stage: key -> its words
    "finish": "stage.finish_now",
    "pause": "queue.pause",
    "skip": "queue.skip",
    "sharp": "stage.sharp",
    "rough": "stage.rough",
    "resume": "resume",
    "decode": "stage.decode",
    "whole": "stage.whole",
    "again": "again",
    "seed": "again.seed",
    "seeds": "vary.seeds",
    "motion": "vary.motion",
    "reuse": "reuse",
    "sound": "sound.open",
}
ACTS = {key: Act(key) for key in ("finish", "pause", "skip", "sharp", "rough", "resume", "decode", "whole")}
Data = Mapping[Component, Any]


class StagePanel:
    """The stage, the buttons under it, the line, the latest results; and starting and stopping."""

    def __init__(self, events: FormEvents, labels: Labels) -> None:
        self.events, self.create, self.backend = events, events.create, events.backend
        # The id of the job one looks at.
        self.focus = html(visible="hidden", elem_id="focus", html_template="", js_on_load=script("choose.js"))
        self.several = SeveralPictures(self.create, self.focus)
        self.stage = html(elem_id="stage", js_on_load=script("stage.js"))
        with gr.Row(elem_id="actions"):
            self.download = html(visible="hidden", elem_id="download")
            self.buttons = {
                key: labels.add(gr.Button(size="sm", visible=False, min_width=90, elem_id=f"do-{key}"), value=word)
                for key, word in BUTTONS.items()
            }
        self.series = SeriesPanel(events, self.focus)
        self.queue = QueuePanel(events, self.focus)
        self.latest = html(elem_id="latest")

    @property
    def outputs(self) -> set[Component]:
        """What `look` changes."""
        shown: set[Component] = {self.stage, self.download, self.latest, self.focus, self.queue.rows}
        shown |= {self.create.stop, self.create.generate}
        return {*shown, *self.buttons.values(), *self.series.outputs}

    def wire(self, refresh: Callable[[Any], Any]) -> None:
        """Attach every handler; `refresh(event)` lets the page look at the queue once the event is done."""
        create = self.create
        mine = {self.focus, create.language}
        start = {*create.inputs, create.first_image, create.record, self.focus, self.queue.editing}
        started = {self.focus, create.message, create.edit_bar, create.generate, self.queue.editing}
        refresh(react(create.generate.click, self.generate, start, started))
        refresh(react(create.stop.click, self.stop, mine, {create.message}))
        for key, asked in ACTS.items():
            refresh(react(self.buttons[key].click, partial(self.ask, asked), mine, {create.message}))
        varied = {"seeds": self.more_seeds, "motion": self.more_motion}
        for key, handler in ({"again": self.again, "seed": self.new_seed} | varied).items():
            refresh(react(self.buttons[key].click, handler, mine, {self.focus, create.message}))
        self.queue.wire(refresh)
        self.series.wire(refresh)
        self.several.wire(refresh)
        form_outputs = {*create.shown, *self.events.picture, create.message}
        refresh(react(self.buttons["reuse"].click, self.reuse, mine, form_outputs))
        react(self.stage.select, self.events.frames.given, create.inputs, self.events.framed)

    def look(self, focus: str, language: str, line: bool = True) -> Updates:
        """Everything on the right as it is now; line: with the rows of the queue."""
        latest = self.backend.queue.list(states=ENDED, limit=LATEST)
        job = self._focused(focus, latest)
        found = job.id if job else ""
        # An unchanged id is not sent: the answer may arrive after a click has chosen another job.
        chosen: Updates = {} if found == focus else {self.focus: found}
        shown = self._show(job, language) if job else self._show_none(language)
        rows = self.queue.look(found, language) if line else {}
        return (
            chosen
            | shown
            | rows
            | self.series.look(job, language)
            | {self.latest: job_panels.strip(latest, found, language)}
        )

    def _show(self, job: Job, language: str) -> Updates:
        ahead = self.backend.queue.ahead(job.id) if job.state == JobState.QUEUED else 0
        may_act, may_make = self.backend.may_change(job), self.backend.may_make()
        active, has_file = job.state in ACTIVE, job.state == JobState.FINISHED
        is_video = job.kind is JobKind.VIDEO
        ended, runs = (
            may_make and is_video and not active,
            may_act and job.state == JobState.RUNNING and not job.stopping,
        )
        latents = may_act and not runs and verbs.saved_latents(job) is not None
        denoises = runs and is_video and job.phase in ("", "load", "encode_text", "encode_image", "denoise")
        sharp, may_all = bool(self.backend.queue.option(SHARP)), self.backend.may_change()
        visible = {
            "finish": denoises and job.request not in (Request.FINISH, Request.DECODE),
            "pause": runs or (may_act and job.state == JobState.QUEUED),
            "skip": runs and self.backend.queue.count(WAITING) > 0,
            "sharp": may_all and denoises and not sharp,
            "rough": may_all and denoises and sharp,
            "resume": may_act and job.resumable,
            "decode": latents and job.resumable,
            "whole": latents and job.finished_early is not None,
            "again": ended,
            "seed": ended,
            "seeds": ended,
            "motion": ended and job.settings.motion_score is not None,
            "reuse": not runs,
            "sound": clip_of(self.backend, job.id) is not None,
        }
        shown: Updates = {
            self.stage: job_panels.stage(job, ahead, language),
            self.download: gr.update(
                value=job_panels.download(job.id, language) if has_file else "", visible=visible_if(has_file)
            ),
            self.create.stop: gr.update(interactive=may_act and active and not job.stopping),
            **{button: gr.update(visible=visible[key]) for key, button in self.buttons.items()},
        }
        return shown | self._greyed()

    def _show_none(self, language: str) -> Updates:
        shown: Updates = {
            self.stage: job_panels.empty_stage(language),
            self.download: gr.update(value="", visible="hidden"),
            self.create.stop: gr.update(interactive=False),
            **{button: gr.update(visible=False) for button in self.buttons.values()},
        }
        return shown | self._greyed()

    def _greyed(self) -> Updates:
        """Generate, where a guest may watch alone; the banner says why."""
        return {} if may(Right.MAKE) else {self.create.generate: gr.update(interactive=False)}

    def _focused(self, focus: str, latest: list[Job]) -> Job | None:
        """The job one looks at; for a new visitor the one that runs or is next, else the newest."""
        chosen = self.backend.queue.get(focus) if focus else None
        line = self.backend.queue.in_order(1) if chosen is None else []
        return next(iter([*([chosen] if chosen else []), *line, *latest]), None)

    def generate(self, data: Data) -> Updates:
        """Check everything, then queue it. What is wrong is said, and nothing typed is lost."""
        language = data[self.create.language]
        try:
            image = self.create.picture(data)
            asked = self.create.asked(data, image is not None)
            record = read_record(data[self.create.record])
        except InputError as error:
            return self.create.complain([error], language)
        if editing := data[self.queue.editing]:
            return self._put_back(editing, asked, image, record, language)
        return self._submit(asked, image, record, language)

    def _put_back(
        self, id: str, asked: GenerationSettings, image: bytes | None, record: Record, language: str
    ) -> Updates:
        """The job of the queue that the form holds, with what the form says now, at its place."""
        try:
            changes = self.backend.may_change(self.backend.queue.get(id))
            done = changes and put_back(self.backend, id, asked, image, record)
        except Rejected as error:
            return self.create.complain(error.problems, language)
        except StudioError as error:
            return self.create.complain([error], language)
        if not done:
            return self._gone(language) | self.queue.editing_state("", "", language)
        return self.create.complain([], language) | self.queue.editing_state("", "", language)

    def again(self, data: Data) -> Updates:
        """The same settings with the same seed."""
        return self._repeat(data, lambda settings: settings)

    def new_seed(self, data: Data) -> Updates:
        """The same settings with a newly drawn seed."""
        return self._repeat(data, lambda settings: with_seed(settings, None, self.backend.word_lists()))

    def more_seeds(self, data: Data) -> Updates:
        """Four more with other seeds."""
        return self._vary(data, [{"seed": drawn_seed()} for _ in range(4)])

    def more_motion(self, data: Data) -> Updates:
        """The same seed at the ticks of the motion score."""
        return self._vary(data, [{"motion_score": float(score)} for score in form_panels.MOTION_TICKS])

    def _vary(self, data: Data, changes: Sequence[Mapping[str, Any]]) -> Updates:
        language = data[self.create.language]
        try:
            made = vary(self.backend, data[self.focus], changes)
        except StudioError as error:
            return self.create.complain([error], language)
        if not made:
            return self._gone(language)
        words = say("vary.added", language, count=len(made))
        return {self.focus: made[0].id, self.create.message: markup.alert([words], "good")}

    def _repeat(self, data: Data, change: Callable[[GenerationSettings], GenerationSettings]) -> Updates:
        language, job = data[self.create.language], self.backend.queue.get(data[self.focus])
        if job is None:
            return self._gone(language)
        try:
            asked = change(job.settings.asked())
        except InputError as error:
            return self.create.complain([error], language)
        return self._submit(asked, first_image(self.backend, job.id), record_of_job(job), language)

    def _submit(self, asked: GenerationSettings, image: bytes | None, record: Record, language: str) -> Updates:
        try:
            job = submit(self.backend, asked, image, record)
        except ModelMissing:
            return {self.create.message: form_panels.plan_missing(self.backend.models[asked.model], language)}
        except Rejected as error:
            return self.create.complain(error.problems, language)
        except StudioError as error:
            return self.create.complain([error], language)
        running = self.backend.queue.list(states=(JobState.RUNNING,), limit=1)
        if self.backend.queue.in_order(1) == [job] or not (running or self.backend.queue.option(HELD)):
            return {self.focus: job.id, **self.create.complain([], language)}
        words = self.queue.added(job.id, language)  # what runs stays in view
        return {self.focus: running[0].id if running else job.id, self.create.message: markup.alert([words], "good")}

    def stop(self, data: Data) -> Updates:
        """Ask the job to end."""
        return self.ask(Act.STOP, data)

    def ask(self, asked: Act, data: Data) -> Updates:
        """One of ACTS, on the job one looks at."""
        language, queue = data[self.create.language], self.backend.queue
        if queue.get(data[self.focus]) is None:
            return self._gone(language)
        try:
            if self.backend.owner():
                act(queue, Trash(queue), Order(asked, data[self.focus]))
        except StudioError as error:
            return self.create.complain([error], language)
        return self.create.complain([], language)

    def _gone(self, language: str) -> Updates:
        return {self.create.message: markup.alert([say("gallery.gone", language)])}

    def reuse(self, data: Data) -> Updates:
        language, job = data[self.create.language], self.backend.queue.get(data[self.focus])
        if job is None:
            return self._gone(language)
        record = record_of_job(job)
        return self.events.fill_from(job.settings.asked(), first_image(self.backend, job.id), language, record)
