"""Models that are not here, in one line; it opens what each would need of this machine, and fetches it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from studio.config import ModelConfig, model_named
from studio.errors import InputError, StudioError
from studio.service.backend import Backend, DiskNeed
from studio.service.downloads import SOURCES, Fetching
from studio.settings import GenerationSettings
from studio.ui import form_panels, markup
from studio.ui.labels import Updates, clicked, html, react
from studio.ui.markup import text
from studio.ui.strings import say, say_gb
from studio.units import GB

ACTS = """element.addEventListener('click', (event) => {
    const act = event.target.closest('[data-act]');
    if (!act) return;
    const source = element.querySelector('select')?.value ?? '';
    trigger('select', { act: act.dataset.act, id: act.dataset.model ?? '', source });
})"""
Data = Mapping[Component, Any]


@dataclass(frozen=True)
class Absent:
    """A model that is not here: what its usual video would need, what it takes on disk, how far its download is.

    counts: whether its tokenizers are here, so that a prompt's tokens can be counted.
    """

    model: ModelConfig
    plan: Mapping[str, Any] | StudioError
    disk: DiskNeed
    fetching: Fetching
    counts: bool


class AbsentPanel:
    """The line under the models. What is open and what was seen is kept by the page."""

    def __init__(self, backend: Backend, language: gr.HTML) -> None:
        self.backend, self.language = backend, language
        self.panel = html(elem_id="absent", js_on_load=ACTS)
        self.is_open = gr.Textbox("", visible="hidden")
        self.seen = gr.Textbox("", visible="hidden")

    @property
    def inputs(self) -> set[Component]:
        return {self.is_open, self.seen, self.language}

    @property
    def outputs(self) -> set[Component]:
        return {self.panel, self.is_open, self.seen}

    def wire(self) -> None:
        """Attach every handler."""
        react(self.panel.select, self.acted, self.inputs, self.outputs)

    def acted(self, data: Data, event: gr.EventData) -> Updates:
        """Open or close the list, fetch a model, or stop that."""
        act, language = clicked(event, "act"), data[self.language]
        is_open = bool(data[self.is_open]) != (act == "toggle")
        try:
            if act in ("get", "tokens") and self.backend.may_change():
                self._get(clicked(event, "id"), clicked(event, "source"), tokenizers_only=act == "tokens")
            if act == "stop" and self.backend.may_change():
                self.backend.downloads.stop()
        except StudioError as error:
            return self.show(is_open, language, markup.alert([markup.sentence(error, language)]))
        return self.show(is_open, language)

    def _get(self, name: str, source: str, *, tokenizers_only: bool) -> None:
        model = model_named(name, self.backend.models)
        if source not in SOURCES or source not in model.sources:
            raise InputError("download_source", model=name, source=source[:40])
        self.backend.downloads.start(name, source, tokenizers_only=tokenizers_only)

    def follow(self, data: Data) -> Updates:
        """What changed since the page last looked; {} where nothing did."""
        if self.stamp() == str(data[self.seen]):
            return {}
        return self.show(bool(data[self.is_open]), data[self.language])

    def stamp(self) -> str:
        """Changes with the models that are here, and with a download."""
        here = ",".join(name for name, there in self.backend.installed().items() if there)
        return f"{here} {self.backend.downloads.stamp()}"

    def show(self, is_open: bool, language: str, told: str = "") -> Updates:
        """The line, with what it opens. told: html under it."""
        installed = self.backend.installed()
        models = [model for model in self.backend.menu() if not installed[model.name]]
        fetched = any(self.backend.downloads.state(model.name).running for model in models)
        shown = [self._absent(model) for model in models] if is_open or fetched else []
        return {
            self.panel: absent_line(models, shown, language) + told,
            self.is_open: "open" if shown else "",
            self.seen: self.stamp(),
        }

    def _absent(self, model: ModelConfig) -> Absent:
        image = "given" if model.takes_image and not model.takes_text_alone else None
        usual = GenerationSettings(model.name, "plan", first_image=image).resolve(model)
        plan: Mapping[str, Any] | StudioError
        try:
            plan = self.backend.plan(usual)
        except StudioError as error:  # so many GPUs cannot share it
            plan = error
        counts = bool(self.backend.count_tokens(usual, "en").tokens)
        return Absent(model, plan, self.backend.disk(model.name), self.backend.downloads.state(model.name), counts)


def absent_line(models: list[ModelConfig], shown: list[Absent], language: str) -> str:
    """The line about models that are not here, and a card for each of `shown`; "" where all are."""
    if not models:
        return ""
    words = say("absent", language, count=len(models))
    if len(models) == 1:
        words = say("absent.one", language, model=models[0].title[language])
    line = (
        f'<button type="button" class="absent-line" data-act="toggle" aria-expanded="{str(bool(shown)).lower()}" '
        f'aria-controls="absent-list">{text(words)}</button>'
    )
    if not shown:
        return line
    cards = "".join(_card(absent, language) for absent in shown)
    keys = ["absent.checks", "absent.licence"]
    keys += ["absent.tokens_info"] if any(_offers_tokenizers(absent) for absent in shown) else []
    notes = "".join(f'<p class="note">{text(say(key, language))}</p>' for key in keys)
    return f'{line}<div id="absent-list">{_source(language)}{cards}{notes}</div>'


def _source(language: str) -> str:
    options = "".join(f'<option value="{key}">{text(say(f"absent.{key}", language))}</option>' for key in SOURCES)
    label = text(say("absent.source", language))
    return f'<label class="source"><span>{label}</span><select>{options}</select></label>'


def _card(absent: Absent, language: str) -> str:
    model = absent.model
    frames, width, height = (model.defaults[name] for name in ("num_frames", "width", "height"))
    video = say("absent.video", language, seconds=markup.seconds_words(frames), width=width, height=height)
    need, free = (say_gb(count / GB, language) for count in (absent.disk.need_bytes, absent.disk.free_bytes))
    lines = [
        f"<h2>{text(model.title[language])}</h2><p>{text(model.summary[language])}</p>",
        f'<p class="here">{text(say("absent.here", language))}: {text(video)}</p>',
        form_panels.plan_problem([markup.sentence(absent.plan, language)])
        if isinstance(absent.plan, StudioError)
        else form_panels.plan_line(absent.plan, language),
        f"<p>{text(say('absent.disk', language, need=need, free=free))}</p>",
    ]
    if (lack := absent.disk.need_bytes - absent.disk.free_bytes) > 0:
        words = say("absent.full", language, lack=say_gb(lack / GB, language))
        lines.append(f'<p class="lack">{text(words)}</p>')
    acts = _download(absent, language) + _tokenizers(absent, language)
    return f'<section>{"".join(lines)}<div class="fetch">{acts}</div></section>'


def _tokenizers(absent: Absent, language: str) -> str:
    """Asks whether to fetch what counts tokens, before the model itself."""
    return _button("tokens", absent.model.name, "absent.tokens", language) if _offers_tokenizers(absent) else ""


def _offers_tokenizers(absent: Absent) -> bool:
    return not absent.counts and not absent.fetching.running


def _download(absent: Absent, language: str) -> str:
    now, name = absent.fetching, absent.model.name
    done, total = (say_gb(count / GB, language) for count in (now.done_bytes, now.total_bytes))
    percent = 100 * now.done_bytes / now.total_bytes if now.total_bytes else 0
    amount = say("absent.progress", language, done=done, total=total)
    if now.running:
        words = amount if now.total_bytes else say("absent.begins", language)
        title = text(absent.model.title[language])
        return (
            f'<div class="fetching"><div class="bar" role="progressbar" aria-label="{title}" '
            f'aria-valuenow="{percent:.0f}"><i style="width:{percent:.1f}%"></i></div><span>{text(words)}</span>'
            f"{_button('stop', name, 'absent.stop', language)}</div>"
        )
    error = markup.alert([markup.sentence(now.error, language)]) if now.error else ""
    if now.total_bytes:
        stopped = text(say("absent.stopped", language, done=done, total=total))
        return f"{error}<p>{stopped}</p>{_button('get', name, 'absent.resume', language)}"
    return f"{error}{_button('get', name, 'absent.get', language)}"


def _button(act: str, name: str, key: str, language: str) -> str:
    return f'<button type="button" data-act="{act}" data-model="{name}">{text(say(key, language))}</button>'
