"""One clip measured: how each score of score_list.py is taken."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from studio.evals import scores_clip, scores_motion, scores_picture, scores_time, scores_words
from studio.evals.pairs import Pair, compare_pairs
from studio.evals.score_list import Measured
from studio.evals.scores_camera import SEEN_AS, Camera, read_camera
from studio.evals.scores_clip import Matcher
from studio.evals.scores_text import TextReader, text_match

VERSION = 2  # of the formulas: scores of another version are measured again


@dataclass(frozen=True)
class Clip:
    """What is measured: uint8 frames (t, H, W, 3), their rate, and what was asked for.

    picture: the first image as the model got it, uint8 of the frames' size. camera_move: a key of
    configs/camera_moves.yaml or "". reader: None leaves the text out; matcher: None the scores by CLIP.
    """

    frames: np.ndarray
    fps: float
    prompt: str = ""
    picture: np.ndarray | None = None
    camera_move: str = ""
    reader: TextReader | None = None
    matcher: Matcher | None = None

    @cached_property
    def pairs(self) -> list[Pair]:
        return compare_pairs(self.frames)

    @cached_property
    def cuts(self) -> list[int]:
        return scores_time.find_cuts(self.pairs)

    @cached_property
    def camera(self) -> Camera | None:
        return read_camera(self.frames, self.cuts)

    @cached_property
    def strength(self) -> float:
        return scores_motion.dynamic_strength(self.frames, self.fps)

    @cached_property
    def seen(self) -> np.ndarray | None:
        return None if self.matcher is None else scores_clip.features(self.frames, self.matcher)

    @cached_property
    def fidelity(self) -> tuple[float, float] | None:
        return None if self.picture is None else scores_picture.first_frame(self.frames, self.picture)


Take = Callable[[Clip], float | None]


def measure(clip: Clip) -> Measured:
    """All scores of a clip."""
    values = {key: take(clip) for key, take in TAKES.items()}
    return Measured(values, clip.camera.move if clip.camera else "")


def _camera_match(clip: Clip) -> float | None:
    if clip.camera_move not in SEEN_AS or clip.camera is None:
        return None
    return float(clip.camera.shows(clip.camera_move))


def _text(clip: Clip) -> float | None:
    return None if clip.reader is None else text_match(clip.prompt, clip.frames, clip.reader)


def _clip_text(clip: Clip) -> float | None:
    if clip.matcher is None or clip.seen is None:
        return None
    return scores_clip.prompt_match(clip.prompt, clip.seen, clip.matcher)


TAKES: dict[str, Take] = {
    "flicker_vbench": lambda clip: scores_time.flicker(clip.frames),
    "flicker": lambda clip: scores_time.flicker_compensated(clip.pairs, clip.cuts),
    "dynamic": lambda clip: float(clip.strength >= 1),
    "dynamic_strength": lambda clip: clip.strength,
    "motion_score": lambda clip: scores_motion.motion_score(clip.pairs, clip.cuts),
    "camera_match": _camera_match,
    "first_psnr": lambda clip: clip.fidelity[0] if clip.fidelity else None,
    "first_ssim": lambda clip: clip.fidelity[1] if clip.fidelity else None,
    "drift_colour": lambda clip: scores_picture.drift_colour(clip.frames),
    "drift_structure": lambda clip: scores_picture.drift_structure(clip.frames),
    "sharpness": lambda clip: scores_picture.sharpness(clip.frames),
    "sharpness_kept": lambda clip: scores_picture.sharpness_kept(clip.frames),
    "cuts": lambda clip: float(len(clip.cuts)),
    "frozen": lambda clip: scores_time.frozen(clip.frames),
    "colours": lambda clip: scores_words.colours_match(clip.prompt, clip.frames),
    "brightness": lambda clip: scores_words.brightness_match(clip.prompt, clip.frames),
    "text": _text,
    "clip_text": _clip_text,
    "clip_frames": lambda clip: None if clip.seen is None else scores_clip.consistency(clip.seen),
}
