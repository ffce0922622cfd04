"""The right half of the page: the job one looks at, its video, and the latest others.

The page keeps only the id of the job it looks at; everything shown is read from the queue, so that closing the tab
stops nothing and any tab shows the same.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import gradio as gr
from gradio.components import Component

from studio.errors import InputError, ModelMissing, StudioError
from studio.queue.job import Job, JobState
from studio.service.media import first_image
from studio.service.submit import Rejected, submit
from studio.settings import GenerationSettings
from studio.ui import form_panels, job_panels, markup
from studio.ui.form_events import FormEvents
from studio.ui.labels import PICKS, Labels, Updates, clicked, html, react
from studio.ui.strings import say

LATEST = 12
ACTIVE = (JobState.RUNNING, JobState.QUEUED)
Data = Mapping[Component, Any]


class StagePanel:
    """The stage, the buttons under it, the latest jobs; and starting and stopping."""

    def __init__(self, events: FormEvents, labels: Labels) -> None:
        self.events, self.create, self.backend = events, events.create, events.backend
        self.focus = gr.Textbox(visible="hidden", elem_id="focus")  # the id of the job one looks at
        self.stage = html(elem_id="stage")
        with gr.Row(elem_id="actions"):
            self.download = html(visible=False, elem_id="download")
            self.buttons = {
                key: labels.add(gr.Button(size="sm", visible=False, min_width=90, elem_id=f"do-{key}"), value=word)
                for key, word in (
                    ("resume", "resume"),
                    ("again", "again"),
                    ("seed", "again.seed"),
                    ("reuse", "reuse"),
                )
            }
        self.latest = html(elem_id="latest", js_on_load=PICKS)

    @property
    def outputs(self) -> set[Component]:
        """What `look` changes."""
        return {self.stage, self.download, self.latest, self.create.stop, self.focus, *self.buttons.values()}

    def wire(self, refresh: Callable[[Any], Any]) -> None:
        """Attach every handler; `refresh(event)` lets the page look at the queue once the event is done."""
        create = self.create
        mine = {self.focus, create.language}
        start = {*create.inputs, create.first_image}
        refresh(react(create.generate.click, self.generate, start, {self.focus, create.message}))
        refresh(react(create.stop.click, self.stop, mine, {create.message}))
        refresh(react(self.latest.select, self.pick, mine, {self.focus}))
        refresh(react(self.buttons["resume"].click, self.resume, mine, {create.message}))
        for key, handler in (("again", self.again), ("seed", self.new_seed)):
            refresh(react(self.buttons[key].click, handler, mine, {self.focus, create.message}))
        form_outputs = {*create.shown, *self.events.picture, create.message}
        refresh(react(self.buttons["reuse"].click, self.reuse, mine, form_outputs))

    def look(self, focus: str, language: str) -> Updates:
        """Everything on the right as it is now."""
        latest = self.backend.queue.list(limit=LATEST)
        job = self._focused(focus, latest)
        found = job.id if job else ""
        # An unchanged id is not sent: the answer may arrive after a click has chosen another job.
        chosen: Updates = {} if found == focus else {self.focus: found}
        shown = self._show(job, language) if job else self._show_none(language)
        return chosen | shown | {self.latest: job_panels.strip(latest, found, language)}

    def _show(self, job: Job, language: str) -> Updates:
        ahead = self.backend.queue.ahead(job.id) if job.state == JobState.QUEUED else 0
        may_act, active, has_file = self.backend.owner(), job.state in ACTIVE, job.state == JobState.FINISHED
        ended = may_act and not active
        visible = {"resume": may_act and job.resumable, "again": ended, "seed": ended, "reuse": True}
        return {
            self.stage: job_panels.stage(job, ahead, language),
            self.download: gr.update(value=job_panels.download(job.id, language) if has_file else "", visible=has_file),
            self.create.stop: gr.update(interactive=may_act and active and not job.stopping),
            **{button: gr.update(visible=visible[key]) for key, button in self.buttons.items()},
        }

    def _show_none(self, language: str) -> Updates:
        return {
            self.stage: job_panels.empty_stage(language),
            self.download: gr.update(value="", visible=False),
            self.create.stop: gr.update(interactive=False),
            **{button: gr.update(visible=False) for button in self.buttons.values()},
        }

    def _focused(self, focus: str, latest: list[Job]) -> Job | None:
        """The job one looks at; for a new visitor the one that runs, else the newest."""
        chosen = self.backend.queue.get(focus) if focus else None
        running = self.backend.queue.list(states=(JobState.RUNNING,), limit=1) if chosen is None else []
        return next(iter([*([chosen] if chosen else []), *running, *latest]), None)

    def generate(self, data: Data) -> Updates:
        """Check everything, then queue it. What is wrong is said, and nothing typed is lost."""
        language = data[self.create.language]
        try:
            image = self.create.picture(data)
            asked = self.create.asked(data, image is not None)
        except InputError as error:
            return self.create.complain([error], language)
        return self._submit(asked, image, language)

    def again(self, data: Data) -> Updates:
        """The same settings with the same seed."""
        return self._repeat(data, lambda settings: settings)

    def new_seed(self, data: Data) -> Updates:
        """The same settings with a newly drawn seed."""
        return self._repeat(data, lambda settings: replace(settings, seed=None))

    def _repeat(self, data: Data, change: Callable[[GenerationSettings], GenerationSettings]) -> Updates:
        language, job = data[self.create.language], self.backend.queue.get(data[self.focus])
        if job is None:
            return self._gone(language)
        return self._submit(change(job.settings.asked()), first_image(self.backend, job.id), language)

    def _submit(self, asked: GenerationSettings, image: bytes | None, language: str) -> Updates:
        try:
            job = submit(self.backend, asked, image)
        except ModelMissing:
            return {self.create.message: form_panels.plan_missing(self.backend.models[asked.model], language)}
        except Rejected as error:
            return self.create.complain(error.problems, language)
        except StudioError as error:
            return self.create.complain([error], language)
        return {self.focus: job.id, **self.create.complain([], language)}

    def stop(self, data: Data) -> Updates:
        """Ask the job to end."""
        return self._act(self.backend.queue.cancel, data)

    def resume(self, data: Data) -> Updates:
        """Let a stopped or failed job go on."""
        return self._act(self.backend.queue.resume, data)

    def _act(self, act: Callable[[str], Any], data: Data) -> Updates:
        language = data[self.create.language]
        if self.backend.queue.get(data[self.focus]) is None:
            return self._gone(language)
        try:
            if self.backend.owner():
                act(data[self.focus])
        except StudioError as error:
            return self.create.complain([error], language)
        return self.create.complain([], language)

    def _gone(self, language: str) -> Updates:
        return {self.create.message: markup.alert([say("gallery.gone", language)])}

    def pick(self, data: Data, event: gr.EventData) -> Updates:
        return {self.focus: clicked(event, "id")}

    def reuse(self, data: Data) -> Updates:
        language, job = data[self.create.language], self.backend.queue.get(data[self.focus])
        if job is None:
            return self._gone(language)
        return self.events.fill_from(job.settings.asked(), first_image(self.backend, job.id), language)
