"""`check` on the page: a row of the drawer with its button and its lines; offered on the first start with a GPU."""

from collections.abc import Mapping
from typing import Any

import gradio as gr
from gradio.components import Component

from studio.errors import StudioError
from studio.service.backend import Backend
from studio.service.machine_check import CheckView
from studio.ui.labels import PICKS, Updates, clicked, html, react
from studio.ui.markup import alert, sentence, text
from studio.ui.strings import say

Data = Mapping[Component, Any]


class CheckPanel:
    """Read anew at every look. The offer stands where the panel is made, the row where `build_row` is called."""

    def __init__(self, backend: Backend, language: Component) -> None:
        self.backend, self.language = backend, language
        self.offer = html(elem_id="check-offer", js_on_load=PICKS)

    def build_row(self) -> None:
        """In the drawer."""
        self.row = html(elem_id="row-check", js_on_load=PICKS)

    @property
    def outputs(self) -> set[Component]:
        """What a look changes."""
        return {self.row, self.offer}

    def wire(self) -> None:
        """Attach every handler."""
        for part in (self.row, self.offer):
            react(part.select, self.acted, {self.language}, self.outputs)

    def acted(self, data: Data, event: gr.EventData) -> Updates:
        """A button of the row or of the offer."""
        language, check = data[self.language], self.backend.check
        if check is None or not self.backend.may_change():
            return dict.fromkeys(self.outputs, gr.skip())  # gradio takes an empty answer for a broken one
        acts = {"start": check.start, "stop": check.stop, "later": check.decline}
        try:
            if act := acts.get(clicked(event, "id")):
                act()
        except StudioError as error:
            return {self.row: alert([sentence(error, language)])}
        return self.look(language)

    def look(self, language: str) -> Updates:
        """The row and the offer; empty where the page has no check."""
        if self.backend.check is None:
            return {}
        view = self.backend.check.look()
        return {self.row: row_html(view, language), self.offer: offer_html(view, language)}


def row_html(view: CheckView, language: str) -> str:
    """A title, a button, and a line per finding."""
    act, words = ("stop", "check.stop") if view.running else ("start", "check.again" if view.rows else "check.start")
    state = f'<p class="note checking" role="status">{say("check.running", language)}</p>' if view.running else ""
    rows = "".join(
        f'<tr class="{row.state}"><td>{say(f"check.{row.state}", language) if row.state else ""}</td>'
        f"<th scope=row>{text(row.name)}</th><td>{text(row.sentence[language])}</td></tr>"
        for row in view.rows
    )
    table = f'<table class="check">{rows}</table>' if rows else ""
    return (
        f'<h3 class="receives-title">{say("check", language)}</h3><p class="note">{say("check.info", language)}</p>'
        f'<button type="button" data-id="{act}">{say(words, language)}</button>{state}{table}'
    )


def offer_html(view: CheckView, language: str) -> str:
    """Words and two buttons, "" where nothing is offered."""
    if not view.offered:
        return ""
    return (
        f'<div class="alert good" role="status"><p>{say("check.offer", language)}</p><p>'
        f'<button type="button" data-id="start">{say("check.start", language)}</button> '
        f'<button type="button" data-id="later">{say("check.later", language)}</button></p></div>'
    )
