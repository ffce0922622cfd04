"""Neighbouring frames compared: the optical flow between them, and what the flow does not explain.

Everything is read at one working size, so that a clip's numbers do not depend on its own: the short side becomes
WORK_SIDE pixels. Lengths are in short sides of the frame, differences in grey levels of 0..255.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

WORK_SIDE = 256  # the size to which VBench's flow thresholds refer
TOP_SHARE = 0.05  # of a frame's pixels: those that move most
OCCLUDED, OCCLUDED_PX = 0.01, 0.5  # forward and backward flow disagree: Sundaram, Brox, Keutzer, ECCV 2010, eq. 5
UNLIKE = 30.0  # grey levels between two pixels that are not the same thing
GRID = 16  # blocks along each side
EDGE = 2  # pixels at the frame's edge, for which there is no neighbour to compare with


@dataclass(frozen=True)
class Pair:
    """Two neighbouring frames.

    flow: mean length of the flow, top_flow: of the TOP_SHARE longest, both in short sides. residual: mean absolute
    difference to the next frame brought back along the flow, where both see the same, in grey levels; nan where
    hardly anything is seen in both. explained: the share of pixels that are, with less than UNLIKE levels between
    where a change of brightness of the whole frame is left out. change: mean absolute difference of GRID x GRID block
    averages, in grey levels: what is there, not where its details are.
    """

    flow: float
    top_flow: float
    residual: float
    explained: float
    change: float


def working_frames(frames: np.ndarray) -> Iterator[np.ndarray]:
    """uint8 (t, H, W, 3) -> each frame at the working size, uint8 (h, w, 3)."""
    height, width = frames.shape[1:3]
    scale = WORK_SIDE / min(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    for frame in frames:
        yield frame if size == (width, height) else cv2.resize(frame, size, interpolation=how)


def grey_of(frame: np.ndarray) -> np.ndarray:
    """uint8 (h, w, 3) RGB -> uint8 (h, w)."""
    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)


def make_flow() -> Any:  # OpenCV's own types refuse the None that its documentation gives
    """The flow estimator (Kroeger and others, ECCV 2016); its `calc(before, after, None)` gives (h, w, 2) pixels."""
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)


def compare_pairs(frames: np.ndarray) -> list[Pair]:
    """Each frame of uint8 (t, H, W, 3) with the one after it: t - 1 pairs."""
    estimator, found, before = make_flow(), [], None
    for after in working_frames(frames):
        if before is not None:
            found.append(_pair(before, after, estimator))
        before = after
    return found


def flow_lengths(frames: np.ndarray, interval: int) -> list[float]:
    """top_flow between every `interval`-th frame and the next such one, in short sides."""
    estimator = make_flow()
    greys = [grey_of(frame) for frame in working_frames(frames[::interval])]
    lengths = []
    for before, after in zip(greys, greys[1:], strict=False):
        lengths.append(_top(np.hypot(*np.moveaxis(estimator.calc(before, after, None), -1, 0))) / WORK_SIDE)
    return lengths


def ssim(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The SSIM map of two grey pictures, float32 (h, w) in 0..255 (Wang and others, IEEE TIP 2004: 11x11, 1.5)."""
    one, two = first.astype(np.float32), second.astype(np.float32)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean1, mean2 = _blurred(one), _blurred(two)
    square1, square2, both = mean1 * mean1, mean2 * mean2, mean1 * mean2
    var1, var2 = _blurred(one * one) - square1, _blurred(two * two) - square2
    covariance = _blurred(one * two) - both
    return ((2 * both + c1) * (2 * covariance + c2)) / ((square1 + square2 + c1) * (var1 + var2 + c2))


def _pair(before: np.ndarray, after: np.ndarray, estimator: Any) -> Pair:
    grey, next_grey = grey_of(before), grey_of(after)
    forward = estimator.calc(grey, next_grey, None)
    backward = estimator.calc(next_grey, grey, None)
    height, width = grey.shape
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    x, y = columns + forward[..., 0], rows + forward[..., 1]
    returned = cv2.remap(backward, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    missed = np.square(forward + returned).sum(-1)
    allowed = OCCLUDED * (np.square(forward).sum(-1) + np.square(returned).sum(-1)) + OCCLUDED_PX
    inside = (x >= EDGE) & (x <= width - 1 - EDGE) & (y >= EDGE) & (y <= height - 1 - EDGE)
    inside[:EDGE], inside[-EDGE:], inside[:, :EDGE], inside[:, -EDGE:] = False, False, False, False
    seen = inside & (missed < allowed)
    brought = cv2.remap(after.astype(np.float32), x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    change = brought - before
    difference = np.abs(change).mean(-1)
    length = np.hypot(forward[..., 0], forward[..., 1])
    return Pair(
        flow=float(length.mean()) / WORK_SIDE,
        top_flow=_top(length) / WORK_SIDE,
        residual=float(difference[seen].mean()) if seen.mean() > 0.02 else float("nan"),
        explained=float((seen & (np.abs(change - np.median(change)).mean(-1) < UNLIKE)).mean()),
        change=float(np.abs(_blocks(after) - _blocks(before)).mean()),
    )


def _blocks(frame: np.ndarray) -> np.ndarray:
    return cv2.resize(frame, (GRID, GRID), interpolation=cv2.INTER_AREA).astype(np.float32)


def _top(lengths: np.ndarray) -> float:
    """The mean of the longest TOP_SHARE."""
    count = max(int(lengths.size * TOP_SHARE), 1)
    return float(np.partition(lengths.ravel(), -count)[-count:].mean())


def _blurred(picture: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(picture, (11, 11), 1.5, borderType=cv2.BORDER_REFLECT)
