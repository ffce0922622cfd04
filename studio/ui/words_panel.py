"""Help with the prompt: a row of the drawer with parts that become a prompt, and with prompts of before; under the
prompt, the beginning for a long one."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from studio.prompt_builder import PARTS, build, with_prefix
from studio.queue.job import Job
from studio.queue.jobs import JobQueue
from studio.settings import PROMPT_LIMIT
from studio.ui.labels import PICKS, Updates, clicked, html, react
from studio.ui.markup import text
from studio.ui.strings import say

if TYPE_CHECKING:
    from studio.ui.create_tab import CreateTab

SAYS = """element.addEventListener('click', (event) => {
    const button = event.target.closest('[data-id]');
    if (!button) return;
    const said = { id: button.dataset.id };
    for (const field of element.querySelectorAll('input[data-part]')) said[field.dataset.part] = field.value;
    trigger('select', said);
})"""
LOOKED_THROUGH, SHOWN = 200, 20  # jobs, and different prompts of them
Data = Mapping[Component, Any]


class WordsPanel:
    """The row of the drawer, and what its clicks and those of the offer under the prompt do."""

    def __init__(self) -> None:
        with gr.Column(elem_id="row-words"):
            self.builder = html(builder("en"), elem_id="builder", js_on_load=SAYS)
            self.history = html(elem_id="history", js_on_load=PICKS)

    def wire(self, create: "CreateTab") -> None:
        """Attach every handler."""
        prompt, language, queue = create.fields["prompt"], create.language, create.backend.queue

        def asked(data: Data, event: gr.EventData) -> Updates:
            if clicked(event, "id") == "history":
                return {self.history: history(queue, data[language])}
            words = build({part: clicked(event, part)[:PROMPT_LIMIT] for part in PARTS})
            return {prompt: words} if words.strip("。.") else {prompt: gr.skip()}

        def chosen(data: Data, event: gr.EventData) -> Updates:
            job = queue.get(clicked(event, "id"))
            return {self.history: ""} | ({prompt: typed(job)} if job else {})

        def began(data: Data, event: gr.EventData) -> Updates:
            is_asked = clicked(event, "id") == "prefix"
            return {prompt: with_prefix(str(data[prompt] or "")) if is_asked else gr.skip()}

        react(self.builder.select, asked, {language}, {prompt, self.history})
        react(self.history.select, chosen, {language}, {prompt, self.history})
        react(create.meters.select, began, {prompt}, {prompt})


def builder(language: str) -> str:
    """The parts of the formula, each a field, behind a line that opens."""
    fields = "".join(
        f'<label>{text(say(f"builder.{part}", language))}<input type="text" data-part="{part}" autocomplete="off" '
        f'placeholder="{text(say(f"builder.example.{part}", language))}"></label>'
        for part in PARTS
    )
    put = f'<button type="button" data-id="build">{text(say("builder.put", language))}</button>'
    before = f'<button type="button" data-id="history">{text(say("history", language))}</button>'
    title = text(say("builder", language))
    return f'<details class="builder"><summary>{title}</summary><div>{fields}</div>{put}</details>{before}'


def typed(job: Job) -> str:
    """The prompt as it was typed."""
    return job.settings.prompt_template or job.settings.prompt


def history(queue: JobQueue, language: str) -> str:
    """The prompts of before, each once, the newest first; a click puts one into the form."""
    found: dict[str, str] = {}
    for job in queue.list(limit=LOOKED_THROUGH):
        found.setdefault(typed(job), job.id)
    rows = "".join(
        f'<li><button type="button" data-id="{id}">{text(words)}</button></li>'
        for words, id in list(found.items())[:SHOWN]
    )
    close = f'<button type="button" data-id="close">{text(say("history.close", language))}</button>'
    return f'<ul class="history">{rows or text(say("history.none", language))}</ul>{close}'


def prefix_offer(language: str) -> str:
    """Offers the beginning for a long prompt."""
    words, put = say("prefix.info", language), say("prefix.put", language)
    return f'<p class="note">{text(words)} <button type="button" data-id="prefix">{text(put)}</button></p>'
