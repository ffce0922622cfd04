"""The line under the prompt that lets the user's language model expand it; what it wrote is shown before it is used."""

from collections.abc import Mapping
from itertools import count
from typing import Any

import gradio as gr
from gradio.components import Component

from studio.errors import StudioError
from studio.service.backend import Backend
from studio.ui import markup
from studio.ui.labels import Updates, clicked, html
from studio.ui.markup import text
from studio.ui.strings import say

ACTS = """element.addEventListener('click', (event) => {
    const act = event.target.closest('[data-act]');
    if (!act) return;
    if (act.dataset.busy) Object.assign(act, { disabled: true, textContent: act.dataset.busy });
    trigger('select', { act: act.dataset.act });
})"""
Data = Mapping[Component, Any]


class ChatPanel:
    """Nothing is shown where no server was named. What was written waits in the page, not here."""

    def __init__(self, backend: Backend, prompt: Component, language: Component) -> None:
        self.backend, self.prompt, self.language = backend, prompt, language
        self.panel = html(elem_id="chat", js_on_load=ACTS)
        self.written = gr.Textbox("", visible="hidden", elem_id="chat-written")
        self._numbers = count(1)

    @property
    def inputs(self) -> set[Component]:
        """What the handler reads."""
        return {self.prompt, self.written, self.language}

    @property
    def outputs(self) -> set[Component]:
        """What it changes, the prompt apart."""
        return {self.panel, self.written}

    def acted(self, data: Data, event: gr.EventData) -> Updates:
        """Ask, take what was written as the prompt, or leave it."""
        act, language, written = clicked(event, "act"), data[self.language], str(data[self.written] or "")
        if self.backend.chat is None or act not in ("ask", "use"):
            return self.show("", language)
        if act == "use":
            taken: Updates = {self.prompt: gr.update(value=written)} if written else {}
            return self.show("", language) | taken
        try:
            return self.show(self.backend.chat.expand(str(data[self.prompt] or "")), language)
        except StudioError as error:
            return self.show("", language, markup.alert([markup.sentence(error, language)]))

    def show(self, written: str, language: str, told: str = "") -> Updates:
        """The line, and what was written. told: html under it."""
        chat = self.backend.chat
        shown = chat_line(chat.host, next(self._numbers), language) + told + proposal(written, language) if chat else ""
        return {self.panel: shown, self.written: written}


def chat_line(host: str, number: int, language: str) -> str:
    """The button, and where the prompt goes. number: no other line has it, so that an equal answer is drawn anew."""
    ask, busy = say("chat.expand", language), say("chat.busy", language)
    return (
        f'<div class="chat-line" data-number="{number}"><button type="button" data-act="ask" data-busy="{text(busy)}">'
        f"{text(ask)}</button><small>{text(say('chat.where', language, host=host))}</small></div>"
    )


def proposal(written: str, language: str) -> str:
    """What was written, with the choice to take it; "" for nothing."""
    if not written:
        return ""
    buttons = "".join(
        f'<button type="button" data-act="{act}">{text(say(f"chat.{act}", language))}</button>'
        for act in ("use", "leave")
    )
    return f'<div class="chat-written" role="status"><p>{text(written)}</p>{buttons}</div>'
