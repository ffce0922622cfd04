"""A process beside the tests that opens what strangers wrote, with a limit on time and on memory for each case.

The process serves many cases. One that ends it (a hang, a crash of native code, a refused allocation) is its own
outcome, and the next case gets a new process.
"""

import json
import os
import re
import resource
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MOST_SECONDS = 20  # of processor time, so that a crowded machine does not count; four times that on the clock
# What a terminal would act on, or could not write: controls, line breaks, marks of direction, halves of characters.
UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
MOST_BYTES = 1 << 30  # above what the process had before the case


@dataclass(frozen=True)
class Outcome:
    """kind: "sound", "refused" (a sentence), "traceback", "hang", "crash". peak_bytes: above what was before."""

    kind: str
    text: str
    seconds: float = 0.0
    peak_bytes: int = 0

    @property
    def is_well(self) -> bool:
        """Whether nothing went wrong, sound or not."""
        fast = self.seconds <= MOST_SECONDS and self.peak_bytes <= MOST_BYTES
        return self.kind in ("sound", "refused") and fast and not UNSAFE.search(self.text)


class Machine:
    """The process. `ask` names a function of PROBES in tests/hostile/probes.py and its arguments (plain data)."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, probe: str, *arguments: Any) -> Outcome:
        """What came of the case."""
        process = self._process = self._process or self._start()
        process.stdin.write(json.dumps([probe, arguments]).encode() + b"\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], 4 * MOST_SECONDS)
        line = process.stdout.readline() if ready else b""
        if line:
            return Outcome(**json.loads(line))
        process.kill()
        code, self._process = process.wait(), None
        late = not ready or code == -signal.SIGXCPU
        return Outcome("hang" if late else "crash", f"ended with {code}")

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "tests.hostile.machine"]
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )


def serve(probes: dict[str, Callable[..., str]]) -> None:
    """Answer every line of stdin with one on stdout. An empty answer of a probe is sound, else it is the sentence."""
    from models.regular_files import CheckpointError
    from studio.errors import StudioError

    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what a library prints is no answer
    for line in sys.stdin:
        probe, arguments = json.loads(line)
        before = _reset_peak()
        began = time.process_time()
        limit = int(began) + MOST_SECONDS + 5
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        # Address space, so that a far too large allocation is refused here instead of paid by the whole machine.
        resource.setrlimit(resource.RLIMIT_AS, (_now("VmSize") + 4 * MOST_BYTES, resource.RLIM_INFINITY))
        try:
            text = probes[probe](*arguments)
            kind = "refused" if text else "sound"
        except (StudioError, CheckpointError) as error:
            kind, text = "refused", str(error)
        except BaseException as error:  # noqa: BLE001 - whatever it is: that is what the tests look for
            kind, text = "traceback", "".join(traceback.format_exception(error))[-2000:]
        seconds, peak = time.process_time() - began, max(_now("VmHWM") - before, 0)
        answers.write(json.dumps({"kind": kind, "text": text, "seconds": seconds, "peak_bytes": peak}).encode() + b"\n")


def _reset_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return _now("VmRSS")


def _now(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    from tests.hostile.probes import PROBES

    serve(PROBES)
