"""Clips with which the thresholds of the scores were chosen: flat pictures of noise and shapes, warped by known maps.

Nothing here is used to check the scores; that is room.py, which renders in another way and was not looked at while the
thresholds were chosen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from studio.media import read_video
from studio.video_writer import VideoWriter


@dataclass(frozen=True)
class Warp:
    """What a clip does from its first frame to its last: content shift in short sides, log scale, roll in radians;
    objects: how many discs wander over it; wave: grey levels of a brightness flicker, drawn anew per frame."""

    x: float = 0.0
    y: float = 0.0
    zoom: float = 0.0
    roll: float = 0.0
    objects: int = 0
    wave: float = 0.0
    detail: float = 1.0  # how much texture the ground has


def ground(rng: np.random.Generator, side: int, detail: float = 1.0) -> np.ndarray:
    """A square picture with structure of all sizes, float32 (side, side, 3) in 0..255."""
    picture = np.zeros((side, side, 3), np.float32)
    for octave in range(2, 8):
        cells = 2**octave
        noise = rng.normal(0, 1, (cells, cells, 3)).astype(np.float32)
        picture += cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC) * 2.0 ** (-0.8 * octave)
    picture = picture / picture.std() * 40 * detail + rng.uniform(90, 160, 3).astype(np.float32)
    for _ in range(int(14 * detail)):
        centre, radius = rng.uniform(0, side, 2), rng.uniform(0.02, 0.09) * side
        colour = tuple(float(value) for value in rng.uniform(0, 255, 3))
        cv2.circle(picture, tuple(int(value) for value in centre), int(radius), colour, -1, cv2.LINE_AA)
    return picture


def warped(warp: Warp, seed: int, frames: int = 17, height: int = 144, width: int = 256) -> np.ndarray:
    """The clip, uint8 (frames, height, width, 3)."""
    rng = np.random.default_rng(seed)
    side, short = 1024, min(height, width)
    picture = ground(rng, side, warp.detail)
    discs = [(rng.uniform(-0.6, 0.6, 2), rng.uniform(-0.5, 0.5, 2), rng.uniform(0.06, 0.14), rng.uniform(0, 255, 3))
             for _ in range(warp.objects)]  # fmt: skip
    made = []
    for t in range(frames):
        u = t / max(frames - 1, 1)
        scale = np.exp(warp.zoom * u)
        c, s = scale * np.cos(warp.roll * u), scale * np.sin(warp.roll * u)
        base = 2.4 * short / side  # the picture is 2.4 short sides wide
        turn = np.array([[c, -s], [s, c]]) * base
        shift = np.array([width / 2 + warp.x * u * short, height / 2 + warp.y * u * short]) - turn @ [
            side / 2,
            side / 2,
        ]
        matrix = np.concatenate([turn, shift[:, None]], 1).astype(np.float32)
        frame = cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT)
        for start, way, radius, colour in discs:
            at = (np.array([width, height]) / 2 + (start + way * u) * short) * 16
            cv2.circle(frame, tuple(int(value) for value in at), int(radius * short * 16), colour.tolist(), -1,
                       cv2.LINE_AA, 4)  # fmt: skip
        made.append(frame + (rng.uniform(-1, 1) * warp.wave if warp.wave else 0.0))
    return np.stack(made).clip(0, 255).astype(np.uint8)


def through_codec(frames: np.ndarray, folder: Path) -> np.ndarray:
    """What a player sees of the frames: written and read as the studio's mp4."""
    path = folder / "clip.mp4"
    writer = VideoWriter(path, *frames.shape[1:3], 25, {})
    writer.add(frames)
    writer.close()
    return read_video(path)


def joined(clips: Sequence[np.ndarray]) -> np.ndarray:
    """One clip after the other, with hard cuts between."""
    return np.concatenate(list(clips))
