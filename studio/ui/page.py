"""The page: header, tabs, the language switch and the pulse by which every open page follows the queue."""

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
from gradio.components import Component

from studio.errors import StudioError
from studio.queue.job import JobState
from studio.service.backend import Backend
from studio.service.endpoints import Tab
from studio.service.uploads import Uploads
from studio.ui import form, markup
from studio.ui.client_api import ClientApi
from studio.ui.compare import ComparePanel
from studio.ui.create_tab import CreateTab
from studio.ui.examples_panel import ExamplesPanel
from studio.ui.form_events import FormEvents
from studio.ui.gallery_tab import GalleryTab
from studio.ui.labels import EVERY, Labels, Updates, html, merge, react
from studio.ui.other_tabs import add_tabs
from studio.ui.parts import choice
from studio.ui.sound_tab import SoundTab
from studio.ui.stage_panel import StagePanel
from studio.ui.strings import LANGUAGES, say
from studio.ui.system_bar import SystemBar
from studio.ui.theme import script
from studio.ui.words_panel import builder

# Browser storage is encrypted by gradio; a key of its own at every start would lose what was stored.
STORE_KEY = "step-video-studio"
LANGUAGE_OF_BROWSER = """(language, stored) =>
    [language || (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en"), stored]"""
Data = Mapping[Component, Any]


def build_page(backend: Backend, uploads: Uploads, has_login: bool = False, tabs: Sequence[Tab] = ()) -> gr.Blocks:
    """The whole page. It holds no state of a job: every open page reads the queue. has_login: with a way out. tabs: of
    other rooms."""
    with gr.Blocks(title=say("app.title", "en"), analytics_enabled=False, fill_width=True) as page:
        Page(backend, uploads, has_login, tabs).wire(page)
        ClientApi(backend).add()
    page.queue(api_open=False, default_concurrency_limit=None)
    return page


