"""Examples on the page: the chosen model's, and a click on one is its whole request."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from studio.config import load_examples, load_models
from studio.examples import FOLDER, example_settings, first_image
from studio.ui import form
from studio.ui.examples_panel import PROMPTS
from studio.ui.server import find_media
from studio.ui.strings import say
from tests.ui.clicks import EVIL, filled, picture

EXAMPLES, MODELS = load_examples(), load_models()
HERE = [key for key, example in EXAMPLES.items() if (FOLDER / f"{key}.en.webp").is_file()]


def cards(page, model, language="en"):
    return page.examples.show(model, language)[page.examples.cards]


def choose(page, key, **given):
    return page.examples.choose(filled(page, **given), SimpleNamespace(id=key))


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("key", EXAMPLES)
def test_a_click_fills_the_whole_form(page, key, language):
    """Whatever was in it before: another model, another picture, other numbers."""
    before = {"model": "step-video-ti2v", "image": picture(), "infer_steps": 3, "camera_move": "orbit", "seed": "1"}
    updates = choose(page, key, language=language, **before)
    example, fields = EXAMPLES[key], page.create.fields
    wanted = example_settings(example, language).resolve(MODELS[example.model])
    values = {name: updates[field]["value"] for name, field in fields.items()}
    found = form.collect(values, MODELS, wanted.first_image is not None).resolve(MODELS[example.model])
    assert replace(found, first_image=None) == replace(wanted, first_image=None)
    upload = updates[page.create.first_image]["value"]
    if source := first_image(example):
        with open(upload, "rb") as file:
            assert file.read() == source.read_bytes()
        assert updates[page.create.picture_size] == "256x256" and updates[fields["motion_score"]]["interactive"]
    else:
        assert upload is None and updates[page.create.picture_size] == ""


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_built_in_models_share_theirs(page, fake, language, monkeypatch):
    shown = cards(page, "nano", language)
    assert (
        shown
        == cards(page, "nano-turbo", language)
        == page.examples.follow({page.create.fields["model"]: "nano", page.create.language: language})[
            page.examples.cards
        ]
    )
    for key in HERE:
        assert f'src="studio/media/{key}/{language}"' in shown and EXAMPLES[key].prompt[language] in shown
    assert say("examples.picture", language, score="9") in shown
    monkeypatch.setattr(fake, "names", ("nano-turbo",))
    assert "red-square-right" not in cards(page, "nano-turbo", language), "nano itself is not here"


def test_a_card_without_its_picture_is_not_shown(page, monkeypatch, tmp_path):
    monkeypatch.setattr("studio.ui.examples_panel.thumbnail", lambda *_: tmp_path / "none")
    assert cards(page, "nano") == ""


@pytest.mark.parametrize("language", ["en", "zh"])
def test_big_models_have_prompts_of_their_own(page, language):
    shown = cards(page, "step-video-t2v", language)
    assert all(say(key, language) in shown for key in PROMPTS) and "<img" not in shown
    updates = choose(page, PROMPTS[0], model="step-video-t2v", language=language, infer_steps=7)
    assert updates[page.create.fields["prompt"]] == say(PROMPTS[0], language)
    assert page.create.fields["infer_steps"] not in updates and page.create.first_image not in updates


@pytest.mark.parametrize("key", ["", EVIL, "example.4", "stage.empty", "../../etc/passwd", ["red-square-right"], None])
def test_what_is_no_example_does_nothing(page, key):
    assert choose(page, key) == {}
    assert find_media(page.backend, str(key), "en") is None


def test_thumbnails_are_served_by_id(page):
    for key in HERE:
        assert find_media(page.backend, key, "zh") == FOLDER / f"{key}.zh.webp"
    assert find_media(page.backend, "red-square-right", "fr") is None
