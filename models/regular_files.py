"""Files that a stranger may have written. Needs no torch: every room opens such files through this one.

Only regular files are opened (a pipe or a device would hang the reader or never end), no more of them is read than a
limit, and whatever their reader raises becomes one sentence with the file's name.
"""

import errno
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

SMALL_FILE = 16 << 20  # bytes of a file that is read whole: json, tokenizers, headers; public ones have up to 2 MB
DEEPEST_JSON = 100  # objects and lists inside each other; ours have 4
LFS_POINTER = b"version https://git-lfs"
REASON_LENGTH = 160  # characters of a reader's own words


class CheckpointError(Exception):
    """A checkpoint cannot be used; the message is a sentence with the file, the numbers and what to do."""


def open_regular(path: Path) -> BinaryIO:
    """The file, unbuffered, to be read. Raises OSError, for everything that is no regular file too."""
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # non-blocking: a pipe has no writer to wait for
    try:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        return open(number, "rb", buffering=0)
    except BaseException:
        os.close(number)
        raise


def read_regular(path: Path, limit: int = SMALL_FILE) -> bytes:
    """The whole of a regular file of at most `limit` bytes. Raises OSError, for a longer one too."""
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > limit:
            raise OSError(errno.EFBIG, f"it has more than {limit >> 20} MB", str(path))
        return read_up_to(file, limit)


def read_up_to(file: BinaryIO, count: int) -> bytes:
    """The next `count` bytes, or what is left of the file. One read may return less (2 GB at most on Linux)."""
    pieces, left = [], count
    while left > 0 and (piece := file.read(min(left, 1 << 30))):
        pieces.append(piece)
        left -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


@contextmanager
def parsing(refuse: Callable[[Exception], Exception], *own: type[Exception]) -> Iterator[None]:
    """Whatever a parser of one stranger's file raises inside becomes refuse(error); errors of the kinds `own` pass.

    The one place for a broad except beside the worker's: a library that parses such a file may raise anything
    (RecursionError, OverflowError, ZeroDivisionError), and the file is what the reader of the sentence can mend.
    """
    try:
        yield
    except own:
        raise
    except Exception as error:  # noqa: BLE001 - see above
        raise refuse(error) from error


@contextmanager
def reading(path: Path, problem: str = "cannot be read") -> Iterator[None]:
    """`parsing` of a model's file: errors become CheckpointError with the path, `problem` and the reason."""

    def refuse(error: Exception) -> Exception:
        if isinstance(error, FileNotFoundError):
            return CheckpointError(f"{path} is missing. Download it.")
        if isinstance(error, OSError):
            return CheckpointError(f"{path} {problem}: {error.strerror or error}.")
        return CheckpointError(f"{path} {problem} ({reason_of(error)}). Download it again.")

    with parsing(refuse, CheckpointError):
        yield


def reason_of(error: BaseException) -> str:
    """Kind and first words of an error, whatever a stranger's file put into them."""
    lines = str(error)[:REASON_LENGTH].strip().splitlines() or [""]
    kind = type(error).__name__
    return f"{kind}: {lines[0]}" if lines[0] and not isinstance(error, ValueError) else lines[0] or kind


def read_json(path: Path) -> dict[str, Any]:
    """A json object of at most SMALL_FILE bytes and DEEPEST_JSON levels. Raises CheckpointError for anything else."""
    with reading(path, "is no readable json file"):
        text = read_regular(path)
        if text.startswith(LFS_POINTER):
            raise CheckpointError(f"{path} is a Git-LFS pointer: run `git lfs pull` there, or download it.")
        return parse_json(text)


def parse_json(text: bytes | str) -> dict[str, Any]:
    """A json object of at most DEEPEST_JSON levels. Raises ValueError or RecursionError."""
    data = json.loads(text)
    if not isinstance(data, dict):
        raise ValueError("it holds no object")
    level: list[Any] = [data]
    for _ in range(DEEPEST_JSON):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return data
    raise ValueError(f"it has more than {DEEPEST_JSON} levels")
