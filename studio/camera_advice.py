"""What goes badly with a camera move: another one in the prompt, and a motion score that it does not follow."""

import re
from collections.abc import Mapping

from studio.config import CameraMove

FITTING = (5.0, 10.0)  # README of TI2V: camera moves are smoother and more exact at 5 or 10 than at 2; 10 follows best
_ADVERB = "(?:缓慢|缓缓|快速|逆时针|顺时针)?"
_ENGLISH = re.compile(r"\bcamera\b|\b(?:zoom|pan|dolly|orbit)(?:s|ning|ing)?\b", re.IGNORECASE)
STILL = "fixed"


def other_move(prompt: str, key: str, moves: Mapping[str, CameraMove]) -> str:
    """The words of the prompt that move the camera otherwise than the chosen move, "" for none or no move."""
    if key not in moves:
        return ""
    for move in moves.values():
        begin, end = move.phrase[:2], move.phrase[2:]
        if move.key != key and (found := re.search(re.escape(begin) + _ADVERB + re.escape(end), prompt)):
            return found[0]
    found = _ENGLISH.search(prompt)
    return found[0] if found else ""


def better_score(key: str, score: object, moves: Mapping[str, CameraMove]) -> float | None:
    """The motion score that follows the chosen move best, None where the present one does or nothing moves."""
    if key not in moves or key == STILL or not isinstance(score, int | float):
        return None
    low, high = FITTING
    return None if low <= score <= high else high
