"""stdout and stderr of a command: what can be closed, full or unable to show a character never costs the work.

A reader that went away (`| head`), a closed descriptor, an ASCII terminal: what is told is lost or escaped, no more.
"""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO


def prepare_streams() -> None:
    """To be called before anything is opened or printed.

    A descriptor 0 to 2 that is closed is given /dev/null: the next file would get its number, and be written to by
    whatever prints. Characters that the terminal cannot show are escaped.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    sys.stdout = _shown(sys.stdout, 1)
    sys.stderr = _shown(sys.stderr, 2)


@contextmanager
def forgiving() -> Iterator[None]:
    """What is printed inside may be lost: a stream that takes nothing more is pointed to /dev/null."""
    try:
        yield
    except OSError:
        drop_broken_streams()


def drop_broken_streams() -> None:
    """Point those of stdout and stderr that take nothing more to /dev/null."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stream.fileno())
                os.close(null)


def tell(words: str) -> None:
    """A line on stderr."""
    with forgiving():
        print(words, file=sys.stderr, flush=True)


def _shown(stream: TextIO | None, number: int) -> TextIO:
    if stream is None:  # closed when Python started
        return open(number, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream
