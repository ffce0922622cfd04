"""Colour and brightness against the prompt, where it names them, in Chinese or English.

Only plain words are looked for: "红色" and "red", not what is red by nature. A colour counts as shown where enough
pixels have it; that a thing other than the named one has it is not seen.
"""

import re

import cv2
import numpy as np

from studio.evals.pairs import working_frames

SHOWN = 0.01  # share of the pixels, over the clip
MIDDLE = 0.40  # mean brightness 0..1 below which a clip is dark
LOOKED_AT = 9  # frames
_NOUNS = "的衣裙帽伞灯旗花墙车球鞋发马狗猫鸟门布光圆方正三菱五星环十条格"  # after one character that names a colour
_WORDS: dict[str, tuple[str, str]] = {  # colour: (English, Chinese)
    "red": (r"red|crimson|scarlet", rf"红色|[大鲜火深赤]红|红[{_NOUNS}]"),
    "orange": (r"orange", r"橙色|橘色|橙红|橙[圆方正三菱五]"),
    "yellow": (r"yellow|golden", rf"黄色|金黄|金色|黄[{_NOUNS}]"),
    "green": (r"green|emerald", rf"绿色|[碧翠嫩青墨]绿|绿[{_NOUNS}叶树草]"),
    "cyan": (r"cyan|turquoise|teal", r"青色|青蓝|蓝绿"),
    "blue": (r"blue|azure", rf"蓝色|[湛蔚天深宝]蓝|蓝[{_NOUNS}天]"),
    "purple": (r"purple|violet", rf"紫色|紫[{_NOUNS}]"),
    "pink": (r"pink", r"粉色|粉红"),
    "brown": (r"brown", r"棕色|褐色|咖啡色"),
    "white": (r"white", rf"白色|[雪洁]白|白[{_NOUNS}云雪]"),
    "black": (r"black", rf"黑色|黑[{_NOUNS}]"),
    "grey": (r"gr[ae]y", r"灰色|银灰|灰白"),
}
_SHADED = r"(?:light|pale|dark|deep|grey|gray) (?=\w)"  # "dark blue" is no dark clip, "grey pink" is neither
_DARK = (
    r"dark(?! \w*(?:" + "|".join(_WORDS) + r"))|darkness|night|midnight|dimly",
    r"黑暗|昏暗|漆黑|夜晚|黑夜|深夜|夜空|夜景|夜色",
)
_BRIGHT = (r"bright|sunny|daylight|sunlit|sunshine", r"明亮|阳光|白天|白昼|晴朗|烈日|艳阳")
_NOT_SHOWN = re.compile(r"黑白|白[天昼领]|[明表告坦空]白|黑[客板]")


def named_colours(prompt: str) -> list[str]:
    """The colours that a prompt names, in the order of this file; "light blue" and the like are left out."""
    text = _NOT_SHOWN.sub(" ", prompt.lower())
    text = re.sub(_SHADED + "(?:" + "|".join(english for english, _ in _WORDS.values()) + r")\b", " ", text)
    text = re.sub(
        r"[浅淡深灰][红橙黄绿青蓝紫粉棕褐]色?|[红橙黄绿青蓝紫粉棕褐灰][红橙黄绿青蓝紫粉棕褐]色", _kept_pairs, text
    )
    return [name for name, words in _WORDS.items() if _has(text, words)]


def named_brightness(prompt: str) -> str:
    """ "dark", "bright" or "" where the prompt names neither or both."""
    dark, bright = _has(prompt.lower(), _DARK), _has(prompt.lower(), _BRIGHT)
    return "" if dark == bright else "dark" if dark else "bright"


def shown_colours(frames: np.ndarray) -> dict[str, float]:
    """The share of pixels of each colour in uint8 frames (t, H, W, 3), over up to LOOKED_AT of them."""
    chosen = frames[np.linspace(0, len(frames) - 1, min(len(frames), LOOKED_AT)).round().astype(int)]
    found = np.concatenate([_classes(frame).ravel() for frame in working_frames(chosen)])
    counts = np.bincount(found, minlength=len(_WORDS)) / len(found)
    return {name: float(count) for name, count in zip(_WORDS, counts, strict=True)}


def colours_match(prompt: str, frames: np.ndarray) -> float | None:
    """The share of the named colours that are shown; None where the prompt names none."""
    named = named_colours(prompt)
    shown = shown_colours(frames) if named else {}
    return float(np.mean([shown[name] >= SHOWN for name in named])) if named else None


def brightness(frames: np.ndarray) -> float:
    """Mean brightness of uint8 frames (t, H, W, 3), 0..1 (the luma of BT.601)."""
    return float(np.mean([frame.mean((0, 1)) @ np.array([0.299, 0.587, 0.114]) for frame in frames])) / 255


def brightness_match(prompt: str, frames: np.ndarray) -> float | None:
    """1 where the clip is as dark or bright as the prompt says, else 0; None where it says nothing."""
    named = named_brightness(prompt)
    return float((brightness(frames) < MIDDLE) == (named == "dark")) if named else None


def _kept_pairs(found: re.Match[str]) -> str:
    """Compound colours name no plain one, but for those that are a shade of their last part."""
    return (
        found[0]
        if found[0][:1] in "深" or found[0][:2] in ("金黄", "橙红", "粉红", "碧绿", "翠绿", "青绿", "青蓝", "蓝绿")
        else " "
    )


def _has(text: str, words: tuple[str, str]) -> bool:
    return bool(re.search(rf"\b(?:{words[0]})\b", text) or re.search(words[1], text))


def _classes(frame: np.ndarray) -> np.ndarray:
    """The colour of each pixel as its number in _WORDS, int (h, w)."""
    hsv = cv2.cvtColor(frame.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
    hue, vivid, light = hsv[..., 0], hsv[..., 1], hsv[..., 2]
    number = {name: at for at, name in enumerate(_WORDS)}
    bounds = [(12, "red"), (42, "orange"), (70, "yellow"), (165, "green"), (195, "cyan"), (255, "blue"),
              (300, "purple"), (345, "pink"), (361, "red")]  # fmt: skip
    found = np.full(hue.shape, number["red"])
    low = 0.0
    for high, name in bounds:
        found[(hue >= low) & (hue < high)] = number[name]
        low = high
    warm = (hue < 42) | (hue >= 330)
    found[warm & (light > 0.7) & (vivid < 0.6) & ((hue < 12) | (hue >= 330))] = number["pink"]
    found[(hue >= 10) & (hue < 45) & (light < 0.62)] = number["brown"]
    found[(hue >= 300) & (hue < 345) & (light < 0.6)] = number["purple"]
    found[vivid < 0.16] = number["grey"]
    found[(vivid < 0.14) & (light > 0.86)] = number["white"]
    found[light < 0.2] = number["black"]
    return found
