"""Scenes -> captions, Chinese and English, from one grammar with many wordings.

What a caption leaves out (size, background, the still camera) is left out at random, so short prompts work as well as
long ones. A camera move is told by its exact phrase of configs/camera_moves.yaml, which is what the studio's camera
menu appends to a prompt of either language, or in words.
"""

import random
from collections.abc import Iterator

from studio.config import load_camera_moves
from studio.nano.world import Scene, Thing, WorldSettings, draw_scene

LANGUAGES = ("zh", "en")
_PHRASES = {key: move.phrase for key, move in load_camera_moves().items()}

_WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "zh": {
        "red": ("红色", "红"), "yellow": ("黄色", "黄"), "green": ("绿色", "绿"), "blue": ("蓝色", "蓝"),
        "purple": ("紫色", "紫"), "cyan": ("青色",), "white": ("白色", "白"), "black": ("黑色", "黑"),
        "orange": ("橙色", "橘色"), "pink": ("粉色", "粉红色"), "brown": ("棕色", "褐色"), "lime": ("黄绿色",),
        "circle": ("圆形", "圆", "圆球", "球"), "square": ("正方形", "方块", "方形"), "triangle": ("三角形",),
        "star": ("五角星", "星星"), "ring": ("圆环",), "diamond": ("菱形",), "cross": ("十字", "十字形"),
        "striped": ("条纹",), "dotted": ("圆点花纹",), "checkered": ("格子花纹",),
        "left": ("向左移动", "往左走", "从右向左移动", "朝左边滑去"),
        "right": ("向右移动", "往右走", "从左向右移动", "朝右边滑去"),
        "up": ("向上移动", "往上升", "从下往上移动", "升起来"),
        "down": ("向下移动", "往下落", "从上往下移动", "落下来"),
        "still": ("静止不动", "停在原地", "一动不动"), "grow": ("变大", "慢慢变大", "越来越大"),
        "shrink": ("变小", "慢慢变小", "越来越小"), "spin": ("在旋转", "原地旋转", "转个不停"),
        "circle path": ("绕圈移动", "沿着圆圈移动"), "bounce": ("上下弹跳", "跳来跳去"),
        "grey": ("灰色",), "beige": ("米色",), "slate": ("深灰蓝色",), "misty blue": ("浅蓝色",), "sage": ("灰绿色",),
        "dusty rose": ("灰粉色",),
    },
    "en": {
        "circle": ("circle", "ball", "disc"), "square": ("square", "box", "block"), "triangle": ("triangle",),
        "star": ("star",), "ring": ("ring",), "diamond": ("diamond",), "cross": ("cross",),
        "striped": ("striped",), "dotted": ("dotted", "spotted"), "checkered": ("checkered",),
        "left": ("moves left", "moves to the left", "slides left", "goes from right to left", "moving left"),
        "right": ("moves right", "moves to the right", "slides right", "goes from left to right", "moving right"),
        "up": ("moves up", "rises", "goes up", "moves upwards", "moving up"),
        "down": ("moves down", "falls", "goes down", "moves downwards", "moving down"),
        "still": ("stays still", "does not move", "stands still"), "grow": ("grows", "gets bigger", "becomes larger"),
        "shrink": ("shrinks", "gets smaller", "becomes smaller"), "spin": ("spins", "rotates", "turns around itself"),
        "circle path": ("moves in a circle", "goes round in a circle"), "bounce": ("bounces", "bounces up and down"),
        "slate": ("slate", "dark grey"), "misty blue": ("light blue",), "sage": ("grey green",),
        "dusty rose": ("grey pink",),
    },
}  # fmt: skip
_CAMERA_WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "zh": {},
    "en": {
        "fixed": ("fixed camera", "the camera stands still"), "left": ("the camera moves left",),
        "right": ("the camera moves right",), "up": ("the camera moves up",), "down": ("the camera moves down",),
        "pan-left": ("the camera pans left",), "pan-right": ("the camera pans right",),
        "tilt-up": ("the camera tilts up",), "tilt-down": ("the camera tilts down",),
        "zoom-in": ("the camera zooms in", "zoom in"), "zoom-out": ("the camera zooms out", "zoom out"),
        "push-in": ("the camera pushes in",), "pull-out": ("the camera pulls out",),
        "rotate": ("the camera rotates",), "follow": ("the camera follows it",), "orbit": ("the camera orbits it",),
    },
}  # fmt: skip


