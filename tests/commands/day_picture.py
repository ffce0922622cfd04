"""docs/day.webp from the screenshots that test_day.py leaves: python -m tests.commands.day_picture FOLDER

FOLDER: pytest's --basetemp of that run.
"""

import sys
from pathlib import Path

from PIL import Image

from studio.config import ROOT

COLUMNS, GAP, WIDTH, HEIGHT = 3, 8, 560, 350


def main(folder: Path) -> None:
    """Lay out the pictures in the order of the day, each whole, small."""
    shots = sorted(folder.glob("test_*0/*-*.png"), key=lambda path: int(path.name.split("-")[0]))
    rows = -(-len(shots) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (WIDTH + GAP) + GAP, rows * (HEIGHT + GAP) + GAP), "#8c8c8c")
    for place, path in enumerate(shots):
        picture = Image.open(path).convert("RGB")
        picture.thumbnail((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
        left, top = GAP + place % COLUMNS * (WIDTH + GAP), GAP + place // COLUMNS * (HEIGHT + GAP)
        sheet.paste(picture, (left + (WIDTH - picture.width) // 2, top + (HEIGHT - picture.height) // 2))
    sheet.save(ROOT / "docs" / "day.webp", "WEBP", quality=70, method=6)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
