"""Under a finished video: more clips behind it, all of them as one file; and the variations that were asked for
together, in a grid that fills as they are done."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import gradio as gr
from gradio.components import Component

from studio.errors import InputError, StudioError
from studio.queue.chains import chain
from studio.queue.job import Job, JobState
from studio.service.project import Extension, clips, extend, join_chain
from studio.service.submit import Rejected, runnable, vary
from studio.ui import markup
from studio.ui.form_events import FormEvents
from studio.ui.labels import Updates, clicked, html, react
from studio.ui.series import extend_part, grid, moves_part
from studio.ui.strings import say
from studio.ui.theme import script

MOST_MOVES = 8
MAKING = ("extend", "moves")  # acts that queue videos and change nothing
LONGEST_PROMPT = 4000
Data = Mapping[Component, Any]


class SeriesPanel:
    """Works on the job one looks at; its id is `focus`."""

    def __init__(self, events: FormEvents, focus: gr.HTML) -> None:
        self.create, self.backend, self.focus = events.create, events.backend, focus
        self.moves = html(elem_id="vary-moves", js_on_load=script("series.js"))
        self.extend = html(elem_id="extend", js_on_load=script("series.js"))
        self.grid = html(elem_id="variations", js_on_load=script("series.js"))

    @property
    def outputs(self) -> set[Component]:
        """What `look` changes."""
        return {self.moves, self.extend, self.grid}

    def wire(self, refresh: Callable[[Any], Any]) -> None:
        """Attach every handler; `refresh(event)` lets the page look at the queue once the event is done."""
        mine, outputs = {self.focus, self.create.language}, {self.focus, self.create.message}
        for part in (self.moves, self.extend, self.grid):
            refresh(react(part.select, self.acted, mine, outputs))

    def look(self, job: Job | None, language: str) -> Updates:
        """All parts as they are now."""
        may_act = self.backend.may_make()
        parts: Updates = dict.fromkeys(self.outputs, "")
        if job is None:
            return parts
        if job.project:
            parts[self.grid] = grid(self.backend.queue.linked(project=job.project), job.id, language)
        if job.state != JobState.FINISHED or not may_act or job.result_path is None:
            return parts
        parts[self.moves] = moves_part(tuple(self.backend.camera_moves), job.settings.camera_move, language)
        if job.result_path.suffix == ".mp4":
            finished = clips(self.backend.queue, job.id) if self.backend.may_change() else []  # they can be joined
            parts[self.extend] = extend_part(chain(self.backend.queue, job.id), len(finished), job.id, language)
        return parts

    def acted(self, data: Data, event: gr.EventData) -> Updates:
        """One act of a part."""
        asked, language = clicked(event, "act"), data[self.create.language]
        acts = {"extend": self._extend, "join": self._join, "part": self._join, "moves": self._moves}
        may_act = self.backend.may_make() if asked in MAKING else self.backend.may_change()
        if asked not in acts or not may_act:
            return {self.create.message: ""}
        try:
            return acts[asked](data[self.focus], event, language)
        except Rejected as error:
            return self.create.complain(error.problems, language)
        except StudioError as error:
            return self.create.complain([error], language)

    def _extend(self, id: str, event: gr.EventData, language: str) -> Updates:
        backend = self.backend
        prompt = clicked(event, "prompt")[:LONGEST_PROMPT]
        asked = Extension(_number(event, "count", 1), prompt, clicked(event, "cut") == "true")
        job, installed = backend.queue.get(id), backend.installed()
        # What goes on from a clip that waits would stand before the jobs of others: the page does not offer that.
        ended = job is not None and job.state == JobState.FINISHED
        runs = partial(runnable, backend)
        made = ended and extend(backend.queue, id, asked, backend.models, installed, runs)
        if not made:
            return {self.create.message: markup.alert([say("gallery.gone", language)])}
        words = say("extend.added", language, count=len(made))
        return {self.focus: made[0].id, self.create.message: markup.alert([words], "good")}

    def _join(self, id: str, event: gr.EventData, language: str) -> Updates:
        begin, end = 0, None
        if clicked(event, "act") == "part":
            begin, end = _number(event, "first", 0) - 1, _number(event, "last", 0)
        path = join_chain(self.backend.queue, id, self.backend.gallery.folder, begin, end)
        words = say("join.done", language, file=path.name)
        return {self.create.message: markup.alert([words], "good")}

    def _moves(self, id: str, event: gr.EventData, language: str) -> Updates:
        known = [move for move in clicked(event, "moves").split() if move in self.backend.camera_moves]
        if not known:
            return {self.create.message: markup.alert([say("vary.pick", language)])}
        made = vary(self.backend, id, [{"camera_move": move} for move in known[:MOST_MOVES]])
        words = say("vary.added", language, count=len(made))
        chosen: Updates = {self.focus: made[0].id} if made else {}
        return chosen | {self.create.message: markup.alert([words], "good")}


def _number(event: gr.EventData, name: str, otherwise: int) -> int:
    """A whole number that a browser sent. Raises InputError for what is none."""
    text = clicked(event, name).strip()
    if not text:
        return otherwise
    if not (text.isascii() and text.isdecimal() and len(text) < 7):
        raise InputError("number_invalid", field=name, value=text[:40])
    return int(text)
