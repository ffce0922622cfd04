"""Several pictures at once: a video for each of them, with the settings of the form."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import gradio as gr
from gradio.components import Component

from studio.errors import InputError, ModelMissing, StudioError
from studio.media import read_image
from studio.service.submit import Rejected, runnable, submit
from studio.settings import GenerationSettings
from studio.ui import form, form_panels, markup
from studio.ui.create_tab import CreateTab
from studio.ui.labels import Updates, clicked, html, react
from studio.ui.markup import text
from studio.ui.strings import say
from studio.ui.theme import script

MOST = 20  # pictures; several.js uploads no more
Data = Mapping[Component, Any]


class SeveralPictures:
    """The offer, and what its answer does; page.js hands the files to its script."""

    def __init__(self, create: CreateTab, focus: gr.HTML) -> None:
        self.create, self.backend, self.focus = create, create.backend, focus
        self.offer = html(elem_id="several", js_on_load=script("several.js"))

    def wire(self, refresh: Callable[[Any], Any]) -> None:
        """Attach the handler; `refresh(event)` lets the page look at the queue once the event is done."""
        outputs = {self.offer, self.create.message, self.focus}
        refresh(react(self.offer.select, self.acted, self.create.inputs, outputs))

    def acted(self, data: Data, event: gr.EventData) -> Updates:
        """Offer a video for each picture, make them, or do nothing."""
        language, asked = data[self.create.language], clicked(event, "id")
        if asked not in ("offer", "make"):
            return {self.offer: "", self.create.message: ""}
        try:
            pictures = [self.create.uploads.read(path) for path in _paths(clicked(event, "paths"))]
            wanted = [self._wanted(data, picture) for picture in pictures]
            if asked == "offer" or not wanted:
                return self._offer(len(wanted), clicked(event, "left"), language)
            for one in wanted:
                runnable(self.backend, one)  # all of them or none
            jobs = [submit(self.backend, one, picture) for one, picture in zip(wanted, pictures, strict=True)]
        except ModelMissing:
            model = self.create.model(self.create.values(data))
            return {self.offer: "", self.create.message: form_panels.plan_missing(model, language)}
        except Rejected as error:
            return {self.offer: "", **self.create.complain(error.problems, language)}
        except StudioError as error:
            return {self.offer: "", **self.create.complain([error], language)}
        words = markup.alert([say("several.added", language, count=len(jobs))], "good")
        return {self.offer: "", self.create.message: words, self.focus: jobs[0].id}

    def _wanted(self, data: Data, picture: bytes) -> GenerationSettings:
        """The form's settings with the size that fits the picture, whose middle is used. Raises InputError."""
        image = read_image(picture, self.backend.config.image_limit_megapixels)
        values = self.create.values(data) | form.uncropped()
        values["size"] = form.nearest_size(self.create.model(values), *image.size)
        return replace(form.collect(values, self.backend.models, True), first_image=form.PICTURE)

    def _offer(self, count: int, left: str, language: str) -> Updates:
        failed = left if left.isascii() and left.isdecimal() and len(left) < 5 and int(left) else ""
        message = markup.alert([say("several.left", language, count=int(failed), limit=MOST)], "warn") if failed else ""
        if not count:
            return {self.offer: "", self.create.message: message}
        buttons = "".join(
            f'<button type="button" data-id="{id}">{text(words)}</button>'
            for id, words in (
                ("make", say("several.make", language, count=count)),
                ("leave", say("restore.leave", language)),
            )
        )
        title = text(say("several.offer", language, count=count))
        shown = f'<section class="differs" role="status"><b>{title}</b><p>{buttons}</p></section>'
        return {self.offer: shown, self.create.message: message}


def _paths(said: str) -> list[str]:
    """The paths that the browser names; Uploads judges each. Raises InputError where they are none."""
    try:
        paths = json.loads(said or "[]")
    except (ValueError, RecursionError):
        paths = None
    if not isinstance(paths, list) or len(paths) > MOST or not all(isinstance(path, str) for path in paths):
        raise InputError("upload_gone")
    return paths
