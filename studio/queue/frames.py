"""Frames that the page wants of finished videos, exactly as they are decoded from latents.

A wish is a file in folder/frames, which a worker takes between two jobs and answers with another one: ID.json,
ID.taken while it is worked at, then ID.png or ID.failed. Whoever wished takes the answer away.
"""

import json
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from studio.errors import StudioError
from studio.events import Failed
from studio.filenames import write_whole
from studio.queue.clock import CLOCK, Clock

MOST_WISHES = 16  # in the folder at once, answers included
KEPT_SECONDS = 3600.0  # a wish or an answer that nobody came back for
WISH_ID = re.compile(r"[0-9a-f]{16}")


class WishState(StrEnum):
    """What became of a wish. GONE: there is none of that id (any more)."""

    WAITING = "json"
    TAKEN = "taken"
    DONE = "png"
    FAILED = "failed"
    GONE = "gone"


@dataclass(frozen=True)
class FrameWish:
    """latents: the file they are in. frame: counted from 1 in the video as it is played. seam: the video follows
    another one in that one's colours, without its own first frame."""

    latents: Path
    frame: int
    seam: bool = False


class FrameDesk:
    """The wishes of one queue, for the page and for its workers. Nothing is promised to outlive a power cut."""

    def __init__(self, queue_folder: Path, clock: Clock = CLOCK) -> None:
        self._folder, self._clock = queue_folder / "frames", clock

    def ask(self, wish: FrameWish) -> str:
        """The id of a new wish; "" where too many are there or the disk takes none."""
        self._tidy()
        if sum(1 for _ in self._folder.glob("*")) >= MOST_WISHES:
            return ""
        id = secrets.token_hex(8)
        try:
            write_whole(self._path(id, WishState.WAITING), json.dumps(asdict(wish), default=str).encode())
        except OSError:
            return ""
        return id

    def state(self, id: str) -> WishState:
        """What became of a wish. The answer counts before the wish: a worker writes the one, then removes the other."""
        order = (WishState.DONE, WishState.FAILED, WishState.TAKEN, WishState.WAITING)
        found = (state for state in order if WISH_ID.fullmatch(id) and self._path(id, state).is_file())
        return next(found, WishState.GONE)

    def picture(self, id: str) -> bytes | None:
        """The png of a wish that is DONE."""
        with suppress(OSError):
            return self._path(id, WishState.DONE).read_bytes() if WISH_ID.fullmatch(id) else None
        return None

    def failure(self, id: str) -> Failed | None:
        """Why a wish FAILED."""
        with suppress(OSError, ValueError, TypeError):
            if WISH_ID.fullmatch(id):
                return Failed(**json.loads(self._path(id, WishState.FAILED).read_bytes()))
        return None

    def withdraw(self, id: str) -> None:
        """The answer was taken, or is not wanted any more."""
        for state in WishState if WISH_ID.fullmatch(id) else ():
            with suppress(OSError):
                self._path(id, state).unlink(missing_ok=True)

    def waits(self) -> bool:
        """Whether a worker could take one. One look into a folder that is mostly empty or absent."""
        return next(self._folder.glob(f"*.{WishState.WAITING}"), None) is not None

    def serve(self, make: Callable[[FrameWish], bytes]) -> bool:
        """Take one wish and answer it with what `make` returns, a png, or with the StudioError that it raises.

        False where there was none. Any other error is raised; the wish is then gone.
        """
        for path in sorted(self._folder.glob(f"*.{WishState.WAITING}")):
            taken = path.with_suffix(f".{WishState.TAKEN}")
            try:
                path.rename(taken)
            except OSError:
                continue  # withdrawn, or another worker has it
            self._answer(taken, make)
            return True
        return False

    def _answer(self, taken: Path, make: Callable[[FrameWish], bytes]) -> None:
        try:
            told = json.loads(taken.read_bytes())
            picture = make(FrameWish(Path(told["latents"]), int(told["frame"]), bool(told["seam"])))
            if taken.is_file():  # still wanted
                write_whole(taken.with_suffix(f".{WishState.DONE}"), picture)
        except (StudioError, OSError) as error:
            code, values = (error.code, error.values) if isinstance(error, StudioError) else ("system_refused", {})
            failed = json.dumps(asdict(Failed(code, values, str(error))), default=str)
            if taken.is_file():
                with suppress(OSError):
                    write_whole(taken.with_suffix(f".{WishState.FAILED}"), failed.encode())
        finally:
            taken.unlink(missing_ok=True)

    def _tidy(self) -> None:
        """Remove what nobody came back for, also what a killed worker had taken."""
        for path in self._folder.glob("*"):
            with suppress(OSError):
                if self._clock.now() - path.stat().st_mtime > KEPT_SECONDS:
                    path.unlink()

    def _path(self, id: str, state: WishState) -> Path:
        return self._folder / f"{id}.{state}"
