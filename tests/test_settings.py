"""GenerationSettings: defaults, every rule with its sentence, and anything at all read from json."""

import dataclasses
import json
from dataclasses import asdict, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.commands.cli import build_parser
from studio.config import load_camera_moves, load_models
from studio.errors import InputError
from studio.settings import MAX_SEED, RANGES, TYPES, GenerationSettings, ResolvedSettings, nearest_multiples

MODELS, MOVES = load_models(), load_camera_moves()
FIELDS = [field.name for field in dataclasses.fields(GenerationSettings)]
NANO = GenerationSettings("nano", "a red ball").resolve(MODELS["nano"])
TI2V = GenerationSettings("step-video-ti2v", "a cat", first_image="cat.png").resolve(MODELS["step-video-ti2v"])

plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20))
anything = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
valid = st.builds(
    GenerationSettings,
    model=st.sampled_from(sorted(MODELS)),
    prompt=st.text(min_size=1, max_size=50),
    negative_prompt=st.none() | st.text(max_size=50),
    first_image=st.none() | st.text(min_size=1, max_size=20),
    motion_score=st.none() | st.floats(0, 50),
    camera_move=st.sampled_from(["", *MOVES]),
    infer_steps=st.none() | st.integers(1, 200),
    cfg_scale=st.none() | st.floats(1, 30),
    time_shift=st.none() | st.floats(0.1, 100),
    num_frames=st.none() | st.integers(1, 408),
    height=st.none() | st.integers(64, 2048),
    width=st.none() | st.integers(64, 2048),
    seed=st.none() | st.integers(0, MAX_SEED),
)


def codes(given: ResolvedSettings) -> list[str]:
    return [problem.code for problem in given.problems(MODELS[given.model], MOVES)]


def test_resolve_fills_every_empty_field_and_nothing_else() -> None:
    assert all(getattr(TI2V, name) is not None for name in FIELDS)
    own = {"infer_steps": 3, "seed": 0, "negative_prompt": "", "motion_score": 0.0}
    resolved = replace(TI2V.asked(), **own).resolve(MODELS["step-video-ti2v"])
    assert all(getattr(resolved, name) == value for name, value in own.items())
    assert resolved.asked().resolve(MODELS["step-video-ti2v"]) == resolved
    assert resolved.cfg_scale == MODELS["step-video-ti2v"].defaults["cfg_scale"]


def test_the_motion_score_belongs_to_the_network() -> None:
    for model, picture, wanted in (
        ("nano", None, 5.0), ("nano", "a.png", 5.0), ("nano-turbo", None, None),
        ("step-video-t2v", None, None), ("step-video-ti2v", "a.png", 5.0),
    ):  # fmt: skip
        made = GenerationSettings(model, "x", first_image=picture).resolve(MODELS[model])
        assert made.motion_score == wanted, model


def test_an_empty_seed_is_drawn_anew() -> None:
    drawn = {GenerationSettings("nano", "x").resolve(MODELS["nano"]).seed for _ in range(8)}
    assert len(drawn) == 8 and all(0 <= seed < 2**32 for seed in drawn)


