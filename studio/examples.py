"""The examples of configs/examples.yaml as requests, and where their pictures are: assets/examples."""

from pathlib import Path

from studio.config import ROOT, Example
from studio.settings import GenerationSettings

FOLDER = ROOT / "assets" / "examples"
MOTION = "motion"  # in place of an example's key: one picture under each of these motion scores, and the picture itself
MOTION_SCORES, MOTION_STILL = (2, 5, 10, 20), "still"


def example_settings(example: Example, language: str) -> GenerationSettings:
    """What an example asks for in "en" or "zh", unresolved."""
    picture = first_image(example)
    return GenerationSettings(
        model=example.model,
        prompt=example.prompt[language],
        first_image=str(picture) if picture else None,
        **example.settings,
    )


def first_image(example: Example, folder: Path = FOLDER) -> Path | None:
    """The picture an example begins with, None for text alone."""
    return folder / example.first_image if example.first_image else None


def thumbnail(example: Example, language: str, folder: Path = FOLDER) -> Path:
    """What came of an example, as a small looping webp."""
    return folder / f"{example.key}.{language}.webp"


def motion_thumbnail(kind: str, folder: Path = FOLDER) -> Path | None:
    """What a motion score does, as a small looping webp; MOTION_STILL: its first frame. None for any other kind."""
    known = (MOTION_STILL, *map(str, MOTION_SCORES))
    return folder / f"{MOTION}-{kind}.webp" if kind in known else None
