"""What guests may do: decided by who shares the page, enforced by the gate for every request.

A guest is whoever comes from another machine than the page's, through a tunnel or a proxy included, without an API key
(keys have scopes of their own).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import IntEnum


class Right(IntEnum):
    """Each includes those before it. MAKE: queue videos, and stop, edit, mark and remove one's own. ALL: do that with
    everybody's, reorder, delete and download."""

    WATCH = 1
    MAKE = 2
    ALL = 3


@dataclass(frozen=True)
class Asker:
    """Who asks. maker: how the queue names what this guest makes, "" for whoever is none (guests.py)."""

    right: Right = Right.ALL
    maker: str = ""


NAMES = {right.name.lower(): right for right in Right}  # as the command line says them

# Codes of the sentences that say why something is not allowed.
LIMITS = {Right.WATCH: "guests_watch", Right.MAKE: "guests_make", Right.ALL: ""}

NO_GUEST = Asker()

# Of the request in work; set by the gate. Whatever is not a request (a command, a test) may do everything.
_asking: ContextVar[Asker] = ContextVar("asker", default=NO_GUEST)


def may(right: Right) -> bool:
    """Whether the request in work has that right."""
    return _asking.get().right >= right


def may_change(maker: str) -> bool:
    """Whether the request in work may change what that maker asked for."""
    asker = _asking.get()
    return may(Right.ALL) or (may(Right.MAKE) and bool(asker.maker) and asker.maker == maker)


def maker() -> str:
    """How the queue names what the request in work makes."""
    return _asking.get().maker


def limit() -> str:
    """The code of the sentence that says why something is not allowed; "" where everything is."""
    return LIMITS[_asking.get().right]


@contextmanager
def asking(right: Right, maker: str = "") -> Iterator[None]:
    """What is called inside is called by somebody with that right."""
    token = _asking.set(Asker(right, maker))
    try:
        yield
    finally:
        _asking.reset(token)
