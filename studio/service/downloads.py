"""Models fetched while the page is open: each by a process of its own, which is stopped and goes on where it was."""

import json
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from studio.errors import StudioError
from studio.events import Failed

SOURCES = ("hf", "modelscope")
STOP_SECONDS = 10  # from being asked to end to being ended


@dataclass(frozen=True)
class Fetching:
    """How far a model is. total_bytes 0: not known yet. error: why the last try ended."""

    running: bool = False
    done_bytes: int = 0
    total_bytes: int = 0
    error: Failed | None = None


class Downloads:
    """At most one model is fetched at a time: they share files, and the line."""

    def __init__(
        self, command: Callable[[str, str, bool], Sequence[str]], progress: Callable[[str], tuple[int, int]]
    ) -> None:
        """command(model, source, tokenizers_only): prints a json object a line (`download --json`).
        progress(model): how many bytes are there, and of how many; (0, 0) where nothing was begun."""
        self._command, self._progress = command, progress
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._model = ""
        self._errors: dict[str, Failed] = {}

    def start(self, model: str, source: str, *, tokenizers_only: bool = False) -> None:
        """Begin, or go on: the whole model, or what counts tokens.

        Raises StudioError while another one is fetched, OSError where no process can be made.
        """
        with self._lock:
            if self._running():
                raise StudioError("download_busy", model=self._model)
            self._errors.pop(model, None)
            self._model = model
            self._process = subprocess.Popen(
                list(self._command(model, source, tokenizers_only)),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            threading.Thread(target=self._read, args=(self._process, model), name="download", daemon=True).start()

    def stop(self) -> None:
        """End the download; what has come stays, and the next start goes on from there."""
        with self._lock:
            process = self._process if self._running() else None
            self._process = None
        if process is not None:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def state(self, model: str) -> Fetching:
        """How far the download of a model is, also one that an earlier run of the program began."""
        done, total = self._progress(model)
        return Fetching(self._running() and self._model == model, done, total, self._errors.get(model))

    def stamp(self) -> str:
        """Changes while something is fetched, by thousandths, and when it ends."""
        if not self._running():
            return f"{len(self._errors)}" if self._errors else ""
        now = self.state(self._model)
        return f"{self._model}{1000 * now.done_bytes // max(now.total_bytes, 1)}"

    def _running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _read(self, process: subprocess.Popen[str], model: str) -> None:
        for line in process.stdout or ():
            if error := _error(line):
                self._errors[model] = error
        if process.wait() > 0 and model not in self._errors:
            values = {"model": model, "exit": process.returncode}
            self._errors[model] = Failed("download_ended", values, str(StudioError("download_ended", **values)))


def _error(line: str) -> Failed | None:
    """What a line of the process says went wrong."""
    try:
        told = json.loads(line)
        return Failed(str(told["error"]), dict(told["values"]), str(told["text"]))
    except (ValueError, KeyError, TypeError):
        return None
