"""How much moves: dynamic degree and the measured motion score."""

from collections.abc import Sequence

import numpy as np

from studio.evals.pairs import WORK_SIDE, Pair, flow_lengths

SAMPLE_FPS = 8.0  # VBench looks at every frame that is 1/8 s later
MOVES_PX = 6.0  # at WORK_SIDE, between two such frames
MOVING_SHARE = 4 / 16  # of the frames looked at
SCORE_SIDE = 544  # the official short side: the motion score is in pixels of such a video


def dynamic_strength(frames: np.ndarray, fps: float) -> float:
    """How far a clip is above VBench's threshold of motion: 1 and more counts as dynamic.

    VBench's dynamic degree (vbench/dynamic_degree.py), with DIS flow for RAFT's: of the pairs 1/8 s apart, at least a
    quarter as many as frames must have 6 pixels of flow at 256 pixels of short side, over the 5 % that move most. This
    is the flow of the pair by which that is decided, over the 6 pixels.
    """
    interval = max(1, round(fps / SAMPLE_FPS))
    lengths = flow_lengths(frames, interval)
    if not lengths:
        return 0.0
    needed = min(max(round(MOVING_SHARE * (len(lengths) + 1)), 1), len(lengths))
    threshold = max(1.0, SAMPLE_FPS / fps) * MOVES_PX / WORK_SIDE
    return float(np.sort(lengths)[::-1][needed - 1] / threshold)


def motion_score(pairs: Sequence[Pair], cuts: Sequence[int] = ()) -> float:
    """Mean length of the optical flow between neighbouring frames, in pixels of a video of 544 pixels of short side.

    The TI2V report (arXiv 2503.11251, Motion Conditioning) has the mean of OpenCV's optical flow over sampled grey
    frames; it tells neither the interval nor the size, so this scale is ours and only its order is the asked one's.
    """
    lengths = [pair.flow for at, pair in enumerate(pairs) if at not in cuts]
    return float(np.mean(lengths)) * SCORE_SIDE if lengths else 0.0
