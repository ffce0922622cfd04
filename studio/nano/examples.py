"""`python -m studio.nano examples`: really makes every example of the page, by the recipe the studio itself uses, and
the clips beside its motion score.

First images are pictures of nano's world, drawn large, since the studio crops and shrinks them like any other.
"""

import logging
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from studio import examples
from studio.config import Example, load_camera_moves, load_examples, load_models, load_studio
from studio.media import read_image, read_video, write_png
from studio.nano.captions import LANGUAGES
from studio.nano.render import render
from studio.nano.world import Scene, Thing
from studio.pipeline.engine import EngineOptions, is_installed, open_engine
from studio.pipeline.generate import generate
from studio.pipeline.run import Engine, Request

MOTION_LIKE = "camera-zoom-in"  # the example that is made under every motion score, with MOTION_MOVE
PICTURE_SIZE, THUMBNAIL_SIDE = (256, 448), 224  # pixels: height and width of first images; a thumbnail's long side
MOTION_MOVE = "left"  # a still object under a camera move: there nano's motion grows up to a score of 20
MOTION_SIDE = 96  # pixels, of the clips beside the motion score
FRAME_MS, LAST_MS = 70, 700  # slower than the video, with a rest at its end: a row of them is to be calm
log = logging.getLogger("nano")


def _scene(colour: str, shape: str, motion: str, tones: tuple[str, str]) -> Scene:
    thing = Thing(shape, colour, "plain", motion, radius=0.19, centre=(0.0, 0.0), travel=0.5)
    return Scene((thing,), "gradient", tones[0], "floor", tones[1], horizon=0.2, camera="", amount=0.0)


FIRST_IMAGES: dict[str, Scene] = {
    "red-square.png": _scene("red", "square", "left", ("misty blue", "slate")),
    "yellow-triangle.png": _scene("yellow", "triangle", "up", ("slate", "grey")),
    "blue-square.png": _scene("blue", "square", "still", ("beige", "grey")),
}


def make_examples(folder: Path = examples.FOLDER, device: str = "auto") -> None:
    """Write first images and thumbnails into `folder`. Examples of models that are not here are left as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, scene in FIRST_IMAGES.items():
        write_png(folder / name, draw_first_image(scene))
    models = load_models()
    with tempfile.TemporaryDirectory() as work:
        config = load_studio(output_dir=work)
        for example in load_examples().values():
            model = models[example.model]
            if not is_installed(model, config.model_dir):
                log.info("%s: %s is not here", example.key, model.name)
                continue
            engine = open_engine(
                model, example.first_image is not None, load_camera_moves(), config, EngineOptions(device)
            )
            if example.key == MOTION_LIKE:
                _make_motion(example, engine, folder, Path(work))
            for language in LANGUAGES:
                frames = _make(example, language, engine, folder, Path(work) / example.key)
                write_thumbnail(examples.thumbnail(example, language, folder), frames)
                log.info("%s, %s", example.key, language)
            engine.memory.release()


def _make_motion(example: Example, engine: Engine, folder: Path, work: Path) -> None:
    """The example with another camera move under each motion score, and the first frame alone."""
    for score in examples.MOTION_SCORES:
        settings = {**example.settings, "camera_move": MOTION_MOVE, "motion_score": float(score)}
        changed = replace(example, settings=settings)
        frames = _make(changed, "en", engine, folder, work / f"{examples.MOTION}-{score}")
        for kind, shown in ((str(score), frames), (examples.MOTION_STILL, frames[:1])):
            if path := examples.motion_thumbnail(kind, folder):
                write_thumbnail(path, shown, MOTION_SIDE)
    log.info("motion scores %s", ", ".join(map(str, examples.MOTION_SCORES)))


def _make(example: Example, language: str, engine: Engine, folder: Path, work: Path) -> np.ndarray:
    """The frames of an example, uint8 (t, H, W, 3)."""
    settings = examples.example_settings(example, language).resolve(engine.model)
    settings.check(engine.model, dict(engine.moves))
    picture = examples.first_image(example, folder)
    image = read_image(picture.read_bytes()) if picture else None
    request = Request(settings, work / language, work / f"{language}.work", image)
    return read_video(Path(generate(request, engine, lambda event: None, lambda: False).path))


def draw_first_image(scene: Scene) -> Image.Image:
    """Frame 1 of a scene."""
    first = render([scene], 2, *PICTURE_SIZE).video[0, 0]
    return Image.fromarray(((first + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())


def write_thumbnail(path: Path, frames: np.ndarray, side: int = THUMBNAIL_SIDE) -> None:
    """uint8 (t, H, W, 3) -> a looping webp, its long side `side` pixels."""
    height, width = frames.shape[1:3]
    scale = side / max(height, width)
    size = (round(width * scale), round(height * scale))
    pictures = [Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC) for frame in frames]
    durations = [FRAME_MS] * (len(pictures) - 1) + [LAST_MS]
    pictures[0].save(
        path, "WEBP", save_all=True, append_images=pictures[1:], duration=durations, loop=0, quality=80, method=6
    )
