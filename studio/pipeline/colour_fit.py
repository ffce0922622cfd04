"""The colours of an opened model's previews: known, or fitted in a thread beside the steps of the first video.

Denoising never waits for the fit. It has a VAE of its own on the CPU in float32, and none of the memory manager's
buffers, so that it changes no bit of a video.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from models.checkpoint import build_vae, load_vae
from models.regular_files import CheckpointError
from studio.errors import Cancelled, StudioError
from studio.memory.sessions import VAESession
from studio.pipeline.finite import check_finite
from studio.pipeline.preview import PICTURE_SIDE, LatentColours

_log = logging.getLogger(__name__)


class PreviewColours:
    """The map from latents to colour of one VAE. `beside` fits it where it is not known."""

    def __init__(self, vae_folder: Path, path: Path, channels: int) -> None:
        """vae_folder: checkpoint folder of the VAE, perhaps with its map; path: where a fitted map is stored."""
        self.path, self._folder, self._channels = path, vae_folder, channels
        self._map = LatentColours.shipped(vae_folder, channels)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wanted = self._failed = self._cramped = False
        self._moments: list[torch.Tensor] = []  # of the pictures that are encoded already

    def now(self) -> LatentColours | None:
        """The map, None while there is none. Never waits."""
        return self._map

    @contextmanager
    def beside(self, room_bytes: int) -> Iterator[None]:
        """Fit beside what is done inside, where no map is known and `room_bytes` of RAM hold a VAE.

        At the end nothing is waited for: the picture in work is encoded, and the next call goes on with the rest.
        """
        if self._map is None:
            self._map = LatentColours.load(self.path, self._channels)
        if self._map is None and not self._failed:
            self._cramped = room_bytes < self._needed_bytes()
        if self._map is not None or self._failed or self._cramped:
            yield
            return
        with self._lock:
            self._wanted = True
            if self._thread is None:
                # No daemon: the end of the program waits for the picture in work, not for the interpreter's remains.
                self._thread = threading.Thread(target=self._fit_beside, name="preview colours")
                self._thread.start()
        try:
            yield
        finally:
            self._wanted = False

    def wait(self, seconds: float) -> None:
        """Wait until no fit runs, at most so long."""
        if (thread := self._thread) is not None:
            thread.join(seconds)

    def fit(self, vae: VAESession) -> None:
        """Fit with a VAE that is loaded, as is done behind a video where `missing`. Errors are logged."""
        try:
            self._take(LatentColours.fit(vae.encode_moments))
        except StudioError as error:
            self._fail(error)

    @property
    def missing(self) -> bool:
        """Whether there is no map, and no room in RAM to fit one beside the steps."""
        return self._map is None and self._cramped and not self._failed

    def _needed_bytes(self) -> int:
        """RAM of the VAE in float32 and of one picture's activations, bounded by those of decoding it."""
        vae, files = build_vae(self._folder)
        return 4 * files.parameters + vae.peak_decode_bytes(PICTURE_SIDE, PICTURE_SIDE, torch.float32)

    def _fit_beside(self) -> None:
        try:
            vae, number = load_vae(self._folder, torch.float32), iter(range(1 << 30))

            def encode(clip: torch.Tensor) -> torch.Tensor:
                index = next(number)
                if index == len(self._moments):
                    self._check_wanted()
                    self._moments.append(vae.encode_moments(clip))
                return self._moments[index]

            with torch.no_grad():
                self._take(LatentColours.fit(encode))
        except Cancelled:
            return  # _check_wanted has taken the thread's name off
        except (StudioError, CheckpointError, OSError, MemoryError, RuntimeError) as error:
            self._fail(error)
        with self._lock:
            self._thread = None

    def _check_wanted(self) -> None:
        """Raise Cancelled where no job is there to see previews; the next one starts another thread."""
        with self._lock:
            if not self._wanted:
                self._thread = None
                raise Cancelled

    def _take(self, fitted: LatentColours) -> None:
        check_finite([fitted.maps], "encode_image")
        fitted.store(self.path)
        self._map = fitted
        self._moments = []

    def _fail(self, error: Exception) -> None:
        self._failed = True
        _log.warning("no colours of previews: %s", error)
