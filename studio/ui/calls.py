"""Calls of the page's handlers, checked before gradio sees them: a forged one is refused, not tried.

Only the form of a call is checked here: which handler, how many values, of which kind. What a value means is checked by
the handler, which says what is wrong in the reader's language.
"""

import json
import math
import re
from collections.abc import Callable
from typing import Any

import gradio as gr
from gradio.blocks import Block

from studio.service.uploads import Uploads
from studio.ui.parts import kind_of
from studio.ui.strings import LANGUAGES

KEYS = {"data", "fn_index", "session_hash", "event_data", "trigger_id"}
SESSION = re.compile(r"[A-Za-z0-9_-]{1,64}")
LARGEST = 1e300  # of a number: what cannot be a float of any unit is no number somebody typed
Kind = Callable[[Any], bool]


def call_check(page: gr.Blocks, uploads: Uploads) -> Callable[[bytes], str | None]:
    """The check for the body of a call: why it is none of this page's, None for a sound one."""
    kinds = {
        index: [_kind(component, uploads) for component in function.inputs]
        for index, function in page.fns.items()
        if function.api_visibility == "private"  # the named ones have a way of their own: client_api.py
    }

    def check(body: bytes) -> str | None:
        call = read_call(body, KEYS)
        if isinstance(call, str):
            return call
        index, values = call.get("fn_index"), call.get("data")
        if not is_int(index) or index not in kinds:
            return "there is no such handler"
        if not isinstance(values, list) or len(values) != len(kinds[index]):
            return "it has another number of values"
        if not all(kind(value) for kind, value in zip(kinds[index], values, strict=True)):
            return "a value is of another kind"
        session, event, trigger = (call.get(key) for key in ("session_hash", "event_data", "trigger_id"))
        if session is not None and not (isinstance(session, str) and SESSION.fullmatch(session)):
            return "the session is none"
        # A text field's change says the new text.
        if not (event is None or isinstance(event, dict) or is_text(event)) or not (trigger is None or is_int(trigger)):
            return "the event is none"
        return None

    return check


def read_call(body: bytes, keys: set[str]) -> dict[str, Any] | str:
    """The call in a body, an object of these keys alone; or why there is none."""
    try:
        call = json.loads(body)
    except (ValueError, RecursionError):
        return "it is no json"
    if not isinstance(call, dict) or set(call) - keys:
        return "it is no call, or holds more than one"
    return call


def _kind(component: Block, uploads: Uploads) -> Kind:
    """What a browser may send as the value of a component."""
    if component.elem_id == "language":
        return lambda value: isinstance(value, str) and value in LANGUAGES
    if kind_of(component) == "file":
        return lambda value: value in (None, "") or (is_text(value) and uploads.contains(value))
    if kind_of(component) == "number":
        return lambda value: value in (None, "") or _is_number(value)
    if kind_of(component) == "choice":  # of a length, a number
        return lambda value: value is None or _is_number(value) or is_text(value)
    if isinstance(component, gr.BrowserState):  # whatever a browser kept: form.restored takes nothing on trust
        return lambda value: _is_kept(value)
    return lambda value: value is None or is_text(value)


def _is_kept(value: Any) -> bool:
    plain = value is None or isinstance(value, bool) or _is_number(value) or is_text(value)
    return plain or (isinstance(value, dict) and all(_is_kept(kept) for kept in value.values()))


def is_int(value: Any) -> bool:
    """A whole number; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    """A number a browser can send; its infinities and NaN arrive as null, a forged NaN as a float."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) < LARGEST if isinstance(value, int) else math.isfinite(value)


def is_text(value: Any) -> bool:
    """Text that can be stored: json may hold halves of characters."""
    try:
        return isinstance(value, str) and bool(value.encode() or True)
    except UnicodeEncodeError:
        return False