class Page:
    """All components, and the events that concern more than one part."""

    def __init__(self, backend: Backend, uploads: Uploads, has_login: bool = False, tabs: Sequence[Tab] = ()) -> None:
        self.backend, self.labels, self.has_login = backend, Labels(), has_login
        self.kept_language = gr.BrowserState("", storage_key="studio-language", secret=STORE_KEY)
        self.kept_form = gr.BrowserState({}, storage_key="studio-form", secret=STORE_KEY)
        self.seen = gr.Textbox(visible="hidden")  # what this page last showed
        with gr.Row(elem_id="top"):
            self.brand = html(markup.brand("en"))
            self.system = SystemBar(backend)
            choices = [(title, key) for key, title in LANGUAGES.items()]
            self.language = self.labels.add(
                choice(choices, value="en", untitled=True, elem_id="language"),
                label="language",
            )
            self.switch = html(markup.page_switches("en", has_login))
        with gr.Tabs(selected="create", elem_id="tabs") as self.tabs:
            with self.labels.add(gr.Tab(id="create"), label="tab.create"), gr.Row(elem_id="create"):
                with gr.Column(elem_id="inputs", scale=2, min_width=340):
                    self.create = CreateTab(backend, uploads, self.labels, self.language, self.kept_form)
                    self.events = FormEvents(self.create)
                with gr.Column(elem_id="outputs", scale=3, min_width=340):
                    self.stage = StagePanel(self.events, self.labels)
                    self.examples = ExamplesPanel(self.events)
            with self.labels.add(gr.Tab(id="gallery"), label="tab.gallery") as self.gallery_pane:
                self.gallery = GalleryTab(self.events, self.labels, self.tabs)
            with self.labels.add(gr.Tab(id="sound"), label="tab.sound") as self.sound_pane:
                self.sound = SoundTab(backend, uploads, self.language, self.tabs)
            add_tabs(tabs, self.labels)
        self.compare = ComparePanel(backend, self.language)
        self.pulse = html(elem_id="pulse", js_on_load=script("pulse.js"))  # asks for looks while somebody watches

    def wire(self, page: gr.Blocks) -> None:
        """Attach every handler."""
        self.events.wire()
        self.create.absent.wire()
        self.create.words.wire(self.create)
        self.create.check.wire()
        self.stage.wire(self._then_look)
        self.examples.wire()
        self.gallery.wire(self._then_look)
        self.compare.wire(self._then_look, (self.gallery.grid, self.stage.series.grid))
        self.sound.wire(self.sound_pane, self._then_look)
        self.sound.opener(self.stage.buttons["sound"], self.stage.focus)
        self.sound.opener(self.gallery.buttons["sound"], self.gallery.chosen)
        words = {*self.labels.components, *self.create.shown, self.switch, self.language, self.kept_language}
        words |= {self.brand, self.examples.cards, *self.create.chat.outputs}
        words |= {self.create.words.builder, self.create.words.history}
        everything = {*words, *self.looked, *self.gallery.outputs, *self.events.picture, self.create.message}
        react(page.load, self.open, [self.kept_language, self.kept_form], everything, js=LANGUAGE_OF_BROWSER)
        form_now = {*self.create.inputs, self.create.first_image, self.create.pending, self.create.pending_image}
        form_now.add(self.create.chat.written)
        everything.add(self.create.differs)
        react(self.language.input, self.translate, {*form_now, *self.looking}, {*everything, self.gallery.disk})
        shown = {*self.gallery.paged, self.gallery.disk}
        react(self.gallery_pane.select, self.gallery.opened, self.gallery.inputs, shown)
        shown = {*self.looked, *self.gallery.paged}
        react(self.pulse.select, self.tick, self.looking, shown)
        react(self.stage.focus.input, self.tick, self.looking, shown, **EVERY)

    @property
    def looking(self) -> set[Component]:
        """What a look at the queue reads of the page."""
        form_part = {self.create.fields["model"], self.create.picture_size}
        read = {*form_part, *self.create.absent.inputs, *self.gallery.inputs, *self.sound.inputs}
        return {self.seen, self.stage.focus, *read}

    @property
    def looked(self) -> set[Component]:
        """What a look at the queue changes, the gallery apart."""
        models = {self.create.fields["model"], *self.create.absent.outputs}
        shown = {*models, *self.stage.outputs, *self.sound.outputs}
        return {self.seen, *shown, *self.create.check.outputs, self.system.bar, self.system.banner}

    def open(self, language: object, stored: object) -> Updates:
        """A visitor comes (back): their language, their form as they left it, and the job that runs."""
        language = language if isinstance(language, str) and language in LANGUAGES else "en"
        offered = {model.name: model for model in self.backend.menu()}
        values = form.restored(stored, offered, self.backend.first_model())
        updates = merge(
            self._words(language),
            self.create.show(values, False, language, words=True),
            self.create.absent.show(False, language),
            self.create.chat.show("", language),
            self.examples.show(values["model"], language),
            self._look("", "", language),
            self.gallery.open(language),
        )
        return merge(updates, {self.language: gr.update(value=language)})

    def translate(self, data: Data) -> Updates:
        """Every word in the other language; nothing else changes."""
        language, values = data[self.language], self.create.values(data)
        return merge(
            self._words(language),
            self.create.show(values, bool(data[self.create.picture_size]), language),
            self.create.absent.show(bool(data[self.create.absent.is_open]), language),
            self.create.chat.show(str(data[self.create.chat.written] or ""), language),
            self.examples.show(values["model"], language),
            self._look("", data[self.stage.focus], language),
            self.gallery.look(data),
            self.gallery.opened(data),  # what it takes on disk, in the other language
            self.sound.translated(data),
            self.events.drawn_again(data),
            self.events.difference_again(data),
            {self.create.message: "", self.kept_language: language},
        )

    def tick(self, data: Data) -> Updates:
        """Look at the queue, and send only what changed; a queue that cannot be read says why."""
        language = data[self.language]
        try:
            absent = self.create.absent.follow(data)
            models = self.create.models_again(data) if absent else {}
            looked = self._look(str(data[self.seen]), data[self.stage.focus], language)
            return looked | absent | models | self._new_in_gallery(data) | self.sound.look(data)
        except StudioError as error:
            return {self.system.banner: markup.alert([markup.sentence(error, language)])}

    def _look(self, seen: str, focus: str, language: str) -> Updates:
        updates = self.system.look(language) | self.create.check.look(language)
        now = self._stamp(focus, language)
        if now == seen and not self._running():
            return updates
        line = now.split("|")[1:4]
        updates |= self.stage.look(focus, language, line=line != seen.split("|")[1:4])
        return updates | {self.seen: self._stamp(updates.get(self.stage.focus, focus), language)}

    def _new_in_gallery(self, data: Data) -> Updates:
        """The gallery when a job began or ended; the steps of a running one do not concern it."""
        if self._epoch() == str(data[self.seen]).rpartition("|")[2]:
            return {}
        return self.gallery.tiles(data)

    def _stamp(self, focus: str, language: str) -> str:
        line = self.stage.queue.stamp().replace("|", "")
        return f"{self.backend.queue.version()}|{focus}|{language}|{line}|{self._epoch()}"

    def _epoch(self) -> str:
        return self._running() or str(self.backend.queue.version())

    def _running(self) -> str:
        return " ".join(job.id for job in self.backend.queue.list(states=(JobState.RUNNING,)))

    def _words(self, language: str) -> Updates:
        shown: Updates = {
            self.brand: markup.brand(language),
            self.create.words.builder: builder(language),
            self.create.words.history: "",
            self.switch: markup.page_switches(language, self.has_login),
        }
        return {**self.labels.updates(language), **shown}

    def _then_look(self, event: Any) -> Any:
        return react(event.then, self.tick, self.looking, {*self.looked, *self.gallery.paged})
