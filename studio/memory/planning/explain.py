"""Why a video does not fit and what would, said in both languages of the page."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from studio.units import GB

LANGUAGES = ("en", "zh")
# name: (English, Chinese), as in studio/messages.py; these are parts of the sentence that "misfit" is.
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
        "int8 weights (python app.py quantize MODEL, then --quantize int8)",
        "int8 权重（先执行 python app.py quantize MODEL，再加 --quantize int8）",
    ),
    "frames": ("{frames} frames", "{frames} 帧"),
    "size": ("{height}x{width} pixels", "{height}x{width} 像素"),
}


@dataclass(frozen=True)
class Shortage:
    """`what` ("VRAM" or "RAM") is needed in bytes, and what the budget has of it."""

    what: str
    need_bytes: int
    have_bytes: int

    @property
    def flag(self) -> str:
        """The budget that would do, rounded up to a tenth of a GB."""
        return f"--{self.what.lower()} {-(-self.need_bytes * 10 // GB) / 10:.1f}"


@dataclass(frozen=True)
class Way:
    """A change with which the video fits: a name of WORDS and its values."""

    name: str
    values: Mapping[str, int] = field(default_factory=dict)


def explain(shortages: Iterable[Shortage], ways: Iterable[Way]) -> dict[str, str]:
    """Language -> the shortage in numbers, then every way out, larger budgets last."""
    shortages, ways = list(shortages), list(ways)
    return {language: _explain(shortages, ways, language) for language in LANGUAGES}


def _explain(shortages: list[Shortage], ways: list[Way], language: str) -> str:
    def phrase(name: str, **values: Any) -> str:
        return WORDS[name][language == "zh"].format(**values)

    short = [
        phrase("short", what=phrase(lack.what), need=lack.need_bytes / GB, have=lack.have_bytes / GB)
        for lack in shortages
    ]
    budgets = phrase("and").join(lack.flag for lack in shortages)
    listed = phrase("or").join([*(phrase(way.name, **way.values) for way in ways), budgets])
    return phrase("misfit", short=phrase("and").join(short), ways=listed)
