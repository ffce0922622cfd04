"""Text asked for in the prompt, read back from the frames by rapidocr: the extra `ocr`, its weights in its wheel."""

import importlib.util
import re
import unicodedata
from typing import Any

import numpy as np

LOOKED_AT = 5  # frames
LONGEST = 60  # characters of a text that is asked for
_QUOTED = re.compile(r"[“\"「『《]([^”\"」』》]{1,200})[”\"」』》]")
# What stands before a quoted text that is to be seen: without one, quotes may be speech or a title.
_CUE = re.compile(
    r"(?:\b(?:says?|reads?|reading|words?|text|sign|letters?|written|writes?|titled?|labell?ed|logo|spell\w*)\b"
    r"|写着|写有|写上|写下|印着|印有|刻着|显示|字样|文字|标语|字幕|标题|牌匾|招牌|大字)[^“\"「『《”」』》]{0,24}$",
    re.I,
)
_AFTER = re.compile(
    r"^\s{0,2}(?:的?(?:字样|字|文字|标语|大字|招牌|牌匾)|\W{0,2}(?:sign|text|letters|logo|title)\b)", re.I
)


def asked_texts(prompt: str) -> list[str]:
    """The texts that a prompt wants to be seen: quoted, beside a word that says so."""
    found = []
    for match in _QUOTED.finditer(prompt):
        cued = _CUE.search(prompt[: match.start()]) or _AFTER.search(prompt[match.end() :])
        if cued and 0 < len(_plain(match[1])) <= LONGEST:
            found.append(match[1].strip())
    return found


def has_reader() -> bool:
    """Whether rapidocr is installed."""
    return importlib.util.find_spec("rapidocr") is not None and importlib.util.find_spec("onnxruntime") is not None


class TextReader:
    """Reads the lines of frames. The engine is opened at first use and takes about 0.3 GB of RAM."""

    def __init__(self) -> None:
        self._engine: Any = None

    def lines(self, frame: np.ndarray) -> list[str]:
        """The lines read in a uint8 RGB frame (H, W, 3), from top to bottom as found."""
        if self._engine is None:
            from rapidocr import RapidOCR  # here: an extra, and a second to import

            self._engine = RapidOCR(params={"Global.log_level": "error"})
        read = self._engine(np.ascontiguousarray(frame[..., ::-1]))  # it takes BGR
        return [str(text) for text in (read.txts or ())]


def text_match(prompt: str, frames: np.ndarray, reader: TextReader) -> float | None:
    """How much of the asked text is read: 1 - edit distance over its length, mean over the texts asked for.

    Of LOOKED_AT frames the best counts, of its lines and neighbouring lines the likest; case, spaces and punctuation
    do not count. None where the prompt asks for none.
    """
    asked = asked_texts(prompt)
    if not asked:
        return None
    chosen = frames[np.linspace(0, len(frames) - 1, min(len(frames), LOOKED_AT)).round().astype(int)]
    read = [reader.lines(frame) for frame in chosen]
    return float(np.mean([max(likest(text, lines) for lines in read) for text in asked]))


def likest(text: str, lines: list[str]) -> float:
    """The likeness 0..1 of a text to the likest run of lines."""
    wanted = _plain(text)
    runs = ["".join(lines[start:end]) for start in range(len(lines)) for end in range(start + 1, len(lines) + 1)]
    found = [1 - edit_distance(wanted, _plain(run)) / max(len(wanted), 1) for run in runs]
    return max([0.0, *found])


def edit_distance(one: str, two: str) -> int:
    """How many characters must be put in, taken out or changed."""
    before = list(range(len(two) + 1))
    for row, left in enumerate(one, 1):
        now = [row]
        for column, right in enumerate(two, 1):
            now.append(min(before[column] + 1, now[-1] + 1, before[column - 1] + (left != right)))
        before = now
    return before[-1]


def _plain(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(char for char in folded if char.isalnum())