def caption(scene: Scene, language: str, seed: int) -> str:
    """One wording of a scene; the same seed words it the same way."""
    dice = random.Random(seed)
    subjects = [_subject(thing, language, dice) for thing in scene.things]
    comma, stop, join = ("，", "。", "，") if language == "zh" else (", ", ".", " and ")
    text = join.join(subject + ("" if language == "zh" else " ") + _motion(thing, language, dice)
                     for thing, subject in zip(scene.things, subjects, strict=True))  # fmt: skip
    if dice.random() < 0.5:
        text = _place(scene, text, language, dice)
    if scene.camera:
        words = _CAMERA_WORDS[language].get(scene.camera, ())
        if dice.random() < 0.6:  # as the studio's camera menu does it (studio/prompt.py)
            text = f"{_PHRASES[scene.camera]}，{text}"
        else:
            said = dice.choice((_PHRASES[scene.camera], *words))
            text += dice.choice((comma, stop if language == "zh" else ". ")) + said
    if language == "en" and dice.random() < 0.5:
        text = text[0].upper() + text[1:]
    return text + (stop if dice.random() < 0.5 else "")


def corpus(world: WorldSettings, count: int) -> Iterator[str]:
    """Captions of both languages, from which the tokenizers take their vocabulary."""
    for seed in range(count):
        scene = draw_scene(seed, world)
        for language in LANGUAGES:
            yield caption(scene, language, seed)


def _word(name: str, language: str, dice: random.Random) -> str:
    return dice.choice(_WORDS[language].get(name, (name,)))


def _subject(thing: Thing, language: str, dice: random.Random) -> str:
    colour, shape = _word(thing.colour, language, dice), _word(thing.shape, language, dice)
    texture = "" if thing.texture == "plain" else _word(thing.texture, language, dice)
    size = ("大", "big ") if thing.radius > 0.2 else ("小", "small ") if thing.radius < 0.17 else ("", "")
    said = dice.random() < 0.3
    if language == "zh":
        one = "" if dice.random() < 0.3 else dice.choice(("一个", "一个", "一只" if said else "一个"))
        link = "的" if colour.endswith("色") and dice.random() < 0.7 else ""
        return f"{one}{size[0] + '的' if said and size[0] else ''}{colour}{link}{texture}{shape}"
    noun = f"{size[1] if said else ''}{colour} {texture + ' ' if texture else ''}{shape}"
    article = dice.choice((("an " if noun[0] in "aeiou" else "a "), "the ", ""))
    return article + noun


def _motion(thing: Thing, language: str, dice: random.Random) -> str:
    return _word("circle path" if thing.motion == "circle" else thing.motion, language, dice)


def _place(scene: Scene, text: str, language: str, dice: random.Random) -> str:
    far = _word(scene.far_tone, language, dice)
    near = _word(scene.near_tone, language, dice)
    if language == "zh":
        place = f"{far}的{'天空' if scene.far == 'sky' else '背景'}"
        if scene.near != "none" and dice.random() < 0.5:
            place += f"和{near}的{'山丘' if scene.near == 'hills' else '地面'}"
        return dice.choice((f"{place}前，{text}", f"{text}，{place}"))
    place = f"{far} {'sky' if scene.far == 'sky' else 'background'}"
    if scene.near != "none" and dice.random() < 0.5:
        place += f" and {near} {'hills' if scene.near == 'hills' else 'floor'}"
    return dice.choice((f"{text} on a {place}", f"{text}, {place}"))
