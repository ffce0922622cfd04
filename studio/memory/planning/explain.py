"""The sentence for a video that does not fit: what is short, and which changes would fit. English and Chinese."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from studio import PROGRAM
from studio.units import GB

LANGUAGES = ("en", "zh")
# name: (English, Chinese), as in studio/messages.py; "misfit" is the sentence, the others are parts of it.
WORDS: dict[str, tuple[str, str]] = {
    "misfit": (
        "It needs at least {short}. It would fit with {ways}.",
        "至少需要 {short}。改用以下任意一项即可：{ways}。",
    ),
    "short": ("{need:.1f} GB of {what} ({have:.1f} GB may be used)", "{need:.1f} GB {what}（可用 {have:.1f} GB）"),
    "and": (" and ", " 和 "),
    "or": (", or with ", "；"),
    "VRAM": ("VRAM", "显存"),
    "RAM": ("RAM", "内存"),
    "offload": ("--offload auto", "--offload auto"),
    "int8": (
        "int8 weights ({program} quantize MODEL, then --quantize int8)",
        "int8 权重（先执行 {program} quantize MODEL，再加 --quantize int8）",
    ),
    "frames": ("{frames} frames", "{frames} 帧"),
    "size": ("{height}x{width} pixels", "{height}x{width} 像素"),
}


@dataclass(frozen=True)
class Shortage:
    """Memory, "VRAM" or "RAM", of which more is needed than the budget has."""

    memory: str
    need_bytes: int
    have_bytes: int

    @property
    def flag(self) -> str:
        """The flag with the smallest budget that is enough, rounded up to a tenth of a GB."""
        return f"--{self.memory.lower()} {-(-self.need_bytes * 10 // GB) / 10:.1f}"


@dataclass(frozen=True)
class Remedy:
    """A change with which the video fits: a name in WORDS and its values."""

    name: str
    values: Mapping[str, int] = field(default_factory=dict)


def explain(shortages: Iterable[Shortage], remedies: Iterable[Remedy]) -> dict[str, str]:
    """Language -> sentence: the shortages in GB, then every remedy, larger budgets last."""
    shortages, remedies = list(shortages), list(remedies)
    return {language: _explain(shortages, remedies, language) for language in LANGUAGES}


def _explain(shortages: list[Shortage], remedies: list[Remedy], language: str) -> str:
    def phrase(name: str, **values: Any) -> str:
        return WORDS[name][language == "zh"].format(program=PROGRAM, **values)

    short = [
        phrase("short", what=phrase(lack.memory), need=lack.need_bytes / GB, have=lack.have_bytes / GB)
        for lack in shortages
    ]
    budgets = phrase("and").join(lack.flag for lack in shortages)
    listed = phrase("or").join([*(phrase(remedy.name, **remedy.values) for remedy in remedies), budgets])
    return phrase("misfit", short=phrase("and").join(short), ways=listed)
