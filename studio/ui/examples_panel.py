"""Requests worth trying, under the stage: a click fills the whole form.

The built-in models have theirs with what really came of them; a big one has prompts in its own manner.
"""

from collections.abc import Mapping
from typing import Any

import gradio as gr
from gradio.components import Component

from studio.config import Example, ModelConfig
from studio.examples import example_settings, first_image, thumbnail
from studio.ui.form_events import FormEvents
from studio.ui.job_panels import card
from studio.ui.labels import PICKS, Updates, clicked, html, react
from studio.ui.markup import media_url, text
from studio.ui.strings import say, say_move

PROMPTS = ("example.1", "example.2", "example.3")  # of the big models
Data = Mapping[Component, Any]


class ExamplesPanel:
    """The examples of the chosen model."""

    def __init__(self, events: FormEvents) -> None:
        self.events, self.create, self.backend = events, events.create, events.backend
        self.cards = html(elem_id="examples", js_on_load=PICKS)

    def wire(self) -> None:
        """Attach every handler. A model is also chosen by reused settings and files: hence `change`."""
        model = self.create.fields["model"]
        react(model.change, self.follow, {model, self.create.language}, {self.cards})
        outputs = {*self.create.shown, *self.events.picture, self.create.message}
        react(self.cards.select, self.choose, self.create.inputs, outputs)

    def follow(self, data: Data) -> Updates:
        """Another model has other examples."""
        return self.show(str(data[self.create.fields["model"]]), data[self.create.language])

    def show(self, model: str, language: str) -> Updates:
        """The examples that belong to a model, by name."""
        chosen = self.backend.models.get(model)
        return {self.cards: self._prompts(language) if chosen and chosen.sources else self._pictures(language)}

    def choose(self, data: Data, event: gr.EventData) -> Updates:
        """Fill the form with an example; a big model's prompt leaves everything else as it is."""
        key, language = clicked(event, "id"), data[self.create.language]
        if example := self.backend.examples.get(key):
            picture = first_image(example)
            given = picture.read_bytes() if picture else None
            return self.events.fill_from(example_settings(example, language), given, language)
        if key not in PROMPTS:
            return self.create.complain([], language)
        values = self.create.values(data) | {"prompt": say(key, language)}
        refreshed = self.create.refresh(values, bool(data[self.create.picture_size]), language)
        return refreshed | {self.create.fields["prompt"]: values["prompt"]}

    def _prompts(self, language: str) -> str:
        buttons = "".join(
            f'<button type="button" class="idea" data-id="{key}">{text(say(key, language))}</button>' for key in PROMPTS
        )
        return _section(f'<div class="ideas">{buttons}</div>', language)

    def _pictures(self, language: str) -> str:
        installed = self.backend.installed()
        cards = "".join(
            self._card(example, language)
            for example in self.backend.examples.values()
            if installed[example.model] and thumbnail(example, language).is_file()
        )
        return _section(f'<div class="examples">{cards}</div>', language) if cards else ""

    def _card(self, example: Example, language: str) -> str:
        badge = _badge(example, self.backend.models[example.model], language)
        return card(example.key, media_url(example.key, language), badge, example.prompt[language])


def _section(inside: str, language: str) -> str:
    return f"<h2>{text(say('examples', language))}</h2>{inside}"


def _badge(example: Example, model: ModelConfig, language: str) -> str:
    """What is special about an example, over its thumbnail, a line each."""
    move = example.settings.get("camera_move")
    score = example.settings.get("motion_score", model.defaults.get("motion_score", 0))
    words = [say("examples.turbo", language)] if model.turbo else []
    words += [say("examples.picture", language, score=f"{score:g}")] if example.first_image else []
    words += [say("examples.camera", language, move=say_move(move, language))] if move else []
    lines = "\n".join(words)
    return f"<b>{text(lines)}</b>" if lines else ""
