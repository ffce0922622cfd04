"""The files of a result: NAME.mp4 (or .png for one frame), .json, .jpg, .first.png, .latents.safetensors."""

import json
import logging
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from studio.errors import StudioError
from studio.filenames import LAST_FRAME, LATENTS, RESULT_SUFFIXES, UNFINISHED, sync_file, sync_folder, write_whole
from studio.media import png_bytes, write_png
from studio.settings import FPS, ResolvedSettings
from studio.units import GB
from studio.video_writer import VideoWriter, find_ffmpeg

_log = logging.getLogger(__name__)


def record(settings: ResolvedSettings, provenance: Mapping[str, Any], stem: Path) -> dict[str, Any]:
    """What the file says of itself. The first image is named beside the result, never by the user's own path."""
    if settings.first_image is not None:
        settings = replace(settings, first_image=f"{stem.name}.first.png")
    return {"program": "step-video-studio", "settings": asdict(settings), **provenance}


def to_uint8(frames: Tensor) -> np.ndarray:
    """Frames (t, 3, H, W) in -1..1 -> uint8 (t, H, W, 3)."""
    return pixels(frames).cpu().numpy()


def pixels(frames: Tensor) -> Tensor:
    """Frames (t, 3, H, W) in -1..1 -> uint8 (t, H, W, 3) on the same device, rounded down as officially."""
    return ((frames.float().clamp(-1, 1) + 1) * 127.5).byte().permute(0, 2, 3, 1)


def check_place(folder: Path, settings: ResolvedSettings) -> None:
    """Raise StudioError unless the result can surely be written there: a folder that takes files, ffmpeg, and space
    (a tenth of the raw frames and 64 MB)."""
    check_folder(folder)
    if settings.num_frames > 1:
        find_ffmpeg()
    need = settings.num_frames * settings.height * settings.width * 3 // 10 + 64 * 2**20
    if (free := shutil.disk_usage(folder).free) < need:
        raise StudioError("disk_full", folder=folder, free_gb=free / GB, need_gb=need / GB)


def check_folder(folder: Path) -> None:
    """Make the folder where it is missing. Raises StudioError where that fails or files cannot be written in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudioError("write_failed", file=str(folder), reason=error.strerror or str(error)) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StudioError("write_failed", file=str(folder), reason="you may not write in this folder")


class ResultWriter:
    """Collects a result as .tmp files; `finish` renames them, the video last; leaving early removes them.

    picture: the first image as the model saw it, to lie beside the result. original: its file, to be inside a video.
    """

    def __init__(
        self,
        stem: Path,
        settings: ResolvedSettings,
        record: dict[str, Any],
        picture: Image.Image | None,
        original: bytes | None = None,
    ) -> None:
        self.frames = 0
        self._stem, self._settings, self._record, self._picture = stem, settings, record, picture
        self._still, self._original = settings.num_frames == 1, original
        self._kept: Path | None = None
        self._video: VideoWriter | None = None
        self._poster: Image.Image | None = None
        self._last: np.ndarray | None = None

    def __enter__(self) -> "ResultWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._video is not None:
            self._video.abort()
        for suffix in RESULT_SUFFIXES:
            self._unfinished(suffix).unlink(missing_ok=True)

    def add(self, frames: np.ndarray) -> None:
        """Append uint8 frames (t, H, W, 3)."""
        if not len(frames):
            return
        if self._poster is None:
            self._poster = Image.fromarray(frames[0])
        self._last = frames[-1]
        if not self._still:
            self._open_video().add(frames)
        self.frames += len(frames)

    def keep(self, workdir: Path) -> None:
        """Keep the work folder's latents beside the result."""
        self._kept = workdir / LATENTS

    def keep_last_frame(self, workdir: Path) -> None:
        """Keep the last frame as it was decoded, for a clip that goes on from it; else that takes the mp4's. A failed
        write is logged: the video is made.
        """
        if self._last is None:
            return
        try:
            write_whole(workdir / LAST_FRAME, png_bytes(Image.fromarray(self._last)))
        except OSError as error:
            _log.warning("the last frame cannot be kept: %s", error)
            with suppress(OSError):
                (workdir / LAST_FRAME).unlink(missing_ok=True)  # of an attempt before

    def finish(self, seconds: Mapping[str, float], usage: Mapping[str, Any]) -> Path:
        """Put everything in place and return the result's path, once all of it outlives a power cut.

        Raises StudioError when a file cannot be written.
        """
        try:
            return self._finish({**self._record, "seconds": dict(seconds), "memory": dict(usage)})
        except OSError as error:
            raise StudioError("write_failed", file=self._stem.name, reason=error.strerror or str(error)) from None

    def _finish(self, record: dict[str, Any]) -> Path:
        if self._poster is None:
            raise ValueError("a result without frames")
        text = json.dumps(record, ensure_ascii=False, indent=1)
        self._unfinished(".json").write_text(text, encoding="utf-8")
        self._poster.save(self._unfinished(".jpg"), "JPEG", quality=90)
        if self._picture is not None:
            write_png(self._unfinished(".first.png"), self._picture)
        if self._kept is not None:
            shutil.copyfile(self._kept, self._unfinished(".latents.safetensors"))
        if self._still:
            write_png(self._unfinished(".png"), self._poster, record)
        else:
            self._open_video().close()
            self._video = None
        made = [suffix for suffix in reversed(RESULT_SUFFIXES) if self._unfinished(suffix).exists()]
        for suffix in made:
            sync_file(self._unfinished(suffix))
        for suffix in made:  # the result itself comes last: where it is, everything is
            self._unfinished(suffix).replace(self._final(suffix))
        for folder in (self._stem.parent, self._stem.parent.parent):  # which may be new
            sync_folder(folder)
        return self._final(".png" if self._still else ".mp4")

    def _open_video(self) -> VideoWriter:
        if self._video is None:
            size = self._settings.height, self._settings.width
            self._video = VideoWriter(self._unfinished(".mp4"), *size, FPS, self._record, original=self._original)
        return self._video

    def _final(self, suffix: str) -> Path:
        return self._stem.with_name(self._stem.name + suffix)

    def _unfinished(self, suffix: str) -> Path:
        return self._stem.with_name(self._stem.name + suffix + UNFINISHED)
