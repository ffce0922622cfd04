"""How long the phases of a job take: the planner's prediction, corrected by jobs that have finished.

A phase takes (predicted + FIXED) x factor. The factor is 1 until a job of the model has finished on this kind of
device. The first job of a process pays for what later ones find in memory, so each has its factors.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from studio.filenames import write_whole
from studio.stored_json import load_object, number

FILE_NAME = "job_times.json"
# Seconds that no network takes: opening files, importing transformers for CLIP, previews, ffmpeg. Measured with nano on
# a quiet two-core Xeon (tests/bench/LOG.md): first job of a process, later ones.
FIXED = {
    "first": {"load": 1.0, "encode_text": 2.5, "encode_image": 0.2, "denoise": 0.2, "decode": 0.2, "write": 0.1},
    "later": {"load": 0.1, "encode_text": 0.1, "encode_image": 0.1, "denoise": 0.2, "decode": 0.1, "write": 0.1},
}
# Phases with factors. Denoising has none: it corrects the speeds themselves (planner.calibrate).
LEARNED = ("load", "encode_text", "encode_image", "decode")
FACTORS = 1e-4, 1e4  # that a stored file may hold; measured ones lie between 0.1 and 30
LEAST = 1 / 8  # a phase that took less than this share was skipped: its prompt was in the cache, for example


@dataclass(frozen=True)
class JobTimes:
    """Factors of one model on one kind of device ("cpu", "cuda"): by turn ("first", "later") and phase."""

    factors: Mapping[str, Mapping[str, float]]

    def expected(self, predicted: Mapping[str, float], *, first: bool) -> dict[str, float]:
        """Seconds by phase. predicted: the planner's, which may lack phases that no network takes part in."""
        turn, other = ("first", "later") if first else ("later", "first")
        factors = {**self.factors.get(other, {}), **self.factors.get(turn, {})}
        return {
            phase: (predicted.get(phase, 0.0) + fixed) * factors.get(phase, 1.0) for phase, fixed in FIXED[turn].items()
        }

    def after(self, predicted: Mapping[str, float], took: Mapping[str, float], *, first: bool) -> "JobTimes":
        """The factors after a finished job: each moves half the way, by ratio, to what would have been right."""
        turn = "first" if first else "later"
        factors = dict(self.factors.get(turn, {}))
        for phase in LEARNED:
            found = took.get(phase, 0.0) / (predicted.get(phase, 0.0) + FIXED[turn][phase])
            if found >= LEAST:
                factors[phase] = (found * factors.get(phase, found)) ** 0.5
        return JobTimes({**self.factors, turn: factors})


def load_job_times(cache: Path, device: str, model: str) -> JobTimes:
    """The factors in the folder `cache`; none where its file is absent or damaged."""
    found = load_object(cache / FILE_NAME).get(_key(device, model), {})
    try:
        turns = {
            turn: {phase: number(factors[phase], *FACTORS) for phase in factors} for turn, factors in found.items()
        }
        return JobTimes(turns)
    except (TypeError, ValueError, AttributeError):
        return JobTimes({})


def store_job_times(cache: Path, device: str, model: str, times: JobTimes) -> None:
    """Write the factors. A folder that cannot be written is no error."""
    known = {**load_object(cache / FILE_NAME), _key(device, model): dict(times.factors)}
    with suppress(OSError):
        write_whole(cache / FILE_NAME, json.dumps(known, indent=1).encode())


def _key(device: str, model: str) -> str:
    return f"{device} {model}"
