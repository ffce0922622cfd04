"""A prompt from its parts, by the formula of the official prompt guideline, and what a long prompt is begun with.

The guideline: magic words, subject, action, surroundings, camera movement, kind of video, style. The magic words follow
the prompt (magic.py), since that is where the official pipeline puts them.
"""

import re
from collections.abc import Iterable, Mapping

PARTS = ("subject", "action", "surroundings", "camera", "type", "style")
PREFIXES = {"en": "In the video, ", "zh": "视频中，"}
# From here on a prompt is called long: our choice, no number is published. Chinese characters and other words.
LONG_WORDS = 100
_WORD = re.compile(r"[\u4e00-\u9fff]|[^\W\u4e00-\u9fff]+")
_ENDS = " \t\n,，.。;；"


def build(parts: Mapping[str, str]) -> str:
    """The parts that say something, in the order of the formula, in the punctuation of their language."""
    said = {name: " ".join(parts.get(name, "").split()).strip(_ENDS) for name in PARTS}
    if _is_chinese(said.values()):
        who = said["subject"] + said["action"]
        rest = [said[name] for name in PARTS[2:]]
        return "，".join(filter(None, [who, *rest])) + "。"
    who = " ".join(filter(None, [said["subject"], said["action"]]))
    what = ", ".join(filter(None, [who, said["surroundings"]]))
    look = ", ".join(filter(None, [said["type"], said["style"]]))
    sentences = [words[:1].upper() + words[1:] + "." for words in (what, said["camera"], look) if words]
    return " ".join(sentences)


def is_long(prompt: str) -> bool:
    """Whether a prompt is long and does not begin as a long one should.

    Long ones may give noise, which went away for users who began them with "In the video, " (issue 22 of the official
    T2V repository).
    """
    return not prompt.strip().startswith(tuple(PREFIXES.values())) and len(_WORD.findall(prompt)) > LONG_WORDS


def with_prefix(prompt: str) -> str:
    """The prompt with the beginning for long ones; an article after it is small."""
    prompt = prompt.strip()
    if _is_chinese([prompt]):
        return PREFIXES["zh"] + prompt
    return PREFIXES["en"] + re.sub(r"^(A|An|The)\b", lambda found: found[0].lower(), prompt)


def _is_chinese(texts: Iterable[str]) -> bool:
    return any("\u4e00" <= char <= "\u9fff" for text in texts for char in text)
