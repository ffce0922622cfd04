"""The page's examples are what the shipped nano makes of them."""

import dataclasses
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from studio import examples
from studio.config import ROOT, Example, load_examples, load_models
from studio.nano import examples as maker
from studio.nano.examples import FIRST_IMAGES, draw_first_image, make_examples, write_thumbnail
from studio.nano.judge import psnr
from studio.pipeline.engine import is_installed

EXAMPLES = load_examples()
pytestmark = pytest.mark.skipif(
    not is_installed(load_models()["nano"], ROOT), reason="the nano checkpoint is not in this copy"
)


def pictures(path: Path) -> np.ndarray:
    """The frames of a thumbnail; equal neighbours are one."""
    with Image.open(path) as image:
        return np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)])


def remake(example: Example, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maker, "load_examples", lambda: {example.key: example})
    make_examples(folder, "cpu")


def test_an_example_is_made_by_the_studios_recipe(
    nano_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a first image, in both languages, by a nano of random weights in one step."""
    monkeypatch.setattr("studio.config.ROOT", nano_root)
    example = EXAMPLES["picture-lively"]
    example = dataclasses.replace(example, settings={**example.settings, "infer_steps": 1})
    remake(example, tmp_path / "made", monkeypatch)
    for language in ("en", "zh"):
        made = pictures(examples.thumbnail(example, language, tmp_path / "made"))
        assert made.shape[1:] == (128, 224, 3) and len(made) > 1


@pytest.mark.slow
@pytest.mark.parametrize("key", EXAMPLES)
def test_a_thumbnail_is_what_nano_makes_today(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After nano was trained anew: python -m studio.nano examples."""
    example = EXAMPLES[key]
    if not is_installed(load_models()[example.model], ROOT):
        pytest.skip(f"{example.model} is not in this copy")
    remake(example, tmp_path, monkeypatch)
    names = [examples.thumbnail(example, language, tmp_path).name for language in ("en", "zh")]
    names += [path.name for path in tmp_path.glob(f"{examples.MOTION}-*.webp")]
    assert len(names) == (7 if key == maker.MOTION_LIKE else 2), (
        "the clips of four motion scores, and their first frame"
    )
    for name in names:
        made, shipped = (pictures(at / name) for at in (tmp_path, examples.FOLDER))
        assert psnr(made[0], shipped[0]) > 35 and psnr(made[-1], shipped[-1]) > 35, "35 dB: other processors round"


def test_a_model_that_is_not_here_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(maker, "is_installed", lambda *_: False)
    with caplog.at_level(logging.INFO, "nano"):
        remake(EXAMPLES["turbo-cyan-square"], tmp_path, monkeypatch)
    assert "nano-turbo is not here" in caplog.text
    assert {path.name for path in tmp_path.iterdir()} == set(FIRST_IMAGES)


def test_first_images_are_the_worlds() -> None:
    for name, scene in FIRST_IMAGES.items():
        with Image.open(examples.FOLDER / name) as image:
            assert psnr(np.asarray(image), np.asarray(draw_first_image(scene))) > 45
    assert set(FIRST_IMAGES) == {example.first_image for example in EXAMPLES.values() if example.first_image}


def test_the_clips_of_motion_scores_move_more_and_more() -> None:
    """From one picture on; they are small, and nothing else is found by the name of one."""
    clips = {score: examples.motion_thumbnail(str(score)) for score in examples.MOTION_SCORES}
    still = pictures(examples.motion_thumbnail(examples.MOTION_STILL))
    moved = []
    for path in clips.values():
        frames = pictures(path).astype(np.float32)
        assert frames.shape[1:] == (55, 96, 3) and path.stat().st_size < 8000
        assert psnr(frames[0].astype(np.uint8), still[0]) > 25
        moved.append(float(np.abs(frames[-1] - frames[0]).mean()))
    assert moved == sorted(moved) and moved[-1] > 1.5 * moved[0], moved
    assert [examples.motion_thumbnail(kind) for kind in ("3", "../x", "")] == [None] * 3


def test_a_thumbnail_keeps_the_shape(tmp_path: Path) -> None:
    write_thumbnail(tmp_path / "wide.webp", np.random.default_rng(0).integers(0, 255, (3, 32, 64, 3), np.uint8))
    assert pictures(tmp_path / "wide.webp").shape == (3, 112, 224, 3)
