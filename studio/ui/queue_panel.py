"""The line of jobs under the stage: seen, dragged, edited in the form, copied, paused, removed and brought back."""

import secrets
from collections.abc import Callable, Mapping
from typing import Any

import gradio as gr
from gradio.components import Component

from studio.errors import StudioError
from studio.queue import verbs
from studio.queue.job import WAITING, JobState
from studio.queue.jobs import HELD
from studio.queue.order import Where
from studio.queue.trash import Trash
from studio.service.acts import Act, Order, act
from studio.service.media import first_image
from studio.service.schedule import Schedule
from studio.service.submit import record_of_job
from studio.ui.failed_rows import SHOWN, failed_jobs
from studio.ui.form_events import FormEvents
from studio.ui.labels import EVERY, Updates, clicked, html, merge, react, visible_if
from studio.ui.markup import alert, sentence
from studio.ui.queue_rows import Line, clock, edit_bar, queue_rows, undo_bar
from studio.ui.strings import say
from studio.ui.theme import script

ROWS = 50  # jobs shown at once
MOST_COPIES = 16
Data = Mapping[Component, Any]


class QueuePanel:
    """Rows in the order of running. The page keeps the id of the job that is in the form, nothing else."""

    def __init__(self, events: FormEvents, focus: gr.HTML) -> None:
        self.events, self.create, self.backend, self.focus = events, events.create, events.backend, focus
        self.schedule = Schedule(self.backend)
        self.editing = gr.Textbox(visible="hidden", elem_id="editing")  # the id of the job that the form holds
        # queue.js draws the value itself: answers that come late must not show an order that has passed.
        self.rows = html(html_template="", elem_id="queue", js_on_load=script("queue.js"))
        self.started = secrets.token_hex(4)  # revisions are compared within one run of the program
        self.undo = html(elem_id="undo", js_on_load=script("undo.js"))

    @property
    def form_outputs(self) -> set[Component]:
        """What an edit changes: the whole form."""
        create = self.create
        return {*create.shown, *self.events.picture, create.message, create.edit_bar, create.generate, self.editing}

    def wire(self, refresh: Callable[[Any], Any]) -> None:
        """Attach every handler; `refresh(event)` lets the page look at the queue once the event is done."""
        mine = {self.focus, self.create.language}
        outputs = {self.create.message, self.undo}
        refresh(react(self.rows.select, self.acted, mine, {*outputs, self.rows}, **EVERY))
        refresh(react(self.undo.select, self.acted, mine, outputs))
        refresh(react(self.rows.edit, self.edit, mine, self.form_outputs))
        leaving = {self.editing, self.create.language}
        refresh(react(self.create.edit_bar.select, self.leave, leaving, self.form_outputs))

    def stamp(self) -> str:
        """Changes whenever the rows do."""
        line = self._line()
        ends = ",".join(clock(end) if end is not None else "" for end in line.ends)
        runs = ",".join(f"{job.id}{job.request}" for job in line.jobs if job.state == JobState.RUNNING)
        runs += ",".join(f"{job.id}{job.version}" for job in line.failed)
        return f"{self.backend.queue.order_version()}{line.held}{line.may_act}{len(line.mine)}{line.count}{ends}{runs}"

    def look(self, focus: str, language: str, turn: str = "") -> Updates:
        """The rows as they are now. turn: the browser's number of the move that this answers."""
        revision = self.backend.queue.version()  # read first: the rows are at least as new
        mark = f'data-of="{self.started}" data-revision="{revision}" data-turn="{turn}"'
        return {self.rows: queue_rows(self._line(), focus, language, mark)}

    def _line(self) -> Line:
        queue = self.backend.queue
        jobs = queue.in_order(ROWS)
        count = queue.count((JobState.RUNNING, *WAITING)) if len(jobs) == ROWS else len(jobs)
        titles = {name: model.title for name, model in self.backend.models.items()}
        failed = failed_jobs(queue, queue.list((JobState.FAILED,), SHOWN))
        may_act = self.backend.may_change()
        mine = frozenset(job.id for job in (*jobs, *failed) if self.backend.may_change(job))
        return Line(jobs, self.schedule.ends(jobs), count, bool(queue.option(HELD)), may_act, titles, mine, failed)

    def added(self, id: str, language: str) -> str:
        """Where in the line a job is, and when it will be done."""
        jobs = self.backend.queue.in_order()
        place = next((place for place, job in enumerate(jobs, 1) if job.id == id), 0)
        end = self.schedule.ends(jobs[:place])[-1] if place else None
        if end is None:
            return say("queue.added", language, place=place)
        return say("queue.added_at", language, place=place, time=clock(end))

    def acted(self, data: Data, event: gr.EventData) -> Updates:
        """One act on one job, or on the whole queue. A move is answered with the rows that it made."""
        turn = clicked(event, "turn")
        done = self._act(data, event)
        if not (turn.isascii() and turn.isdecimal() and len(turn) < 10):
            return done
        return done | self.look(data[self.focus], data[self.create.language], turn)

    def _act(self, data: Data, event: gr.EventData) -> Updates:
        asked, id, language = clicked(event, "act"), clicked(event, "id"), data[self.create.language]
        if asked not in set(Act) or not self.backend.owner():
            return {self.undo: gr.skip()}
        where, count = clicked(event, "where"), clicked(event, "count")
        order = Order(
            Act(asked),
            id,
            Where(where) if where in set(Where) else Where.LAST,
            clicked(event, "other"),
            min(int(count), MOST_COPIES) if count.isascii() and count.isdecimal() and len(count) < 4 else 1,
        )
        job = self.backend.queue.get(id)
        try:
            done = act(self.backend.queue, Trash(self.backend.queue), order, self.backend.word_lists)
        except StudioError as error:
            return self.create.complain([error], language)
        if order.act == Act.REMOVE and done and job:
            return {self.undo: undo_bar(job.id, job.settings.prompt, language)}
        return {self.undo: "" if order.act == Act.UNDO else gr.skip()}

    def edit(self, data: Data, event: gr.EventData) -> Updates:
        """A job that waits goes into the form and is passed over until it is put back; of one that failed the form
        takes the settings, to be asked for anew."""
        language, job = data[self.create.language], self.backend.queue.get(clicked(event, "id"))
        if job is None or not self.backend.may_change(job):
            return {self.editing: gr.skip()}
        try:
            if job.state == JobState.FAILED and job.error:
                image, record = first_image(self.backend, job.id), record_of_job(job)
                filled = self.events.fill_from(job.settings.asked(), image, language, record)
                return filled | {self.create.message: alert([sentence(job.error, language)])}
            if not verbs.take_back(self.backend.queue, job.id):
                return {self.editing: gr.skip()}
            picture = first_image(self.backend, job.id)
        except StudioError as error:
            return self.create.complain([error], language)
        filled = self.events.fill_from(job.settings.asked(), picture, language, record_of_job(job))
        return merge(filled, self.editing_state(job.id, job.settings.prompt, language))

    def editing_state(self, id: str, prompt: str, language: str) -> Updates:
        """The form with a job of the queue in it, "" for none."""
        return {
            self.editing: id,
            self.create.edit_bar: gr.update(
                value=edit_bar(prompt, language) if id else "", visible=visible_if(bool(id))
            ),
            self.create.generate: gr.update(value=say("queue.put_back" if id else "generate", language)),
        }

    def leave(self, data: Data) -> Updates:
        """The job runs as it was; what the form holds stays there."""
        id = data[self.editing]
        job = self.backend.queue.get(id) if id else None
        if job is not None and self.backend.may_change(job):
            self.backend.queue.resume(job.id)
        return self.editing_state("", "", data[self.create.language])
