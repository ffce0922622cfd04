"""Frames of a finished clip, and its small looping poster."""

from pathlib import Path

import numpy as np
from PIL import Image

from studio.errors import StudioError
from studio.media import read_video

POSTER_SIDE, POSTER_FRAMES, POSTER_MS = 224, 16, 90  # pixels of the long side, frames at most, milliseconds per frame


def read_frames(clip: Path) -> np.ndarray:
    """uint8 (t, H, W, 3) of an mp4, or of a png with t = 1. Raises StudioError where the file cannot be read."""
    try:
        if clip.suffix == ".png":
            return np.asarray(Image.open(clip).convert("RGB"))[None]
        return read_video(clip)
    except (OSError, ValueError, RuntimeError, StopIteration) as error:
        raise StudioError("evaluation_clip", file=clip.name, reason=str(error) or type(error).__name__) from None


def write_poster(clip: Path, poster: Path) -> None:
    """A small looping webp of the whole clip. Raises StudioError as `read_frames`."""
    frames = read_frames(clip)
    chosen = frames[np.linspace(0, len(frames) - 1, min(len(frames), POSTER_FRAMES)).round().astype(int)]
    height, width = frames.shape[1:3]
    scale = POSTER_SIDE / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    how = Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS
    first, *others = [Image.fromarray(frame).resize(size, how) for frame in chosen]
    poster.parent.mkdir(parents=True, exist_ok=True)
    unfinished = poster.with_name(poster.name + ".tmp")
    first.save(unfinished, "WEBP", save_all=True, append_images=others, duration=POSTER_MS, loop=0, quality=60)
    unfinished.replace(poster)
