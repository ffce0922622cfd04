"""The pictures for the README: what nano makes of words, of camera moves and of motion scores, as strips of frames."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from studio.config import load_camera_moves
from studio.nano.clips import ClipMaker, to_frames
from studio.nano.render import render
from studio.nano.world import Scene, Thing

PROMPTS = (
    ("一个红色的圆形向右移动", "a red circle moves right"),
    ("一个蓝色的正方形向左移动", "a blue square moves left"),
    ("一个黄色的三角形向上移动", "a yellow triangle moves up"),
    ("一个绿色的圆形向下移动", "a green circle moves down"),
    ("一个紫色的正方形变大", "a purple square grows"),
    ("一个白色的圆形变小", "a white circle shrinks"),
)
CAMERAS = ("fixed", "left", "right", "zoom-in", "zoom-out")  # of the world that the shipped nano knows
SCORES = (2.0, 5.0, 10.0, 20.0)
STILL = "a red square stays still"
# The one first image of the camera rows and the score rows.
SCENE = Scene(
    things=(Thing("square", "red", "plain", "still", 0.18, (0.0, 0.05), 0.0),),
    far="gradient", far_tone="misty blue", near="hills", near_tone="beige", horizon=0.1, camera="", amount=0.0,
    wave=(1.0, 0.6),
)  # fmt: skip
SHOWN = (0, 4, 8, 12, 16)  # frames of a strip
GAP, LABEL, FRAME = 12, 22, 112  # pixels; FRAME: the width of a frame


def make_grid(alone: ClipMaker, both: ClipMaker, font: Path | None, seed: int = 7) -> Image.Image:
    """First Chinese beside English: text alone, one noise for both.

    Then one first image, one noise: under every camera move (left), and under one move at every motion score (right).
    alone: for text alone; both: for a first image.
    """
    columns: list[list[np.ndarray]] = [[], []]
    for row, texts in enumerate(PROMPTS):
        for column, text in zip(columns, texts, strict=True):
            column.append(alone.make(text, seed + row, motion_score=5.0))
    video = both.settings.video_shape
    first = Image.fromarray(to_frames(render([SCENE], 2, video.height, video.width).video[:, :1])[0, 0])
    for move in CAMERAS:
        asked = 2.0 if move == "fixed" else 10.0
        columns[0].append(both.make(STILL, seed, motion_score=asked, image=first, camera_move=move))
    for score in SCORES:
        columns[1].append(both.make(STILL, seed, motion_score=score, image=first, camera_move="left"))
    phrases = {key: move.phrase for key, move in load_camera_moves().items()}
    labels = [[zh for zh, _ in PROMPTS] + [f"{phrases[move]}，{STILL}" for move in CAMERAS], [en for _, en in PROMPTS]]
    labels[1] += [f"{phrases['left']}，motion score {score:g}" for score in SCORES]
    return draw_grid(columns, labels, font)


def draw_grid(
    columns: Sequence[Sequence[np.ndarray]], labels: Sequence[Sequence[str]], font: Path | None
) -> Image.Image:
    """columns: uint8 clips (t, H, W, 3) from top to bottom; labels alike. Without a font: no labels."""
    height, width = columns[0][0].shape[1:3]
    wide, tall = FRAME * len(SHOWN), FRAME * height // width
    rows = max(map(len, columns))
    page = Image.new("RGB", (len(columns) * (wide + GAP) + GAP, rows * (tall + LABEL + GAP) + GAP), "white")
    draw = ImageDraw.Draw(page)
    face = ImageFont.truetype(str(font), 15) if font else None
    for i, (clips, words) in enumerate(zip(columns, labels, strict=True)):
        for row, (clip, label) in enumerate(zip(clips, words, strict=True)):
            left, top = GAP + i * (wide + GAP), GAP + row * (tall + LABEL + GAP)
            frames = np.concatenate([clip[t] for t in SHOWN], axis=1)
            page.paste(Image.fromarray(frames).resize((wide, tall), Image.Resampling.BICUBIC), (left, top + LABEL))
            if face:
                draw.text((left, top), label, fill="#222222", font=face)
    return page
