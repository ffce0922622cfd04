"""What is done beside the denoising loop after a step: show a preview, save the latents, say that velocities grew."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from studio.errors import StudioError
from studio.events import Event, Preview
from studio.filenames import PREVIEW
from studio.pipeline.latents_file import save_latents
from studio.pipeline.preview import LatentColours, write_preview
from studio.pipeline.sampler import SamplerState, Step
from studio.settings import ResolvedSettings

SAVE_SECONDS = 20  # the latents on disk are at most this plus one step old
PREVIEW_SECONDS = 2  # between two previews, after the first steps
PREVIEW_STEPS = 3  # so many previews come at once
TOLD_GROWTHS = 2  # a velocity that grew once is a step of lower order, no more

_log = logging.getLogger(__name__)
Clock = Callable[[], float]  # seconds


@dataclass
class PreviewWriter:
    """Writes the clean-frame estimate as a small looping picture into the work folder and reports it."""

    workdir: Path
    colours: Callable[[], LatentColours | None]  # None while there are none: no preview then
    emit: Callable[[Event], None]
    clock: Clock = monotonic
    written_at: float = field(init=False)
    written: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.written_at = self.clock()

    def __call__(self, step: Step) -> None:
        """Where the picture cannot be written (a full disk), the video is still made."""
        number, colours = step.state.step, self.colours()
        if colours is None or (self.written >= PREVIEW_STEPS and self.clock() - self.written_at <= PREVIEW_SECONDS):
            return
        path = self.workdir / PREVIEW
        try:
            write_preview(path, colours.frames(step.clean_estimate()))
        except OSError as error:
            _log.warning("no preview of step %d: %s", number, error)
        else:
            self.emit(Preview(number, path.name))
        self.written += 1
        self.written_at = self.clock()


@dataclass
class LatentsSaver:
    """Saves the latents to the work folder now and then, so that the job can resume."""

    workdir: Path
    settings: ResolvedSettings
    provenance: dict[str, Any]
    clock: Clock = monotonic
    saved_at: float = field(init=False)

    def __post_init__(self) -> None:
        self.saved_at = self.clock()

    def __call__(self, step: Step) -> None:
        """A failed write is logged and retried at the next interval."""
        if self.clock() - self.saved_at <= SAVE_SECONDS:
            return
        try:
            self.save(step.state)
        except StudioError as error:
            _log.warning("the latents of step %d are not saved: %s", step.state.step, error)
        self.saved_at = self.clock()

    def save(self, state: SamplerState) -> None:
        """Save now. Raises StudioError."""
        save_latents(self.workdir, state, self.settings, self.provenance)


@dataclass
class GrowthWatch:
    """Says once a run that velocities have grown twice, also where they had before the run that it goes on from ended.

    notify(code, **values): reports a notice.
    """

    notify: Callable[..., None]
    told: bool = field(default=False, init=False)

    def __call__(self, state: SamplerState) -> None:
        """Look at a state."""
        if state.growths >= TOLD_GROWTHS and not self.told:
            self.told = True
            self.notify("velocity_growth", count=state.growths)
