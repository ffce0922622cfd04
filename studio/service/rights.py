"""What guests may do: decided by who shares the page, enforced by the gate for every request.

A guest is whoever comes from another machine than the page's, through a tunnel or a proxy included, without an API key
(keys have scopes of their own).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import IntEnum


class Right(IntEnum):
    """Each includes those before it. MAKE: queue videos. ALL: also stop, reorder, edit, mark, delete, download."""

    WATCH = 1
    MAKE = 2
    ALL = 3


NAMES = {right.name.lower(): right for right in Right}  # as the command line says them

# Codes of the sentences that say why something is not allowed.
LIMITS = {Right.WATCH: "guests_watch", Right.MAKE: "guests_make", Right.ALL: ""}

# Of the request in work; set by the gate. Whatever is not a request (a command, a test) may do everything.
_asking: ContextVar[Right] = ContextVar("right", default=Right.ALL)


def may(right: Right) -> bool:
    """Whether the request in work has that right: what the page greys, no protection by itself."""
    return _asking.get() >= right


def limit() -> str:
    """The code of the sentence that says why something is not allowed; "" where everything is."""
    return LIMITS[_asking.get()]


@contextmanager
def asking(right: Right) -> Iterator[None]:
    """What is called inside is called by somebody with that right."""
    token = _asking.set(right)
    try:
        yield
    finally:
        _asking.reset(token)