RULES = [
    ({}, []),
    ({"prompt": " \n"}, ["prompt_empty"]),
    ({"prompt": "x" * 2000}, []),
    ({"prompt": "x" * 2001}, ["prompt_long"]),
    ({"negative_prompt": "x" * 2001}, ["prompt_long"]),
    ({"negative_prompt": ""}, []),
    ({"prompt": "\udc80"}, ["settings_unreadable"]),
    ({"camera_move": "sideways"}, ["camera_unknown"]),
    ({"camera_move": "zoom-in"}, []),
    ({"motion_score": 50.5}, ["number_range"]),
    ({"motion_score": 0.0}, []),
    ({"infer_steps": 0}, ["number_range"]),
    ({"infer_steps": 201}, ["number_range"]),
    ({"infer_steps": 4.5}, ["number_whole"]),
    ({"infer_steps": "4"}, ["number_invalid"]),
    ({"infer_steps": True}, ["number_invalid"]),
    ({"infer_steps": None}, ["number_invalid"]),
    ({"cfg_scale": float("nan")}, ["number_invalid"]),
    ({"cfg_scale": float("inf")}, ["number_range"]),
    ({"cfg_scale": 0.99}, ["number_range"]),
    ({"time_shift": -float("inf")}, ["number_range"]),
    ({"time_shift": 10**400}, ["number_range"]),
    ({"seed": -1}, ["number_range"]),
    ({"seed": MAX_SEED}, []),
    ({"seed": MAX_SEED + 1}, ["number_range"]),
    ({"num_frames": 1}, []),
    ({"num_frames": 17}, []),
    ({"num_frames": 18}, ["frames_step"]),
    ({"num_frames": 0}, ["number_range"]),
    ({"height": 545, "width": 1000}, ["size_step", "size_step"]),
    ({"height": 48}, ["number_range"]),
    ({"prompt": "", "height": 545, "seed": -1}, ["prompt_empty", "number_range"]),
]


def test_rules() -> None:
    found = [(change, codes(replace(TI2V, **change))) for change, _ in RULES]
    assert [pair for pair in zip(found, RULES, strict=True) if pair[0] != pair[1]] == []


PICTURES_AND_MOTION = [
    ("step-video-t2v", None, None, []),
    ("step-video-t2v", "a.png", None, ["image_unused"]),
    ("step-video-t2v-turbo", "a.png", None, ["image_unused"]),
    ("step-video-t2v", None, 5.0, ["motion_unused"]),
    ("step-video-ti2v", None, None, ["image_needed"]),
    ("step-video-ti2v", "a.png", 5.0, []),
    ("nano", None, None, []),
    ("nano", "a.png", 5.0, []),
    ("nano", None, 5.0, []),
    ("nano-turbo", None, None, []),
    ("nano-turbo", "a.png", None, ["image_unused"]),
    ("nano-turbo", None, 5.0, ["motion_unused"]),
]


def test_pictures_and_motion() -> None:
    for model, picture, motion, expected in PICTURES_AND_MOTION:
        given = GenerationSettings(model, "x", first_image=picture, motion_score=motion).resolve(MODELS[model])
        assert codes(given) == expected, (model, picture, motion)


def test_check_raises_the_first_problem_with_its_numbers() -> None:
    with pytest.raises(InputError, match="height is 545, it must be a multiple of 16: use 544 or 560") as caught:
        replace(NANO, height=545, num_frames=18).check(MODELS["nano"], MOVES)
    assert caught.value.exit_code == 2
    NANO.check(MODELS["nano"], MOVES)


@given(
    height=st.integers(64, 2048),
    width=st.integers(64, 2048),
    frames=st.integers(1, MODELS["step-video-ti2v"].max_frames),
)
@settings(deadline=None)
def test_the_two_values_named_are_valid_and_nearest(height: int, width: int, frames: int) -> None:
    given = replace(TI2V, height=height, width=width, num_frames=frames)
    for problem in given.problems(MODELS[given.model], MOVES):
        name = problem.values.get("field", "num_frames")
        below, above = problem.values["below"], problem.values["above"]
        assert below < getattr(given, name) < above
        for value in (below, above):
            assert name not in {p.values.get("field", "num_frames") for p in _problems(replace(given, **{name: value}))}


def _problems(given: ResolvedSettings) -> list[InputError]:
    return given.problems(MODELS[given.model], MOVES)


def test_nearest_multiples() -> None:
    assert [nearest_multiples(value, 16) for value in (15, 16, 17)] == [(0, 16), (16, 32), (16, 32)]


@given(given=valid)
@settings(deadline=None)
def test_json_keeps_every_field(given: GenerationSettings) -> None:
    resolved = given.resolve(MODELS[given.model])
    assert GenerationSettings.from_json(given.to_json()) == given
    assert ResolvedSettings.from_json(resolved.to_json()) == resolved
    assert GenerationSettings.from_record({"settings": asdict(resolved), "torch": "2"}) == resolved.asked()
    assert list(json.loads(given.to_json())) == list(json.loads(resolved.to_json())) == FIELDS


