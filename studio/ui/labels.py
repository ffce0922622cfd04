"""Words of components that change with the language, and the one way events are wired."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar

import gradio as gr
from gradio.blocks import Block

from studio.ui.strings import say

Updates = dict[Block, Any]
# A click on something with a data-id in it selects that.
PICKS = """element.addEventListener('click', (event) => {
    const card = event.target.closest('[data-id]');
    if (card) trigger('select', { id: card.dataset.id });
})"""
# A frame of a player in it that is to be the first image selects that frame (player.js).
FRAMES = "element.addEventListener('use-frame', (event) => trigger('select', event.detail));"
# How an event is taken while the answer to the one before is on its way; gradio drops it otherwise.
LAST: dict[str, Any] = {"trigger_mode": "always_last"}  # the last one, once that answer is there
EVERY: dict[str, Any] = {"trigger_mode": "multiple"}  # each, at once
B = TypeVar("B", bound=Block)


def html(value: str = "", **options: Any) -> gr.HTML:
    """Our own html in our own style; the template never changes, so that text in a value is only ever a value."""
    return gr.HTML(value, apply_default_css=False, **options)


def visible_if(is_shown: bool) -> bool | Literal["hidden"]:
    """`visible` of an html: hidden stays in the page. Gradio 6.31 takes a part with visible=False off it; if that comes
    with the answer that the part waits for, its clock asks for the next frame for ever, and every such part costs the
    page half a percent of a core and keeps the screen drawing (statustracker: its timer has no end of its own)."""
    return is_shown or "hidden"


class Labels:
    """Which property of which component says which string."""

    def __init__(self) -> None:
        self._keys: dict[Block, Mapping[str, str]] = {}

    def add(self, component: B, **keys: str) -> B:
        """Let `component` say strings: property -> key of strings.py, as in `label="prompt"`."""
        self._keys[component] = keys
        for name, key in keys.items():
            setattr(component, name, say(key, "en"))
        return component

    @property
    def components(self) -> set[Block]:
        return set(self._keys)

    def updates(self, language: str) -> Updates:
        """Everything in another language."""
        said: dict[Block, dict[str, Any]] = {
            component: {name: say(key, language) for name, key in keys.items()}
            for component, keys in self._keys.items()
        }
        return {component: gr.update(**words) for component, words in said.items()}


def merge(*parts: Updates) -> Updates:
    """Updates of the same component joined; a later part wins."""
    merged: Updates = {}
    for part in parts:
        for component, update in part.items():
            both = isinstance(update, dict) and isinstance(merged.get(component), dict)
            merged[component] = merged[component] | update if both else update
    return merged


def clicked(event: gr.EventData, name: str) -> str:
    """What a click says under `name`, "" where it says nothing."""
    try:
        value = getattr(event, name)
    except (AttributeError, TypeError):
        return ""
    return value if isinstance(value, str) else ""


def react(
    trigger: Callable[..., Any],
    handler: Callable[..., Any] | None,
    inputs: Any,
    outputs: Iterable[Block],
    **options: Any,
) -> Any:
    """Wire an event as all of ours are: no overlay, no place in the api, past gradio's queue, values unread by gradio.

    Ours are short, and its queue makes statistics of the last 10,000 events at every one: with a look each second
    that would be its main work. Its reading of values compares a choice with choices that an answer still on its way
    may just have changed, and complains in its own words; form.collect checks everything in ours, after calls.py has
    refused what no browser sends.
    """
    fixed = {"show_progress": "hidden", "api_visibility": "private", "queue": False, "preprocess": False}
    return trigger(handler, inputs, set(outputs), **fixed, **options)
