"""The evaluations of the page: folders beside its results, of which one at a time is made by a process of its own.

Each is made by `evaluate` with a folder of its own (asked.py), so that it goes on where it was after any end. The
process ends in order when it is asked to, or when the page is gone.
"""

import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from studio.errors import InputError, StudioError
from studio.evals.asked import FILE as ASKED
from studio.evals.asked import FOLDER, NAME, PICTURE_FOLDER, Asked, file_name, parse, read_asked
from studio.evals.progress import Progress, read_progress
from studio.evals.report import FILE as REPORT
from studio.evals.run import LOCK
from studio.filenames import write_whole
from studio.queue.locks import FileLock

OUTPUT = ".evaluate.err"  # what the process says
GRACE_SECONDS = 60.0  # from being asked to end until it is killed
MOST_UPLOADED = 4096  # files of one evaluation
LAST_OUTPUT_BYTES = 2048


class Stage(StrEnum):
    """What an evaluation does. ELSEWHERE: a command in a terminal makes it. ENDED: its report holds all."""

    DRAFT = "draft"
    RUNNING = "running"
    ELSEWHERE = "elsewhere"
    STOPPED = "stopped"
    FAILED = "failed"
    ENDED = "ended"


@dataclass(frozen=True)
class Shown:
    """An evaluation as it is now. asked: None where a command made it. error: language -> why it failed."""

    name: str
    stage: Stage
    changed: float
    asked: Asked | None
    progress: Progress
    has_report: bool
    error: Mapping[str, str] | None = None


