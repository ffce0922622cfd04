"""How far an evaluation is, told in its folder by the process that makes it, for whoever looks from outside."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from studio.filenames import write_whole
from studio.stored_json import load_object, number

FILE = "progress.json"
MOST = 1e15  # of any number in it


@dataclass(frozen=True)
class Progress:
    """made, failed, waiting: clips; measured: of those made. seconds_left, bytes_left: as run.State, over all workers.
    notice: language -> what the clip in work has to say, as whom it waits for. ended: the report is of everything that
    could be made. error: language -> why it ended before that."""

    made: int = 0
    failed: int = 0
    waiting: int = 0
    measured: int = 0
    seconds_left: float | None = None
    bytes_left: float | None = None
    notice: Mapping[str, str] | None = None
    ended: bool = False
    error: Mapping[str, str] | None = None

    def store(self, folder: Path) -> None:
        """Write FOLDER/progress.json. Raises OSError."""
        write_whole(folder / FILE, json.dumps(asdict(self), ensure_ascii=False).encode())


def read_progress(folder: Path) -> Progress | None:
    """What was told last, None where nothing was."""
    told = load_object(folder / FILE)
    try:
        made, failed, waiting, measured = (
            int(number(told[name], 0, MOST)) for name in ("made", "failed", "waiting", "measured")
        )
        seconds, size = (
            None if told[name] is None else number(told[name], 0, MOST) for name in ("seconds_left", "bytes_left")
        )
        return Progress(
            made,
            failed,
            waiting,
            measured,
            seconds,
            size,
            notice=_words(told["notice"]),
            ended=told["ended"] is True,
            error=_words(told["error"]),
        )
    except (KeyError, ValueError, TypeError):
        return None


def _words(told: Any) -> Mapping[str, str] | None:
    return None if told is None else {language: str(told[language]) for language in ("en", "zh")}
