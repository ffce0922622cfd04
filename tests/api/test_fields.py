"""Fields of requests become settings; what cannot be used is refused by its name, never lost."""

from dataclasses import replace
from typing import Any

import pytest

from studio.api.fields import FIELDS, changed, wanted
from studio.errors import InputError
from studio.service.backend import Backend
from studio.service.submit import submit
from studio.settings import GenerationSettings, Speed
from tests.service.conftest import backend as backend  # the fixture


def asked(backend: Backend, **given: Any) -> dict[str, Any]:
    """The settings that these fields give, those alone that are not empty."""
    found = vars(wanted({"prompt": "x", **given}, backend).settings)
    return {name: value for name, value in found.items() if value not in (None, "") and name not in ("prompt", "model")}


def test_our_names_and_the_dialects_mean_the_same(backend: Backend) -> None:
    cases = [
        ({"size": "96x64"}, {"width": 96, "height": 64}),
        ({"width": 96, "height": "64"}, {"width": 96, "height": 64}),
        ({"size": "96x64", "width": 96}, {"width": 96, "height": 64}),
        ({"num_inference_steps": "7"}, {"infer_steps": 7}),
        ({"guidance_scale": 2, "flow_shift": "3.5"}, {"cfg_scale": 2.0, "time_shift": 3.5}),
        ({"extra_params": {"seed": 5}, "speed": "fast"}, {"seed": 5, "speed": "fast"}),
        ({"extra_body": '{"infer_steps": 9.0}', "fps": "25"}, {"infer_steps": 9}),
        ({"extra_params[seed]": "6", "user": "u"}, {"seed": 6}),
        ({"seed": None, "cfg_scale": ""}, {}),
        ({"seed": 2**63}, {"seed": 2**63}),  # refused with its range where it is checked
        ({"preset": "nano-draft"}, {"infer_steps": 20, "cfg_scale": 3.0, "time_shift": 3.0, "num_frames": 17,
                                    "speed": "draft"}),
        ({"preset": "nano-turbo-10", "num_frames": 34}, {"infer_steps": 10, "cfg_scale": 1.0, "time_shift": 3.0,
                                                          "num_frames": 34}),
    ]  # fmt: skip
    for given, settings in cases:
        assert asked(backend, **given) == settings, given
    assert wanted({"prompt": "x", "preset": "nano-turbo-10"}, backend).settings.model == "nano-turbo"
    assert wanted({"prompt": "x"}, backend).settings.model == backend.first_model().name
    assert wanted({"prompt": "x", "negative_prompt": ""}, backend).settings.negative_prompt == ""


def test_without_a_speed_a_request_is_exact_also_where_fast_is_calibrated(backend: Backend) -> None:
    calibrated = replace(backend, calibrated=lambda *asked: True)
    job = submit(calibrated, wanted({"prompt": "x"}, calibrated).settings)
    assert job.settings.speed == Speed.EXACT and "exact where it is not given" in FIELDS["speed"].about


def test_seconds_take_the_nearest_length_that_can_be_made(backend: Backend) -> None:
    lengths = {"0.68": 17, "1": 17, 1: 17, "1.2": 34, "4": 102, 8: 204, "0.01": 17, "8.16": 204, "16.32": 408}
    for seconds, frames in lengths.items():
        assert asked(backend, seconds=seconds) == {"num_frames": frames}, seconds
    assert asked(backend, seconds="4", num_frames=1) == {"num_frames": 1}


def test_what_cannot_be_used_is_named(backend: Backend) -> None:
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"infer_step": 3}, "field_unknown", "infer_step"),
        ({"extra_params": {"lora": 1}}, "field_unknown", "lora"),
        ({"extra_params": {"extra_body": {}}}, "field_unknown", "extra_body"),
        ({"extra_params": "[1]"}, "field_object", "extra_params"),
        ({"extra_params": "{" * 100_000}, "field_object", "extra_params"),
        ({"seed": 1, "extra_params": {"seed": 1}}, "field_twice", "seed"),
        ({"infer_steps": 1, "num_inference_steps": 1}, "field_twice", "num_inference_steps"),
        ({"size": "96x64", "width": 64}, "field_twice", "size"),
        ({"size": "96*64"}, "size_form", "size"),
        ({"size": ["96x64"]}, "size_form", "size"),
        ({"seed": "five"}, "number_invalid", "seed"),
        ({"seed": True}, "number_invalid", "seed"),
        ({"seed": "9" * 5000}, "number_invalid", "seed"),
        ({"cfg_scale": "nan"}, "number_invalid", "cfg_scale"),
        ({"cfg_scale": [1]}, "number_invalid", "cfg_scale"),
        ({"num_frames": 17.5}, "number_whole", "num_frames"),
        ({"seconds": 0}, "number_range", "seconds"),
        ({"seconds": "1e9"}, "number_range", "seconds"),
        ({"fps": 24}, "fps_fixed", "fps"),
        ({"prompt": 5}, "field_text", "prompt"),
        ({"preset": "best"}, "preset_unknown", "preset"),
        ({"preset": "nano-draft", "model": "nano-turbo"}, "preset_unknown", "preset"),
        ({"model": "sora-2"}, "model_unknown", "model"),
        ({"input_reference": "https://example.com/a.png"}, "image_remote", "input_reference"),
        ({"input_reference": "file:///etc/passwd"}, "image_remote", "input_reference"),
        ({"input_reference": "/etc/passwd"}, "image_remote", "input_reference"),
        ({"image_reference": {"file_id": "file-1"}}, "image_remote", "image_reference"),
        ({"image_reference": {"image_url": 5}}, "image_remote", "image_reference"),
        ({"input_reference": "data:image/png;base64,%%"}, "image_unreadable", "input_reference"),
        ({"input_reference": b"x", "image_reference": b"x"}, "field_twice", "input_reference"),
        ({"input_reference": b"x", "input_reference[image_url]": "y"}, "field_twice", "input_reference"),
        ({"input_reference[image_url]": "y", "input_reference": b"x"}, "field_twice", "input_reference"),
    ]  # fmt: skip
    for given, code, field in cases:
        with pytest.raises(InputError) as caught:
            wanted({"prompt": "x"} | given, backend)
        assert caught.value.code == code, (given, caught.value)
        assert str(caught.value.values.get("field", field)) == field, given


def test_a_remix_takes_all_but_the_model_and_the_picture() -> None:
    source = GenerationSettings("nano", "old", seed=4, first_image="/somewhere", infer_steps=9)
    found = changed({"prompt": "new", "guidance_scale": 2}, source)
    assert found == GenerationSettings("nano", "new", seed=4, first_image="/somewhere", infer_steps=9, cfg_scale=2.0)
    assert changed({}, source).prompt == ""
    for name in ("model", "preset", "input_reference", "image_reference"):
        with pytest.raises(InputError, match="keeps its model and its picture"):
            changed({"prompt": "x", name: "y"}, source)


def test_every_setting_has_a_field() -> None:
    settings = {field.setting for field in FIELDS.values()}
    beside = {"first_image", "prompt_template"}  # a file; a record of what was typed, no choice
    assert settings | beside == set(GenerationSettings.__dataclass_fields__)
