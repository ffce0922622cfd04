"""How a line is read by a voice that knows instructions: plain words become the tags of Step-Audio-TTS."""

import re

STYLES = {
    "happy": "高兴1",
    "very-happy": "高兴2",
    "angry": "生气1",
    "very-angry": "生气2",
    "sad": "悲伤1",
    "cute": "撒娇1",
    "slow": "慢速1",
    "very-slow": "慢速2",
    "fast": "快速1",
    "very-fast": "快速2",
    "chinese": "中文",
    "english": "英文",
    "korean": "韩语",
    "japanese": "日语",
    "sichuan": "四川话",
    "cantonese": "粤语",
    "rap": "RAP",
    "hum": "哼唱",
}
LANGUAGE_TAGS = {"auto": "", "en": "英文", "zh": "中文", "yue": "粤语"}
SINGING = ("RAP", "哼唱")
MOST_STYLES = 4
_WORD = re.compile(r"[\w-]{1,12}")


def style_words(style: str) -> list[str]:
    """The words of a style, between spaces or commas of any kind."""
    return [word for word in re.split(r"[\s,，、]+", style) if word]


def is_style(style: str) -> bool:
    """Whether each word can be a tag: one of STYLES, or of the model's own, whatever these are."""
    words = style_words(style)
    return len(words) <= MOST_STYLES and all(_WORD.fullmatch(word) for word in words)


def tags(style: str, language: str) -> tuple[str, ...]:
    """The tags in front of a line, each once. Singing comes first: behind another tag the model does not see it."""
    words = [STYLES.get(word.lower(), word) for word in style_words(style)]
    found = dict.fromkeys([*words, LANGUAGE_TAGS[language]])
    return tuple(sorted((tag for tag in found if tag), key=lambda tag: tag not in SINGING))
