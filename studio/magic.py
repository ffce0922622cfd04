"""The magic words that a model's official pipeline appends, and their variants by language and by kind of picture.

The Chinese words are the official ones. English ones are those of the prompt guideline where it has them (T2V), else
our translation; whether either works better was never measured here.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from studio.config import ModelConfig  # needs omegaconf, which a machine with torch alone may lack


class MagicWords(StrEnum):
    """Which words follow the prompt."""

    OFFICIAL = "official"  # as the official pipeline does: Chinese, realistic
    ENGLISH = "english"
    ANIME = "anime"  # Chinese, without what asks for a photograph or forbids a drawing
    ANIME_ENGLISH = "anime-english"
    NONE = "none"


# TI2V is advertised for anime, and its official words ask for realism and forbid animation all the same.
REALISTIC = {"逼真的细节", "超真实动态捕捉", "realistic details", "hyper-real motion capture"}
AGAINST_DRAWING = {"动画", "插图", "计算机生成"}


def magic_words(model: ModelConfig, kind: str) -> str:
    """What follows the prompt; "" for a model that knows no such words, or for none."""
    is_english = kind in (MagicWords.ENGLISH, MagicWords.ANIME_ENGLISH)
    if kind == MagicWords.NONE or not model.magic_words:
        return ""
    words = model.magic_words_english if is_english else model.magic_words
    words = _without(words, REALISTIC) if is_anime(kind) else words
    return f" {words}" if is_english else words


def negative_prompt(model: ModelConfig, kind: str | None = None) -> str:
    """The model's negative prompt; for anime without the words that forbid a drawing."""
    return _without(model.negative_prompt, AGAINST_DRAWING) if is_anime(kind) else model.negative_prompt


def is_anime(kind: str | None) -> bool:
    """Whether a drawing is wanted."""
    return kind in (MagicWords.ANIME, MagicWords.ANIME_ENGLISH)


def _without(words: str, left_out: set[str]) -> str:
    """A list of words, in the punctuation that it has, without some of them."""
    joint = "、" if "、" in words else ", "
    end = words[-1:] if words[-1:] in ("。", ".") else ""
    return joint.join(word for word in words.removesuffix(end).split(joint) if word not in left_out) + end
