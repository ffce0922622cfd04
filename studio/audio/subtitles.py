"""SRT subtitles from spoken lines."""

from collections.abc import Sequence

from studio.audio.mix import Spoken


def srt(spoken: Sequence[Spoken], end: float) -> str:
    """SubRip text of the lines in the order of time; a line is shown while it is said, none behind `end` seconds."""
    shown = [one for one in sorted(spoken, key=lambda one: one.line.start) if one.line.start < end]
    blocks = [
        f"{number}\n{_stamp(one.line.start)} --> {_stamp(min(one.end, end))}\n{_plain(one.line.text)}\n"
        for number, one in enumerate(shown, start=1)
    ]
    return "\n".join(blocks)


def _stamp(seconds: float) -> str:
    thousandths = round(seconds * 1000)
    minutes, rest = divmod(thousandths, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d},{rest % 1000:03d}"


def _plain(text: str) -> str:
    """One line without what players take for an end of the text, for markup or for a time."""
    words = " ".join(text.replace("-->", "→").split())
    return words.replace("<", "‹").replace(">", "›").replace("{", "(").replace("}", ")").replace("\\", "/")
