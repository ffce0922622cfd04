"""The Sound tab: any finished clip gets a soundtrack. Scripts edit it; here it is checked and put into the queue."""

import json
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

import gradio as gr
from gradio.components import Component

from studio.errors import InputError, StudioError
from studio.events import notice
from studio.queue.job import JobState
from studio.service.backend import Backend
from studio.service.drafts import DRAFT, make_draft
from studio.service.sound import clip_of, submit_sound, take_sound
from studio.service.uploads import Uploads
from studio.ui import markup
from studio.ui.calls import is_text
from studio.ui.labels import LAST, Updates, clicked, html, react
from studio.ui.markup import media_url
from studio.ui.sound_panel import answer, editor, status
from studio.ui.strings import say
from studio.ui.theme import script

SCRIPTS = (  # the last one draws
    *("sound_state.js", "sound_blocks.js", "sound_lengths.js", "sound_fields.js"),
    *("sound_draft.js", "sound_chat.js", "sound_tools.js"),
)
ASKS = "element.addEventListener('click', (event) => event.target.closest('[data-do=stop]') && trigger('select', {}));"
TRACK_LETTERS = 400_000  # of a track as json: 64 lines of 2000 characters, and 64 layers
MOST_LENGTHS = 64  # lines whose length is asked for at once, as many as a track may have
UNHEARD_LETTERS = 60  # of a line that a draft leaves out
RECENT = 20  # entries among which the newest clip is looked for
Data = Mapping[Component, Any]


