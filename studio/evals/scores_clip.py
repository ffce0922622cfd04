"""Prompt and frames compared by a CLIP that the user has: what it is given as, and the two scores taken with it."""

import re
from typing import Protocol

import numpy as np

LOOKED_AT = 8  # frames
_CHINESE = re.compile(r"[\u3400-\u9fff]")


class Matcher(Protocol):
    """Pictures and texts in one space, as models.clip_pair.ClipPair. name: which CLIP it is."""

    name: str

    def pictures(self, frames: list[np.ndarray]) -> np.ndarray:
        """uint8 frames (H, W, 3) -> (n, d) of length 1."""
        ...

    def text(self, words: str) -> np.ndarray:
        """(d,) of length 1."""
        ...


def features(frames: np.ndarray, matcher: Matcher) -> np.ndarray:
    """(n, d) of LOOKED_AT frames, evenly over the clip."""
    chosen = np.linspace(0, len(frames) - 1, min(len(frames), LOOKED_AT)).round().astype(int)
    return matcher.pictures([frames[number] for number in chosen])


def prompt_match(prompt: str, seen: np.ndarray, matcher: Matcher) -> float | None:
    """100 max(cosine, 0), mean over the frames. None for Chinese prompts: public CLIPs of this kind read English."""
    if _CHINESE.search(prompt) or not prompt.strip():
        return None
    return float(100 * np.maximum(seen @ matcher.text(prompt), 0).mean())


def consistency(seen: np.ndarray) -> float | None:
    """Mean over the frames from the second of (cosine to the first + cosine to the one before) / 2, none below 0."""
    if len(seen) < 2:
        return None
    first, before = seen[1:] @ seen[0], (seen[1:] * seen[:-1]).sum(1)
    return float((np.maximum(first, 0) + np.maximum(before, 0)).mean() / 2)