def test_settings_of_the_first_version_are_read_as_they_were_written() -> None:
    """A line that version 0.1 wrote into a queue, a work folder's latents and a video."""
    resolved = ResolvedSettings.from_json(FIRST_VERSION)
    # What it did, though it had no words for it.
    assert json.loads(resolved.to_json()) == json.loads(FIRST_VERSION) | ADDED
    assert (resolved.seed, resolved.cfg_scale) == (7, 5.0)
    again = GenerationSettings.from_json(FIRST_VERSION).resolve(MODELS["nano"])
    assert again == replace(resolved, motion_score=5.0)  # today's nano has one for text alone too


ADDED = {"speed": "exact", "guidance_schedule": "constant", "prompt_template": ""}
ADDED |= {"magic_words": "official", "camera_speed": "plain", "crop_left": 0.5, "crop_top": 0.5}
FIRST_VERSION = (
    '{"model": "nano", "prompt": "一只猫", "negative_prompt": "", "first_image": null, "motion_score": null, '
    '"camera_move": "orbit", "infer_steps": 20, "cfg_scale": 5.0, "time_shift": 3.0, "num_frames": 34, '
    '"height": 128, "width": 224, "seed": 7}'
)


def test_resolved_settings_lack_no_number() -> None:
    for name in FIELDS:
        data = asdict(NANO) | {name: None}
        if type(None) in TYPES[ResolvedSettings][name]:
            assert ResolvedSettings.from_dict(data) == replace(NANO, **{name: None})
        else:
            with pytest.raises(InputError, match=name):
                ResolvedSettings.from_dict(data)
        rest = {key: value for key, value in asdict(NANO).items() if key != name}
        if name in ADDED:  # files of the first version lack them
            assert ResolvedSettings.from_dict(rest) == NANO
            continue
        with pytest.raises(InputError, match=name):
            ResolvedSettings.from_dict(rest)


@given(data=anything | st.dictionaries(st.sampled_from(FIELDS), anything))
@settings(deadline=None, max_examples=150)
def test_anything_read_is_settings_or_a_sentence(data: object) -> None:
    try:
        read = GenerationSettings.from_dict(data)
    except InputError as error:
        assert str(error)
        return
    read.to_json().encode()
    model = MODELS.get(read.model, MODELS["nano"])
    assert all(str(problem) for problem in read.resolve(model).problems(model, MOVES))


NO_SETTINGS = [
    *("", "nonsense", "[]", "null", "1", '{"model": "nano"}', '{"prompt": "x"}', "[" * 100_000, '{"a":' * 100_000),
    '{"model": "nano", "prompt": "\\ud800"}',
    '{"model": "nano", "prompt": "x", "seed": 1.0}',
    '{"model": "nano", "prompt": "x", "evil": 1}',
    '{"model": "nano", "prompt": "x", "infer_steps": true}',
]


def test_what_is_no_settings_is_a_sentence() -> None:
    for text in NO_SETTINGS:
        for kind in (GenerationSettings, ResolvedSettings):
            with pytest.raises(InputError) as caught:
                kind.from_json(text)
            assert caught.value.code in ("settings_unreadable", "settings_field"), text[:40]


def test_every_field_can_be_given_on_the_command_line() -> None:
    names = [name for name in FIELDS if name != "prompt_template"]  # a record, not a choice
    given = {name: "1" for name in names} | {"speed": "fast", "guidance_schedule": "falling", "magic_words": "anime"}
    given |= {"camera_speed": "slow"}
    arguments = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", value)]
    options = vars(build_parser().parse_args(["generate", *arguments]))
    assert all(options[name] is not None for name in names)


def test_every_number_has_a_range() -> None:
    for types in TYPES.values():
        assert {name for name, kinds in types.items() if {int, float} & set(kinds)} == set(RANGES)
