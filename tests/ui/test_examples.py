"""Examples on the page: the chosen model's, and a click on one is its whole request."""

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from studio.config import load_examples, load_models
from studio.examples import FOLDER, example_settings, first_image
from studio.service.media import find_media
from studio.ui import form
from studio.ui.examples_panel import PROMPTS
from studio.ui.strings import LANGUAGES, say
from tests.ui.clicks import EVIL, filled, picture

EXAMPLES, MODELS = load_examples(), load_models()
HERE = [key for key, example in EXAMPLES.items() if (FOLDER / f"{key}.en.webp").is_file()]


def cards(page, model, language="en"):
    return page.examples.show(model, language)[page.examples.cards]


def choose(page, key, **given):
    return page.examples.choose(filled(page, **given), SimpleNamespace(id=key))


def test_a_click_fills_the_whole_form(page):
    """Whatever was in it before: another model, another picture, other numbers."""
    before = {"model": "step-video-ti2v", "image": picture(), "infer_steps": 3, "camera_move": "orbit", "seed": "1"}
    fields = page.create.fields
    for (key, example), language in itertools.product(EXAMPLES.items(), LANGUAGES):
        updates = choose(page, key, language=language, **before)
        wanted = example_settings(example, language).resolve(MODELS[example.model])
        values = {name: updates[field]["value"] for name, field in fields.items()}
        found = form.collect(values, MODELS, wanted.first_image is not None).resolve(MODELS[example.model])
        assert replace(found, first_image=None) == replace(wanted, first_image=None), key
        upload = updates[page.create.first_image]["value"]
        if source := first_image(example):
            assert Path(upload).read_bytes() == source.read_bytes(), key
            assert updates[page.create.picture_size] == "448x256" and updates[fields["motion_score"]]["interactive"]
        else:
            assert upload is None and updates[page.create.picture_size] == "", key


def test_the_built_in_models_share_theirs(page, fake, monkeypatch):
    for language in LANGUAGES:
        shown = cards(page, "nano", language)
        asked = {page.create.fields["model"]: "nano", page.create.language: language}
        assert shown == cards(page, "nano-turbo", language) == page.examples.follow(asked)[page.examples.cards]
        wanted = [f'src="studio/media/{key}/{language}"' for key in HERE]
        wanted += [*(EXAMPLES[key].prompt[language] for key in HERE), say("examples.picture", language, score="9")]
        assert [words for words in wanted if words not in shown] == []
    monkeypatch.setattr(fake, "names", ("nano-turbo",))
    assert "red-square-right" not in cards(page, "nano-turbo"), "nano itself is not here"


def test_a_card_without_its_picture_is_not_shown(page, monkeypatch, tmp_path):
    monkeypatch.setattr("studio.ui.examples_panel.thumbnail", lambda *_: tmp_path / "none")
    assert cards(page, "nano") == ""


def test_big_models_have_prompts_of_their_own(page):
    for language in LANGUAGES:
        shown = cards(page, "step-video-t2v", language)
        assert all(say(key, language) in shown for key in PROMPTS) and "<img" not in shown
        updates = choose(page, PROMPTS[0], model="step-video-t2v", language=language, infer_steps=7)
        assert updates[page.create.fields["prompt"]] == say(PROMPTS[0], language)
        assert page.create.fields["infer_steps"] not in updates and page.create.first_image not in updates


def test_what_is_no_example_does_nothing(page):
    fields = {*page.create.fields.values(), page.create.first_image}
    for key in ("", EVIL, "example.4", "stage.empty", "../../etc/passwd", ["red-square-right"], None):
        assert not fields & set(choose(page, key)), key
        assert find_media(page.backend, str(key), "en") is None, key


def test_thumbnails_are_served_by_id(page):
    for key in HERE:
        assert find_media(page.backend, key, "zh") == FOLDER / f"{key}.zh.webp"
    assert find_media(page.backend, "red-square-right", "fr") is None
