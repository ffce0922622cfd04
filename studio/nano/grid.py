"""The picture for the README: prompts of both languages and what nano makes of them, as strips of frames."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from studio.nano.evaluate import decode
from studio.nano.model import Denoiser, SampleSettings, noise

PROMPTS = (
    ("一个红色的圆形向右移动", "a red circle moves right"),
    ("一个蓝色的正方形向左移动", "a blue square moves left"),
    ("一个黄色的三角形向上移动", "a yellow triangle moves up"),
    ("一个绿色的圆形向下移动", "a green circle moves down"),
    ("一个紫色的正方形变大", "a purple square grows"),
    ("一个白色的圆形变小", "a white circle shrinks"),
)
SHOWN = (0, 4, 8, 12, 16)  # frames of a strip
GAP, LABEL = 12, 22


@torch.no_grad()
def make_grid(denoiser: Denoiser, vae: nn.Module, settings: SampleSettings, font: Path | None, seed: int = 7) -> Image:
    """Rows of (Chinese strip, English strip) with their prompts above; one noise for both languages of a row."""
    channels = denoiser.transformer.params.in_channels
    begin = noise([seed + row for row in range(len(PROMPTS))], channels, settings).to(denoiser.device)
    motion = torch.full((len(PROMPTS),), 5.0, device=denoiser.device)
    columns = []
    for texts in zip(*PROMPTS, strict=True):
        latents = denoiser.sample(texts, begin, torch.zeros_like(begin), motion, settings)
        columns.append(decode(vae, latents))
    return draw_grid(columns, PROMPTS, font)


def draw_grid(columns: list[np.ndarray], labels: tuple[tuple[str, ...], ...], font: Path | None) -> Image:
    """columns: per language uint8 (rows, t, H, W, 3); labels per row and column. Without a font: no labels."""
    rows, _, height, width = columns[0].shape[:4]
    strip, scale = width * len(SHOWN), 1.5
    wide, tall = int(strip * scale), int(height * scale)
    page = Image.new("RGB", (len(columns) * (wide + GAP) + GAP, rows * (tall + LABEL + GAP) + GAP), "white")
    draw = ImageDraw.Draw(page)
    face = ImageFont.truetype(str(font), 15) if font else None
    for column, clips in enumerate(columns):
        for row in range(rows):
            left, top = GAP + column * (wide + GAP), GAP + row * (tall + LABEL + GAP)
            frames = np.concatenate([clips[row, t] for t in SHOWN], axis=1)
            page.paste(Image.fromarray(frames).resize((wide, tall), Image.Resampling.BICUBIC), (left, top + LABEL))
            if face:
                draw.text((left, top), labels[row][column], fill="#222222", font=face)
    return page
