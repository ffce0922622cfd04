"""What the camera does, from tracks of points near the frame's border, where the ground is more often than the subject.

Points are followed from a key frame on, each time in the key frame's own picture, so that errors do not add up; a
similarity (shift, scale, roll) is fitted to them by RANSAC. Where too few are left, the frame before becomes the next
key frame.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from studio.evals.pairs import grey_of, working_frames

STILL = 0.005  # short sides by which the border must move: VBench-2, camera_motion.py, transform_class
BESIDE = 0.5  # of the strongest part: a part at least as strong is named too
BORDER = 0.22  # of height and width on each side
CELL, PER_CELL, MARGIN = 24, 3, 4  # pixels of a cell, points taken in it, pixels at the frame's edge without any
STRUCTURE = 3e-7  # least eigenvalue of a point's gradients (cv2.cornerMinEigenVal): less is no point
LEAST, KEPT = 12, 0.5  # points needed, and left before a new key frame
RETURN_PX, RANSAC_PX = 0.5, 1.0  # pixels: there and back again; off the fitted motion
FLOW: dict[str, Any] = {"winSize": (21, 21), "maxLevel": 4}
# What is asked for (configs/camera_moves.yaml) -> what can be seen. Follow, orbit and focus are none of these.
SEEN_AS = {
    "fixed": "fixed", "left": "left", "pan-left": "left", "right": "right", "pan-right": "right", "up": "up",
    "tilt-up": "up", "down": "down", "tilt-down": "down", "zoom-in": "in", "push-in": "in", "zoom-out": "out",
    "pull-out": "out", "rotate": "roll",
}  # fmt: skip


@dataclass(frozen=True)
class Camera:
    """move: "left", "right", "up", "down" (pan, tilt or travel), "in", "out" (zoom or travel), "roll", "fixed".

    also: other moves at least half as strong. strengths: border displacement over the clip by each part, in short
    sides: x > 0 to the right, y > 0 down, zoom > 0 in, roll in either direction.
    """

    move: str
    also: tuple[str, ...]
    strengths: Mapping[str, float]

    def shows(self, asked: str) -> bool:
        """Whether an asked move of SEEN_AS is the one seen, or seen beside it."""
        return SEEN_AS[asked] in (self.move, *self.also)


def read_camera(frames: np.ndarray, cuts: Sequence[int] = ()) -> Camera | None:
    """The move in uint8 (t, H, W, 3) up to the first cut; None where the border has nothing to follow."""
    shot = frames[: cuts[0] + 1] if cuts else frames
    motion = camera_motion(shot)
    if motion is None:
        return None
    height, width = shot.shape[1:3]
    short = min(height, width)
    half_x, half_y = width / short / 2, height / short / 2
    half = (half_x + half_y) / 2
    scale = math.hypot(motion[0, 0], motion[1, 0])
    roll = math.atan2(motion[1, 0], motion[0, 0])
    strengths = {"x": -motion[0, 2], "y": -motion[1, 2], "zoom": math.log(scale) * half, "roll": abs(roll) * half}
    moves = {
        "right" if strengths["x"] > 0 else "left": abs(strengths["x"]),
        "down" if strengths["y"] > 0 else "up": abs(strengths["y"]),
        "in" if strengths["zoom"] > 0 else "out": abs(strengths["zoom"]),
        "roll": strengths["roll"],
    }
    seen = sorted((move for move in moves if moves[move] > STILL), key=lambda move: -moves[move])
    told = {name: float(value) for name, value in strengths.items()}
    if not seen:
        return Camera("fixed", (), told)
    also = tuple(move for move in seen[1:] if moves[move] >= BESIDE * moves[seen[0]])
    return Camera(seen[0], also, told)


def camera_motion(frames: np.ndarray) -> np.ndarray | None:
    """How the ground moved from the first frame to the last, as (3, 3): a similarity in short sides about the middle.

    None where its points are too few, or are lost at once.
    """
    greys = [grey_of(frame) for frame in working_frames(frames)]
    height, width = greys[0].shape
    total, key = np.eye(3), 0
    points = _corners(greys[0])
    if len(points) < LEAST:
        return None
    guess, last = points, np.eye(3)
    for at in range(1, len(greys)):
        found, kept, step = _follow(greys[key], greys[at], points, guess)
        if step is None or len(kept) < max(KEPT * len(points), LEAST):
            if key == at - 1:  # lost from one frame to the next
                if step is None:
                    return None
            else:
                total, key = last @ total, at - 1
                points = _corners(greys[key])
                if len(points) < LEAST:
                    return None
                found, kept, step = _follow(greys[key], greys[at], points, points)
                if step is None:
                    return None
        last, guess = step, found
    return _about_the_middle(last @ total, height, width)


def _corners(grey: np.ndarray) -> np.ndarray:
    """Points with structure in the border, float32 (n, 1, 2): a few in each cell, so that no bright thing has all."""
    height, width = grey.shape
    strength = cv2.cornerMinEigenVal(cv2.GaussianBlur(grey, (0, 0), 1.0), 5)
    rows, columns = round(BORDER * height), round(BORDER * width)
    strength[rows : height - rows, columns : width - columns] = 0
    strength[:MARGIN], strength[-MARGIN:], strength[:, :MARGIN], strength[:, -MARGIN:] = 0, 0, 0, 0
    strength[strength < cv2.dilate(strength, np.ones((5, 5), np.uint8))] = 0
    points = []
    for top in range(0, height, CELL):
        for left in range(0, width, CELL):
            cell = strength[top : top + CELL, left : left + CELL]
            for place in np.argsort(cell, axis=None)[: -PER_CELL - 1 : -1]:
                y, x = np.unravel_index(place, cell.shape)
                if cell[y, x] > STRUCTURE:
                    points.append((left + x, top + y))
    return np.array(points, np.float32).reshape(-1, 1, 2)


def _follow(
    key: np.ndarray, grey: np.ndarray, points: np.ndarray, guess: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Where the key frame's points are now, which of them fit one motion (their numbers), and that motion (3, 3)."""
    use = cv2.OPTFLOW_USE_INITIAL_FLOW
    found, there, _ = cv2.calcOpticalFlowPyrLK(key, grey, points, guess.copy(), flags=use, **FLOW)
    back, again, _ = cv2.calcOpticalFlowPyrLK(grey, key, found, points.copy(), flags=use, **FLOW)
    missed = np.linalg.norm(back - points, axis=2).ravel()
    good = np.flatnonzero((there.ravel() == 1) & (again.ravel() == 1) & (missed < RETURN_PX))
    if len(good) < LEAST:
        return found, good, None
    matrix, inliers = cv2.estimateAffinePartial2D(
        points[good], found[good], method=cv2.RANSAC, ransacReprojThreshold=RANSAC_PX, maxIters=500, confidence=0.999
    )
    if matrix is None:
        return found, good, None
    return found, good[inliers.ravel() == 1], np.vstack([matrix, [0, 0, 1]])


def _about_the_middle(motion: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pixels with the origin in a corner -> short sides with the origin in the middle."""
    short = min(height, width)
    to_pixels = np.array([[short, 0, (width - 1) / 2], [0, short, (height - 1) / 2], [0, 0, 1]])
    return np.linalg.inv(to_pixels) @ motion @ to_pixels
