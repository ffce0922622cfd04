"""A scene told in words, English or Chinese, becomes layers: "0-2 s: under water, 2-4秒：水花声". A table, no model.

What is not understood is listed, never dropped without a word.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import TypeVar

from studio.audio.track import Layer
from studio.errors import InputError

K = TypeVar("K")
TEXT_LIMIT = 10_000  # characters of a scene

# sound: (English words, Chinese words). The longest words of a text are looked for first.
SOUND_WORDS: dict[str, tuple[str, str]] = {
    "rain": ("rain raining rainfall drizzle downpour raindrops", "雨 下雨 雨声 小雨 大雨 暴雨 雨滴声"),
    "wind": ("wind winds windy breeze gust gusts storm", "风 风声 刮风 微风 大风 狂风"),
    "water": (
        "stream brook river fountain|running water|flowing water|water flows",
        "流水 流水声 水流 水流声 小溪 溪水 河水 喷泉",
    ),
    "splash": (
        "splash splashes splashing|a dive|jumps in|jump in",
        "溅水声 水花 水花声 溅起水花 溅水 落水 落水声 入水 跳水 扑通",
    ),
    "drips": ("drip drips dripping drops droplets|water drops", "滴水 滴水声 水滴 水滴声 滴答 滴答声"),
    "crowd": (
        "crowd murmur people chatter voices audience|many people",
        "人群 人声 人群低语 嘈杂 嘈杂声 议论声 人群声",
    ),
    "birds": ("bird birds birdsong chirping chirp twitter|birds sing|birds singing", "鸟 鸟鸣 鸟叫 鸟叫声 鸟声 小鸟"),
    "engine": (
        "engine motor car truck|engine idles|idling engine",
        "引擎 引擎声 发动机 发动机声 马达 马达声 汽车 卡车",
    ),
    "heartbeat": ("heartbeat heartbeats|heart beats|beating heart", "心跳 心跳声"),
    "whoosh": ("whoosh swoosh|flies by|rushes by", "呼啸 呼啸声 嗖 嗖的一声 掠过"),
    "room_hum": ("hum|room hum|hum of a room|room tone", "嗡嗡声 低鸣 室内低鸣 环境声"),
}
# A place gives a room to all sounds of its time, and is itself heard as a sound.
PLACE_WORDS: dict[str, tuple[str, str]] = {
    "under_water": ("underwater submerged|under water|below the water|under the water", "水下 水里 水底 水中"),
    "room": ("indoors indoor inside room corridor kitchen|in a room|in the room", "室内 屋里 屋内 房间 房间里 走廊"),
    "hall": ("hall church cathedral cave tunnel|in a hall|in a church", "大厅 教堂 山洞 洞穴 隧道"),
    "outdoors": ("outdoors outdoor outside street field garden forest", "室外 户外 外面 街上 田野 花园 森林"),
}
PLACE_SOUNDS = {"under_water": "under_water", "room": "room_hum", "hall": "room_hum", "outdoors": "wind"}
STEP_WORDS = (
    "step steps footstep footsteps walking walks walk|he walks|she walks",
    "脚步 脚步声 走路 走路声 行走 走动 步伐",
)
SURFACE_WORDS: dict[str, tuple[str, str]] = {
    "steps_wet": (
        "wet barefoot puddle puddles poolside|pool edge|pool's edge|edge of the pool|wet floor|bare feet",
        "湿 湿漉漉 潮湿 赤脚 水坑 泳池边 池边 泳池 湿地面",
    ),
    "steps_wood": ("wood wooden parquet floorboards|wooden floor", "木 木头 木质 木地板 地板"),
    "steps_stone": ("stone stones pavement tiles marble concrete|stone floor", "石 石头 石板 石板路 瓷砖 大理石 水泥"),
}
GAIN_WORDS: dict[float, tuple[str, str]] = {
    6.0: ("loud loudly heavy strong", "大声 响亮 很响 强烈"),
    -6.0: ("quiet quietly soft softly gentle light faint", "轻 轻轻 轻柔 安静 微弱 小声"),
    -12.0: ("distant far|far away|in the distance", "远 远处 远方 遥远"),
}
FILLERS = (
    "the a an of on in at with by from to and then is are some we i hear sound sounds noise noises there it its s",
    "的 声 声音 在 上 里 中 边 从 有 听到 听见 传来 和 与 以及 然后 接着 一阵 一片 一声 是 了 着 地 路 地面",
)
AMBIENT_GAIN = -6.0  # dB of what only surrounds
BESIDE_GAIN = -12.0  # dB of a place's own sound under others
FADE = 0.15  # seconds between one time and the next

_NUMBER = r"(?:(\d{1,2}):)?(\d{1,4}(?:\.\d+)?)"
_UNIT = r"(?:\s*(seconds?|secs?|sec|s(?![a-z])|秒钟?))"
_RANGE = re.compile(rf"{_NUMBER}{_UNIT}?\s*(?:-|–|—|−|~|to|until|到|至)\s*{_NUMBER}(?:{_UNIT}?\s*(:)|{_UNIT})", re.I)


@dataclass(frozen=True)
class Scene:
    """The layers that a text asks for, and the words of it that no table knows."""

    layers: tuple[Layer, ...]
    unknown: tuple[str, ...]


def read_scene(text: str) -> Scene:
    """Raises InputError for a text that is too long or asks for nothing that is known."""
    if len(text) > TEXT_LIMIT:
        raise InputError("scene_long", length=len(text), limit=TEXT_LIMIT)
    text = unicodedata.normalize("NFKC", text)  # full-width digits, colons and commas
    ranges = list(_RANGE.finditer(text))
    layers: list[Layer] = []
    unknown: list[str] = []
    if before := text[: ranges[0].start() if ranges else None].strip(" \n,;、。.从"):
        unknown.append(before)
    ends = [*(found.start() for found in ranges), len(text)][1:]
    for found, end in zip(ranges, ends, strict=True):
        times = (_seconds(found[1], found[2]), _seconds(found[4], found[5]))
        made, left = _layers(text[found.end() : end], *times)
        layers += made
        unknown += left
    if not layers:
        raise InputError("scene_empty", words="; ".join(unknown) or "-")
    return Scene(tuple(layers), tuple(unknown))


def _seconds(minutes: str | None, seconds: str) -> float:
    return 60 * int(minutes or 0) + float(seconds)


def _layers(text: str, start: float, end: float) -> tuple[list[Layer], list[str]]:
    """The layers of one time, and what is left of its words."""
    sounds: list[tuple[str, float]] = []
    places: list[str] = []
    unknown = []
    for clause in re.split(r"[,;、。!\n]|\.(?!\d)|\b(?:with|and)\b|和|与|伴随", text.lower().replace("’", "'")):
        words = _Words(clause)
        gain = sum(words.take(GAIN_WORDS)[:1])
        steps = words.take({"steps": STEP_WORDS})
        surface = words.take(SURFACE_WORDS) if steps else []
        here = [*words.take(SOUND_WORDS), *(surface or ["steps_stone"] if steps else [])[:1]]
        places += words.take(PLACE_WORDS)
        sounds += [(sound, gain) for sound in here]
        if left := words.left():
            unknown.append(left)
    room = places[0] if places else "dry"
    made = [_layer(sound, start, end, gain, room) for sound, gain in dict(sounds).items()]
    for place in dict.fromkeys(places):
        gain = BESIDE_GAIN if sounds else AMBIENT_GAIN
        made.append(_layer(PLACE_SOUNDS[place], start, end, gain, "hall" if place == "hall" else "dry"))
    return made, unknown


def _layer(sound: str, start: float, end: float, gain: float, room: str) -> Layer:
    return Layer(sound, start, end, gain_db=gain, fade_in=FADE, fade_out=FADE, room=room)


class _Words:
    """A clause from which known words are taken, the longest first; `left` is what nothing took."""

    def __init__(self, clause: str) -> None:
        self._text = clause

    def take(self, table: dict[K, tuple[str, str]]) -> list[K]:
        """The table's keys that the clause names, in the order of the text."""
        phrases = [(phrase, key) for key, words in table.items() for phrase in _phrases(words)]
        found: list[tuple[int, K]] = []
        for phrase, key in sorted(phrases, key=lambda pair: -len(pair[0])):
            for at in self._remove(phrase):
                found.append((at, key))
        return [key for _, key in dict.fromkeys(sorted(found, key=lambda pair: pair[0]))]

    def left(self) -> str:
        """What no table knows, fillers left out."""
        for phrase in sorted(_phrases(FILLERS), key=len, reverse=True):
            self._remove(phrase)
        words = re.sub(r"[\s\x00:：\"'()\-]+", " ", self._text).strip()
        return words if any(char.isalnum() for char in words) else ""

    def _remove(self, phrase: str) -> list[int]:
        """Blank the phrase out wherever it stands (an English one as whole words); where that was."""
        pattern = rf"\b{re.escape(phrase)}\b" if phrase.isascii() else re.escape(phrase)
        places = [found.start() for found in re.finditer(pattern, self._text, re.ASCII)]
        self._text = re.sub(pattern, lambda found: "\0" * len(found[0]), self._text, flags=re.ASCII)
        return places


def _phrases(words: tuple[str, str]) -> list[str]:
    """English: single words first, then phrases behind bars; Chinese: words."""
    single, *phrases = words[0].split("|")
    return [*single.split(), *phrases, *words[1].split()]
