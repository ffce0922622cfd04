"""What a running job reports: a small vocabulary of typed events."""

from dataclasses import dataclass
from typing import Any

from studio.messages import message

PHASES = ("load", "encode_text", "encode_image", "denoise", "decode", "write")


@dataclass(frozen=True)
class PhaseStarted:
    """A stage of the recipe begins. `phase` is one of PHASES."""

    phase: str


@dataclass(frozen=True)
class Progress:
    """Work done within a phase: `step` of `steps`, seconds since the phase began, seconds left (None: unknown)."""

    phase: str
    step: int
    steps: int
    seconds: float
    seconds_left: float | None = None
    vram_bytes: int = 0
    ram_bytes: int = 0


@dataclass(frozen=True)
class Preview:
    """A new picture of the clean-frame estimate lies at `path` (inside the job's folder)."""

    step: int
    path: str


@dataclass(frozen=True)
class Notice:
    """Something the user should know that is no failure (a cut prompt, a plan stepped down); as Failed says why."""

    code: str
    values: dict[str, Any]
    text: str


@dataclass(frozen=True)
class Finished:
    """The result is complete on disk. `seconds` per phase; peaks in bytes."""

    path: str
    seed: int
    seconds: dict[str, float]
    vram_peak_bytes: int
    ram_peak_bytes: int


@dataclass(frozen=True)
class Failed:
    """The job ended without a result; `code` and `values` make the sentence (messages.message)."""

    code: str
    values: dict[str, Any]
    text: str


def notice(code: str, **values: Any) -> Notice:
    """The notice of that code in messages.MESSAGES, with its English sentence."""
    return Notice(code, values, message(code, values))


Event = PhaseStarted | Progress | Preview | Notice | Finished | Failed
EVENTS: dict[str, type[Event]] = {
    kind.__name__: kind for kind in (PhaseStarted, Progress, Preview, Notice, Finished, Failed)
}
