"""configs/examples.yaml: every example can run, shows what came of it, and is small."""

import dataclasses

import pytest
from PIL import Image

from studio import examples
from studio.config import ROOT, load_camera_moves, load_examples, load_models
from studio.errors import InputError
from studio.media import read_image
from studio.pipeline.engine import is_installed
from studio.settings import GenerationSettings

EXAMPLES, MODELS, MOVES = load_examples(), load_models(), load_camera_moves()
LANGUAGES = ("en", "zh")


def test_every_example_can_run_in_both_languages() -> None:
    fields = {field.name for field in dataclasses.fields(GenerationSettings)}
    for key, example in EXAMPLES.items():
        model = MODELS[example.model]
        assert not model.sources, "a picture of what nobody has run here would be a promise"
        assert set(example.settings) <= fields - {"model", "prompt", "first_image"}, key
        assert set(example.prompt) == set(LANGUAGES), key
        for language in LANGUAGES:
            settings = examples.example_settings(example, language)
            assert settings.resolve(model).problems(model, MOVES) == [], key
            assert settings.seed is not None, f"{key}: Generate makes what the thumbnail shows"
            assert GenerationSettings.from_json(settings.to_json()) == settings, key


def test_every_example_shows_what_came_of_it() -> None:
    absent = set()
    for key, example in EXAMPLES.items():
        if picture := examples.first_image(example):
            assert min(read_image(picture.read_bytes()).size) >= 64, key
        if not is_installed(MODELS[example.model], ROOT):
            absent.add(example.model)
            continue
        for language in LANGUAGES:
            with Image.open(examples.thumbnail(example, language)) as image:
                assert image.format == "WEBP" and image.n_frames > 8 and max(image.size) <= 224, key
    if absent:
        pytest.skip(f"{', '.join(absent)} not in this copy")


def test_the_examples_show_what_nano_can_do() -> None:
    with_picture = [example for example in EXAMPLES.values() if example.first_image]
    by_text = [
        example for example in EXAMPLES.values() if not example.first_image and not example.settings.get("camera_move")
    ]
    assert len(EXAMPLES) >= 8 and len([example for example in by_text if example.model == "nano"]) >= 4
    assert len([example for example in with_picture if "motion_score" in example.settings]) >= 2
    assert len([example for example in EXAMPLES.values() if example.settings.get("camera_move")]) >= 2
    assert "nano-turbo" in {example.model for example in EXAMPLES.values()}


def test_the_pictures_are_few_bytes_and_none_is_left_over() -> None:
    files = {path.name: path.stat().st_size for path in examples.FOLDER.iterdir()}
    shown = {examples.thumbnail(e, language).name for e in EXAMPLES.values() for language in LANGUAGES}
    kinds = (*map(str, examples.MOTION_SCORES), examples.MOTION_STILL)
    shown |= {path.name for kind in kinds if (path := examples.motion_thumbnail(kind))}
    assert set(files) <= shown | {example.first_image for example in EXAMPLES.values()}
    assert sum(files.values()) <= 600_000


def test_an_example_that_does_not_fit_is_a_sentence(tmp_path) -> None:
    (tmp_path / "examples.yaml").write_text("a: {model: nano, promt: {en: x, zh: y}}")
    with pytest.raises(InputError, match="promt"):
        load_examples(tmp_path / "examples.yaml")
