"""Which right each handler of the page needs. One that is not named here needs all of them."""

import json
from collections.abc import Callable
from typing import Any

import gradio as gr

from studio.service.rights import Right

# Those that read, or change nothing but the page of whoever asks.
WATCHED = {
    "Page": ("open", "tick", "translate"),
    "FormEvents": ("model_chosen", "reset", "speed_chosen", "preset_chosen", "picture_given", "picture_removed",
                   "size_chosen", "magic_chosen", "settings_given", "settings_answered", "fixed", "tick_chosen",
                   "typed"),
    "FramePanel": ("given", "answered"),
    "WordsPanel": tuple(f"wire.<locals>.{name}" for name in ("began", "asked", "chosen")),
    "ExamplesPanel": ("follow", "choose"),
    "StagePanel": ("reuse",),
    "GalleryTab": ("pick", "filtered", "searched", "turn_newer", "turn_older", "look", "opened", "frame", "use"),
    "ComparePanel": ("compared",),
    "SoundTab": ("shown", "lengths_asked", "opener.<locals>.open_it"),
}  # fmt: skip
# Those that queue videos, and those that look themselves at whose job it is: Backend.may_change, acts.py.
MADE = {
    "StagePanel": ("generate", "again", "new_seed", "more_seeds", "more_motion", "stop", "ask"),
    "ChatPanel": ("acted",),
    "QueuePanel": ("acted", "edit", "leave"),
    "GalleryTab": ("remove", "bring_back", "marked", "marked_one", "remake", "resume"),
    "SeriesPanel": ("acted",),
    "SeveralPictures": ("acted",),
}


def right_of(handler: Callable[..., Any] | None) -> Right:
    """The right that a handler needs, by the class and the name of its function."""
    room, _, name = getattr(getattr(handler, "func", handler), "__qualname__", "").partition(".")
    if name in WATCHED.get(room, ()):
        return Right.WATCH
    return Right.MAKE if name in MADE.get(room, ()) else Right.ALL


def call_right(page: gr.Blocks) -> Callable[[bytes], Right]:
    """The right that the body of a call needs, which has passed call_check."""
    rights = {index: right_of(function.fn) for index, function in page.fns.items()}

    def needed(body: bytes) -> Right:
        return rights.get(json.loads(body)["fn_index"], Right.ALL)

    return needed
