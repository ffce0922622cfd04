"""What goes wrong between frames: flicker, cuts, standing still."""

from collections.abc import Sequence

import cv2
import numpy as np

from studio.evals.pairs import Pair, working_frames

CUT, CUT_BELOW_NEIGHBOURS = 0.35, 0.3  # share explained in a cut's pair at most, and by how much less than beside it
CUT_LEVELS = 10.0  # by which block averages change in a cut at least: flow is unsure where there is little to follow
BLOCK = 8  # pixels at the working size
STILL_LEVELS = 2.0  # grey levels by which no block of a still pair changes; the codec alone changes up to 1


def flicker(frames: np.ndarray) -> float:
    """VBench's temporal flickering of uint8 (t, H, W, 3): (255 - mean absolute difference of neighbours) / 255.

    1 is no difference at all. VBench (vbench/temporal_flickering.py) takes clips without motion only: motion lowers it.
    """
    steps = [float(cv2.absdiff(before, after).mean()) for before, after in zip(frames, frames[1:], strict=False)]
    return (255.0 - float(np.mean(steps))) / 255.0 if steps else 1.0


def flicker_compensated(pairs: Sequence[Pair], cuts: Sequence[int] = ()) -> float | None:
    """Mean difference of neighbours along the flow, where both see the same, in grey levels; 0 is none.

    As the warping error of Lai and others (ECCV 2018), with the absolute instead of the squared difference. None where
    nothing can be followed.
    """
    found = [pair.residual for at, pair in enumerate(pairs) if at not in cuts and not np.isnan(pair.residual)]
    return float(np.mean(found)) if found else None


def find_cuts(pairs: Sequence[Pair]) -> list[int]:
    """Pairs t, between frames t and t + 1, where another shot begins.

    There flow explains almost nothing, and beside it it does, and another picture is seen: so fast motion is no cut,
    nor is a flash, which has two such pairs, nor a blurred picture that trembles.
    """
    explained = [pair.explained for pair in pairs]
    found = []
    for at, share in enumerate(explained):
        beside = explained[max(at - 1, 0) : at] + explained[at + 1 : at + 2]
        alone = bool(beside) and min(beside) - share > CUT_BELOW_NEIGHBOURS
        if alone and share < CUT and pairs[at].change > CUT_LEVELS:
            found.append(at)
    return found


def frozen(frames: np.ndarray) -> float:
    """The share of neighbouring pairs in which no block of BLOCK x BLOCK pixels changes by more than STILL_LEVELS."""
    still, before = [], None
    for frame in working_frames(frames):
        size = (max(frame.shape[1] // BLOCK, 1), max(frame.shape[0] // BLOCK, 1))
        blocks = cv2.resize(frame, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        if before is not None:
            still.append(float(np.abs(blocks - before).mean(-1).max()) <= STILL_LEVELS)
        before = blocks
    return float(np.mean(still)) if still else 1.0
