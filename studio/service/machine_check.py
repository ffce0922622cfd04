"""`check` for the page: a process of its own, whose lines are shown as they come; and whether to offer it."""

import json
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.errors import StudioError

FILE = "check.json"  # in the cache of the output folder
OFFERED = "check.offered"  # beside check.json, once somebody did not want it
LONGEST_LINE = 2000
GRACE_SECONDS = 10.0  # from being asked to end until it is killed


@dataclass(frozen=True)
class CheckRow:
    """A finding: state ok, look, skipped, or "" for what else the process says; the sentence by language."""

    state: str
    name: str
    sentence: Mapping[str, str]


@dataclass(frozen=True)
class CheckView:
    """running: now. rows: of the run in work, or the last one. offered: there is a GPU, and it was never checked."""

    running: bool
    rows: tuple[CheckRow, ...]
    offered: bool


class MachineCheck:
    """One run at a time. Safe from any thread."""

    def __init__(self, file: Path, command: Sequence[str], *, has_gpu: bool) -> None:
        """file: check.json of the runs before. command: prints a JSON object per finding, and ends with its stdin."""
        self._file, self._command, self._has_gpu = file, command, has_gpu
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._rows: list[CheckRow] = []

    def look(self) -> CheckView:
        """How it stands now."""
        with self._lock:
            running = self._is_running()
            rows = self._rows if running or self._rows else _stored(self._file)
            fresh = self._has_gpu and not rows and not (self._file.parent / OFFERED).exists()
            return CheckView(running, tuple(rows), offered=fresh and not running)

    def start(self) -> None:
        """Begin a run, unless one is in work. Raises StudioError where no process can be started."""
        with self._lock:
            if self._is_running():
                return
            self._rows = []
            try:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,  # closed by the end of this process, however that comes
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    encoding="utf-8",
                    errors="replace",
                )
            except OSError as error:
                raise StudioError("system_refused", reason=error.strerror or str(error), file="check") from None
            threading.Thread(target=self._read, args=(self._process,), name="check", daemon=True).start()

    def stop(self) -> None:
        """Ask the run in work to end."""
        with self._lock:
            if self._process is not None and self._is_running():
                self._process.terminate()

    def decline(self) -> None:
        """Offer it no more."""
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            (self._file.parent / OFFERED).touch()

    def close(self) -> None:
        """End the run in work."""
        self.stop()
        with self._lock:
            process = self._process
        if process is None:
            return
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _read(self, process: subprocess.Popen[str]) -> None:
        """Until the process ends."""
        if process.stdout is None:
            return
        for line in process.stdout:
            if row := _row(line.strip()[:LONGEST_LINE]):
                with self._lock:
                    self._rows = [*self._rows, row]
        process.stdout.close()
        if process.stdin is not None:
            process.stdin.close()


def _row(line: str) -> CheckRow | None:
    """A line of the process: a finding, or words for somebody at a terminal."""
    if not line:
        return None
    with suppress(ValueError, TypeError, KeyError):
        return _finding(json.loads(line))
    return CheckRow("", "", {"en": line, "zh": line})


def _finding(told: Any) -> CheckRow:
    return CheckRow(str(told["state"]), str(told["name"]), {language: str(told[language]) for language in ("en", "zh")})


def _stored(file: Path) -> list[CheckRow]:
    """The findings of the last run; none where there was none, or the file is damaged."""
    try:
        return [_finding(told) for told in json.loads(file.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError, KeyError):
        return []