class SoundTab:
    """The page keeps the ids of the clip and of the job that makes its sound; the track is the scripts' until it is
    asked for."""

    def __init__(self, backend: Backend, uploads: Uploads, language: Component, tabs: gr.Tabs) -> None:
        self.backend, self.uploads, self.language, self.tabs = backend, uploads, language, tabs
        self.clip = gr.Textbox("", visible="hidden", elem_id="sound-clip")
        self.job = gr.Textbox("", visible="hidden", elem_id="sound-job")
        self.message = html(elem_id="sound-message")
        self.status = html(elem_id="sound-status", js_on_load=ASKS)
        self.editor = html(elem_id="sound-editor", js_on_load="\n".join(map(script, SCRIPTS)))
        # An answer to the scripts each, since two that arrive at once would be one.
        self.answer, self.written, self.drafted, self.lengths = (html(elem_classes="sound-answer") for _ in range(4))
        self._numbers = count(1)

    @property
    def inputs(self) -> set[Component]:
        """What every handler reads."""
        return {self.clip, self.job, self.language}

    @property
    def outputs(self) -> set[Component]:
        """What `look` changes."""
        return {self.clip, self.job, self.message, self.status, self.editor}

    def wire(self, pane: gr.Tab, refresh: Callable[[Any], Any]) -> None:
        """Attach every handler. pane: the tab itself."""
        answered = {*self.outputs, self.answer}
        react(pane.select, self.shown, self.inputs, self.outputs)
        refresh(react(self.editor.select, self.acted, self.inputs, answered))
        react(self.editor.submit, self.lines_asked, self.inputs, {self.message, self.written})
        react(self.editor.play, self.draft_asked, self.inputs, {self.message, self.drafted})
        react(self.editor.input, self.lengths_asked, self.inputs, {self.lengths}, **LAST)
        refresh(react(self.status.select, self.stop, self.inputs, self.outputs))

    def opener(self, button: gr.Button, id: Component) -> None:
        """Let a button open the clip whose id the component holds."""

        def open_it(data: Data) -> Updates:
            return self.open(data[id], data[self.language]) | {self.tabs: gr.update(selected="sound")}

        react(button.click, open_it, {id, self.language}, {*self.outputs, self.tabs})

    def open(self, id: str, language: str) -> Updates:
        """A clip in the editor, with the sound that it has."""
        return self._show(id, "", language) | {self.job: "", self.status: "", self.message: ""}

    def shown(self, data: Data) -> Updates:
        """The tab is chosen: the clip it had, else the newest."""
        if clip_of(self.backend, data[self.clip]):
            return {self.clip: gr.skip()}
        entries = self.backend.gallery.list((JobState.FINISHED,), RECENT)
        newest = next((entry.id for entry in entries if clip_of(self.backend, entry.id)), "")
        return self.open(newest, data[self.language])

    def translated(self, data: Data) -> Updates:
        """The same in another language."""
        language, job = data[self.language], data[self.job]
        updates = self._show(data[self.clip], "", language) if data[self.clip] else {}
        return updates | {self.status: status(self.backend.queue.get(job), language) if job else "", self.message: ""}

    def look(self, data: Data) -> Updates:
        """How the sound is getting on; once it is there, its clip is the one that is edited."""
        job, language = self.backend.queue.get(data[self.job]) if data[self.job] else None, data[self.language]
        if job is None:
            return {}
        updates: Updates = {self.status: status(job, language)}
        if job.state == JobState.FINISHED:
            updates |= self._show(job.id, data[self.clip], language)
        return updates if job.state in (JobState.QUEUED, JobState.RUNNING) else updates | {self.job: ""}

    def acted(self, data: Data, event: gr.EventData) -> Updates:
        """What the scripts ask for, by the word in `do`. What is wrong is said, and nothing edited is lost."""
        acts = {"make": self._make, "without": self._without, "scene": self._scene, "preset": self._preset}
        acts["file"] = self._file
        act, language = acts.get(clicked(event, "do")), data[self.language]
        try:
            return {self.message: ""} | act(data, event) if act else {self.message: ""}
        except StudioError as error:
            return {self.message: markup.alert([markup.sentence(error, language)])}

    def lines_asked(self, data: Data, event: gr.EventData) -> Updates:
        """The language model that was named writes lines; they are shown, and no track changes."""
        if self.backend.chat is None:
            return {self.written: answer(next(self._numbers), written=None)}
        try:
            lines, other = self.backend.chat.lines(clicked(event, "text"), _seconds(event))
        except StudioError as error:
            return {
                self.message: markup.alert([markup.sentence(error, data[self.language])]),
                self.written: answer(next(self._numbers), written=None),
            }
        written = {"lines": lines, "other": other}
        return {self.message: "", self.written: answer(next(self._numbers), written=written)}

    def draft_asked(self, data: Data, event: gr.EventData) -> Updates:
        """The mix as it is edited, to be played with the video before a sound is made."""
        language = data[self.language]
        try:
            track, uploaded = _track(event)
            key, unheard = make_draft(self.backend, self.uploads, data[self.clip], track, uploaded)
        except StudioError as error:
            return {
                self.message: markup.alert([markup.sentence(error, language)]),
                self.drafted: answer(next(self._numbers), draft=None),
            }
        lines = "; ".join(line[:UNHEARD_LETTERS] for line in unheard)
        words = say("sound.draft_unheard", language, count=len(unheard), lines=lines)
        return {
            self.message: markup.alert([words], "warn") if unheard else "",
            self.drafted: answer(next(self._numbers), draft=media_url(key, DRAFT)),
        }

    def lengths_asked(self, data: Data, event: gr.EventData) -> Updates:
        """How long the robot says lines that are typed; null for those that only the made sound will tell."""
        words = clicked(event, "lines")
        try:
            asked = _json(words) if len(words) <= TRACK_LETTERS else None
        except InputError:  # no browser sends it
            asked = None
        lines = [line for line in asked if _is_line(line)][:MOST_LENGTHS] if isinstance(asked, list) else []
        found = [[*line, self.backend.sound.line_seconds(*line)] for line in lines]
        return {self.lengths: answer(next(self._numbers), lengths=found)}

    def stop(self, data: Data) -> Updates:
        """Ask the sound that is being made to end."""
        try:
            if self.backend.may_change():
                self.backend.queue.cancel(data[self.job])
        except StudioError as error:
            return {self.message: markup.alert([markup.sentence(error, data[self.language])])}
        return {self.message: ""} | self.look(data)

    def _make(self, data: Data, event: gr.EventData) -> Updates:
        return self._submit(data, *_track(event))

    def _without(self, data: Data, event: gr.EventData) -> Updates:
        return self._submit(data, None, {})

    def _submit(self, data: Data, track: Any, uploaded: Mapping[str, str]) -> Updates:
        job = submit_sound(self.backend, self.uploads, data[self.clip], track, uploaded)
        return {self.job: job.id, self.status: status(job, data[self.language])}

    def _scene(self, data: Data, event: gr.EventData) -> Updates:
        language = data[self.language]
        layers, unknown = self.backend.sound.scene(clicked(event, "text"))
        told = markup.alert([say("sound.scene_read_as", language, count=len(layers))], "good")
        if unknown:
            said = notice("scene_unknown", words="; ".join(unknown))
            told += markup.alert([markup.sentence(said, language)], "warn")
        return {self.answer: answer(next(self._numbers), layers=layers), self.message: told}

    def _preset(self, data: Data, event: gr.EventData) -> Updates:
        layers = self.backend.sound.preset(clicked(event, "name"), _seconds(event))
        return {self.answer: answer(next(self._numbers), layers=layers)}

    def _file(self, data: Data, event: gr.EventData) -> Updates:
        """A sound file was uploaded: it becomes a layer."""
        path = clicked(event, "path")
        name, seconds = take_sound(self.backend, self.uploads, path)
        return {self.answer: answer(next(self._numbers), file={"name": name, "path": path, "seconds": seconds})}

    def _show(self, id: str, follows: str, language: str) -> Updates:
        entry = clip_of(self.backend, id)
        host = self.backend.chat.host if self.backend.chat else ""
        shown = editor(entry, self.backend.sound.choices(), follows, language, host)
        return {self.clip: entry.id if entry else "", self.editor: shown}


def _track(event: gr.EventData) -> tuple[Any, dict[str, str]]:
    """The track as the scripts sent it, and the paths of uploaded files by their names. Raises InputError."""
    words = clicked(event, "track")
    if len(words) > TRACK_LETTERS:
        raise InputError("sound_recipe", reason=f"it has over {TRACK_LETTERS} characters")
    uploaded = _json(clicked(event, "uploads"))
    paths = uploaded.items() if isinstance(uploaded, dict) else ()
    if (track := _json(words)) is None:
        raise InputError("sound_empty")
    return track, {name: path for name, path in paths if isinstance(path, str)}


def _seconds(event: gr.EventData) -> float:
    """Of the clip, as the player knows it."""
    words = clicked(event, "seconds")
    plain = words.replace(".", "", 1)
    return float(words) if plain.isascii() and plain.isdecimal() else 1.0


def _is_line(line: Any) -> bool:
    """Text, voice and language of a line."""
    return isinstance(line, list) and len(line) == 3 and all(map(is_text, line))


def _json(words: str) -> Any:
    """Plain data, or InputError. NaN and infinities, which json.loads takes, are refused as numbers later."""
    try:
        return json.loads(words)
    except (ValueError, RecursionError):
        raise InputError("sound_recipe", reason="it is no json") from None
