"""Parts of the form that are our own: groups of choices, lists, sliders, numbers and places for files.

Gradio's own carry English in their code, and its radio buttons are no group for a keyboard. These are gradio's HTML
component with a script (assets/parts.js): the page updates them like any component, by `gr.update(value=...)`. They are
made by functions, since gradio writes a file beside the module of every class that is a component.
"""

import json
from collections.abc import Sequence
from typing import Any

import gradio as gr
from gradio.blocks import Block

# What a script gets. In quotes in it no property may be named: gradio takes that for the name of an event.
CALL = "studioParts.{kind}(element, trigger, props, watch, upload, {{{fixed}}})"
KINDS = ("choice", "number", "file")


def choice(
    choices: Sequence[tuple[str, Any]] = (),
    *,
    value: Any = None,
    as_list: bool = False,
    untitled: bool = False,
    **options: Any,
) -> gr.HTML:
    """One of several: radio buttons, or with as_list a list that opens. Its value is that of the chosen one.

    choices: (words, value); a value is a text or a number, and is sent back as what it is. untitled: its label is for
    screen readers alone. `gr.update` takes value, choices, label, info, interactive and visible.
    """
    fixed = {"list": as_list, "untitled": untitled}
    return _part("choice", value, fixed, choices=[list(pair) for pair in choices], **options)


def number(*, value: float | None = None, **options: Any) -> gr.HTML:
    """A number that is typed; "" for none."""
    return _part("number", value, {}, **options)


def slider(minimum: float, maximum: float, *, value: float, step: float, **options: Any) -> gr.HTML:
    """A number on a slider, and typed beside it. `gr.update` takes maximum too."""
    fixed = {"slider": True, "least": minimum, "most": maximum, "step": step}
    return _part("number", value, fixed, **options)


def file_place(accept: str, **options: Any) -> gr.HTML:
    """A place for one file: its value is the path of the uploaded file, "" or None for none.

    accept: what the file picker offers; what is dropped instead is judged by the program. `gr.update` takes words
    ({"drop": ..., "failed": ...}), label, value and visible; the event `upload` comes once a file has arrived.
    """
    return _part("file", None, {"accept": accept}, words={}, **options)


def kind_of(component: Block) -> str:
    """Which part a component is, "" for none of them."""
    script = (component.js_on_load if isinstance(component, gr.HTML) else "") or ""
    return next((kind for kind in KINDS if script.startswith(f"studioParts.{kind}(")), "")


def _part(kind: str, value: Any, fixed: dict[str, Any], **options: Any) -> gr.HTML:
    """fixed: what never changes. An update replaces all properties of a component that is not on the page yet."""
    said = ", ".join(f"{name}: {json.dumps(each)}" for name, each in fixed.items())
    script = CALL.format(kind=kind, fixed=said)
    return gr.HTML(value, html_template="", js_on_load=script, apply_default_css=False, **options)
