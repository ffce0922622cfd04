"""A sharp preview: the first frames of the clean-frame estimate, decoded by the VAE now and then."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import numpy as np
from torch import Tensor

from models.geometry import CHUNK_LATENTS
from studio.errors import Cancelled, StudioError
from studio.events import Event, Preview
from studio.filenames import PREVIEW
from studio.pipeline.preview import write_preview
from studio.pipeline.sampler import Step
from studio.settings import FPS

SHARE = 0.1  # of the time since denoising began that all sharp previews together may take

_log = logging.getLogger(__name__)


def never() -> bool:
    """The wish of a run that shows rough previews alone."""
    return False


@dataclass
class SharpPreview:
    """Replaces the rough preview while `wanted`, whenever a decoding keeps all of them within SHARE of the time.

    decode: latents (1, 3, c, h, w) -> uint8 (17, H, W, 3); one latent frame gives one. seconds: what the first decoding
    is expected to take; later ones are expected to take what the slowest took. Where the step after one is longer
    than the shortest one, the difference counts too: where memory is short, blocks had to be loaded again.
    """

    workdir: Path
    decode: Callable[[Tensor], np.ndarray]
    emit: Callable[[Event], None]
    wanted: Callable[[], bool]
    seconds: float
    clock: Callable[[], float] = monotonic
    began: float = field(init=False)
    left: float = field(init=False)  # when the last step's previews were done
    spent: float = field(default=0.0, init=False)
    shown: bool = field(default=False, init=False)
    broken: bool = field(default=False, init=False)
    took: float = field(default=0.0, init=False)  # the last step's decoding; 0.0: it had none
    usual: float = field(default=float("inf"), init=False)  # seconds of the shortest step

    def __post_init__(self) -> None:
        self.began = self.left = self.clock()

    def __call__(self, step: Step) -> bool:
        """Whether a sharp picture stands, so that no rough one is to replace it. Raises Cancelled.

        Where it cannot be decoded or written, the video is still made, and its previews are rough.
        """
        self._count(self.clock() - self.left)
        try:
            return self._show(step)
        finally:
            self.left = self.clock()

    def _count(self, seconds: float) -> None:
        """A step that took so long without its previews."""
        if self.took:
            extra = max(seconds - self.usual, 0.0)
            self.spent, self.seconds = self.spent + extra, max(self.seconds, self.took + extra)
        self.took, self.usual = 0.0, min(self.usual, seconds)

    def _show(self, step: Step) -> bool:
        if self.broken or not self.wanted():
            self.shown = False
            return False
        now = self.clock()
        if self.spent + self.seconds > SHARE * (now - self.began + self.seconds):
            return self.shown
        try:
            frames = self.decode(step.clean_estimate()[:, :CHUNK_LATENTS])
            write_preview(self.workdir / PREVIEW, frames, round(1000 / FPS))
        except Cancelled:
            raise
        except (StudioError, OSError) as error:
            self.broken, self.shown = True, False
            _log.warning("no sharp preview of step %d: %s", step.state.step, error)
            return False
        self.took = self.clock() - now
        self.spent, self.seconds, self.shown = self.spent + self.took, max(self.seconds, self.took), True
        self.emit(Preview(step.state.step, PREVIEW))
        return True
