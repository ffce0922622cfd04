"""A frame of a finished video as the first image: decoded from its latents where they are kept, else from the mp4.

A worker decodes it between two jobs. Meanwhile a bar says what it waits for and offers the mp4's frame at once; it asks
by itself (frame_wait.js), so that the page keeps nothing.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from studio.errors import InputError
from studio.media import png_bytes, read_frame
from studio.queue.frames import WishState
from studio.queue.job import JobState
from studio.service.media import exact_frame, find_media, frame_wish
from studio.ui import markup
from studio.ui.labels import Updates, clicked
from studio.ui.strings import say

if TYPE_CHECKING:
    from studio.ui.form_events import FormEvents

Data = Mapping[Component, Any]


class FramePanel:
    """The bar over the form while a frame is decoded, and what becomes of the frame."""

    def __init__(self, events: "FormEvents") -> None:
        self.events, self.create, self.backend = events, events.create, events.create.backend
        self.bar = events.create.frame_bar

    def given(self, data: Data, event: gr.EventData) -> Updates:
        """A frame that somebody saw in a player is to be the first image."""
        id, number = clicked(event, "id"), self._number(event)
        if number is None or not self._is_there(id):
            return self._gone(data)
        if (exact := exact_frame(self.backend, id, number)) is not None:
            return self._use(data, exact, "frame.exact", number)
        wish, frames = frame_wish(self.backend, id, number), self.backend.frames
        if wish is None or frames is None or not self.backend.may_make():
            return self._from_mp4(data, id, number)
        asked = frames.ask(wish)
        if not asked:
            return self._from_mp4(data, id, number)
        waits = self._bar(asked, id, number, WishState.WAITING, data[self.create.language])
        return {self.bar: waits, self.create.message: ""}

    def answered(self, data: Data, event: gr.EventData) -> Updates:
        """The bar asks what became of its frame, or a button of it was clicked."""
        act, wish, id, number = (*(clicked(event, name) for name in ("act", "wish", "id")), self._number(event))
        frames = self.backend.frames
        if frames is None or number is None or not self._is_there(id):
            return self._gone(data)
        state = frames.state(wish)
        if act == "look" and state in (WishState.WAITING, WishState.TAKEN):
            shown = self._bar(wish, id, number, state, data[self.create.language])
            return {self.bar: gr.skip() if clicked(event, "shown") == self._words_key(state) else shown}
        picture, failure = frames.picture(wish), frames.failure(wish)
        frames.withdraw(wish)
        if act == "leave":
            return {self.bar: ""}
        if act == "look" and picture is not None:
            return self._use(data, picture, "frame.exact", number)
        why = markup.sentence(failure, data[self.create.language]) if act == "look" and failure else ""
        return self._from_mp4(data, id, number, why)

    def _from_mp4(self, data: Data, id: str, number: int, why: str = "") -> Updates:
        """As the mp4 shows it. why: what kept it from being decoded."""
        path = find_media(self.backend, id, "result")
        try:
            picture = png_bytes(read_frame(path, number)) if path is not None else None
        except InputError as error:
            return {self.bar: "", **self.create.complain([error], data[self.create.language])}
        return self._gone(data) if picture is None else self._use(data, picture, "frame.from_mp4", number, why)

    def _use(self, data: Data, picture: bytes, key: str, number: int, why: str = "") -> Updates:
        said = f"{why} {say(key, data[self.create.language], frame=number + 1)}".strip()
        return self.events.use_picture(data, picture, said) | {self.bar: ""}

    def _is_there(self, id: str) -> bool:
        path = find_media(self.backend, id, "result")
        return path is not None and path.suffix == ".mp4"

    def _gone(self, data: Data) -> Updates:
        gone = markup.alert([say("gallery.gone", data[self.create.language])])
        return {self.bar: "", self.create.message: gone}

    def _number(self, event: gr.EventData) -> int | None:
        """The frame that a click means, counted from 0; None where it is no number of one."""
        said = clicked(event, "frame")
        return int(said) if said.isascii() and said.isdecimal() and len(said) < 5 else None

    def _words_key(self, state: WishState) -> str:
        if state is WishState.TAKEN:
            return "frame.decodes"
        running = self.backend.queue.list(states=(JobState.RUNNING,), limit=1)
        return "frame.waits" if running else "frame.starts"

    def _bar(self, wish: str, id: str, number: int, state: WishState, language: str) -> str:
        key = self._words_key(state)
        told = f'data-wish="{wish}" data-id="{id}" data-frame="{number}" data-shown="{key}"'
        words = markup.text(say(key, language, frame=number + 1))
        buttons = "".join(
            f'<button type="button" data-act="{act}">{markup.text(say(said, language))}</button>'
            for act, said in (("mp4", "frame.mp4_now"), ("leave", "frame.leave"))
        )
        return f'<div class="editing waits" role="status" {told}><span>{words}</span><b>{buttons}</b></div>'