class Evaluations:
    """All evaluations in `folder`. Safe from any thread.

    command(words): the whole command line of these words. check(words): raises InputError where it could not be made,
    else the number of its clips.
    """

    def __init__(
        self, folder: Path, command: Callable[[Sequence[str]], list[str]], check: Callable[[Sequence[str]], int]
    ) -> None:
        self.folder, self._command, self._check = folder.resolve(), command, check
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._running, self._asked_to_end = "", False  # the name of the one that the process makes, or made last

    def all(self) -> list[Shown]:
        """Every evaluation, the one begun last first."""
        try:
            names = [path.name for path in self.folder.iterdir() if path.is_dir() and NAME.fullmatch(path.name)]
        except OSError:
            return []
        return sorted((self.get(name) for name in names), key=lambda one: (one.changed, one.name), reverse=True)

    def get(self, name: str) -> Shown:
        """One of them. Raises InputError where there is none of that name."""
        folder = self.path(name)
        asked, progress = read_asked(folder), read_progress(folder)
        error = progress.error if progress else None
        if self._is_running(name):
            stage = Stage.RUNNING
        elif _is_held(folder):
            stage = Stage.ELSEWHERE
        elif error is not None:
            stage = Stage.FAILED
        elif progress is None and asked is not None and asked.source == FOLDER and not (folder / OUTPUT).exists():
            stage = Stage.DRAFT
        elif progress is not None and progress.ended:
            stage = Stage.ENDED
        elif name == self._running and not self._asked_to_end:  # the process ended without a word of its own
            stage, said = Stage.FAILED, _last_words(folder)
            error = {"en": said, "zh": said}
        else:
            stage = Stage.STOPPED
        begun = folder / (ASKED if asked else REPORT)
        changed = begun.stat().st_mtime if begun.exists() else folder.stat().st_mtime
        report = (folder / REPORT).is_file()
        return Shown(name, stage, changed, asked, progress or Progress(), report, error)

    def path(self, name: str) -> Path:
        """The folder of an evaluation. Raises InputError where there is none of that name."""
        folder = self.folder / name
        if not NAME.fullmatch(name) or not folder.is_dir():
            raise InputError("evaluation_unknown", value=name)
        return folder

    def create(self, name: str, told: Mapping[str, Any], *, paths: bool) -> str:
        """A new one, started unless its pictures are still to come; returns its name. Raises InputError.

        told: see asked.parse; "text" holds the prompts of a file.
        """
        asked = parse(told, told.get("own"), paths=paths)
        text = told.get("text", "")
        with self._lock:
            name = self._free_name(name or _named(asked))
            folder = self.folder / name
            try:
                folder.mkdir(parents=True)
                asked.store(folder, text if isinstance(text, str) else "")
                if asked.source != FOLDER:
                    self._start(name, asked)
            except StudioError:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            except OSError as error:
                shutil.rmtree(folder, ignore_errors=True)
                raise StudioError("write_failed", file=str(folder), reason=error.strerror or str(error)) from None
        return name

    def add_file(self, name: str, file: str, data: bytes) -> None:
        """A picture or a text of one that was not started yet. Raises InputError."""
        with self._lock:
            if self.get(name).stage != Stage.DRAFT:
                raise InputError("evaluation_unknown", value=name)
            folder = self.folder / name / PICTURE_FOLDER
            if folder.is_dir() and sum(1 for _ in folder.iterdir()) >= MOST_UPLOADED:
                raise InputError("evaluation_files", limit=MOST_UPLOADED)
            try:
                write_whole(folder / file_name(file), data)
            except OSError as error:
                raise StudioError("write_failed", file=file, reason=error.strerror or str(error)) from None

    def start(self, name: str) -> None:
        """Begin, or go on where it was. Raises InputError where it cannot be made, StudioError where another is."""
        with self._lock:
            shown = self.get(name)
            if shown.asked is None:
                raise InputError("evaluation_unknown", value=name)
            self._start(name, shown.asked)

    def stop(self, name: str) -> None:
        """Ask the process to end; its report is written then."""
        with self._lock:
            if self._is_running(name) and self._process is not None:
                self._asked_to_end = True
                self._process.send_signal(signal.SIGTERM)

    def remove(self, name: str) -> None:
        """Remove one with its clips. Raises InputError, StudioError while it is made."""
        with self._lock:
            shown = self.get(name)
            if shown.stage in (Stage.RUNNING, Stage.ELSEWHERE):
                raise StudioError("evaluation_running", name=name)
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def close(self) -> None:
        """End the process in order."""
        with self._lock:
            process = self._process
        if process is None or process.poll() is not None:
            return
        with suppress(OSError):
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()  # its worker ends by itself
            process.wait()

    def _start(self, name: str, asked: Asked) -> None:
        if self._process is not None and self._process.poll() is None:
            raise StudioError("evaluation_running", name=self._running)
        folder = self.folder / name
        words = asked.words(folder)
        count = self._check(words)
        known = read_progress(folder) or Progress(waiting=count)
        replace(known, ended=False, error=None).store(folder)
        with (folder / OUTPUT).open("wb") as output:
            self._process = subprocess.Popen(
                self._command(words),
                stdin=subprocess.PIPE,  # closed by the end of this process, however that comes
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C in the terminal reaches the page alone, which ends it
            )
        self._running, self._asked_to_end = name, False

    def _is_running(self, name: str) -> bool:
        return name == self._running and self._process is not None and self._process.poll() is None

    def _free_name(self, wanted: str) -> str:
        """The name, with a number where it is taken. Raises InputError where it is none."""
        if not NAME.fullmatch(wanted):
            raise InputError("evaluation_name", value=wanted)
        others = (f"{wanted[:50]}-{number}" for number in range(2, 1000))
        free = [name for name in (wanted, *others) if not (self.folder / name).exists()]
        return free[0]


def _named(asked: Asked) -> str:
    """A name that tells date, prompts and recipes."""
    prompts = Path(asked.prompts).stem if asked.source in ("suite", "path") else asked.source
    words = re.sub(r"[^A-Za-z0-9_-]+", "-", f"{prompts}-{'-'.join(asked.recipes)}").strip("-")
    return f"{time.strftime('%Y%m%d')}-{words}"[:50].rstrip("-")


def _is_held(folder: Path) -> bool:
    """Whether a process works in the folder."""
    if not (folder / LOCK).exists():
        return False
    lock = FileLock(folder / LOCK, "the page looks")
    if not lock.acquire():
        return True
    lock.release()
    return False


def _last_words(folder: Path) -> str:
    """The last line of what the process said, "-" for none."""
    try:
        said = (folder / OUTPUT).read_bytes()[-LAST_OUTPUT_BYTES:].decode("utf-8", errors="replace").strip()
    except OSError:
        return "-"
    return said.splitlines()[-1][:400] if said else "-"
