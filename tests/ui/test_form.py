"""The form says exactly what the settings say, both ways, and keeps what can be kept of a broken one."""

import dataclasses
import itertools
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from studio.config import load_camera_moves, load_models, load_presets
from studio.errors import InputError
from studio.magic import MagicWords
from studio.settings import MAX_SEED, CameraSpeed, GenerationSettings, GuidanceSchedule, Speed
from studio.ui import form, form_changes, speeds

MODELS, MOVES, PRESETS = load_models(), load_camera_moves(), load_presets()
TI2V, T2V, NANO = MODELS["step-video-ti2v"], MODELS["step-video-t2v"], MODELS["nano"]
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@st.composite
def requests(draw):
    """Any resolved settings that can run."""
    model = MODELS[draw(st.sampled_from(sorted(MODELS)))]
    speeds = [Speed.EXACT] if model.turbo else list(Speed)
    has_image = draw(st.booleans()) if model.takes_text_alone and model.takes_image else model.takes_image
    moves = model.variant(has_image).motion_score
    return GenerationSettings(
        model=model.name,
        prompt=draw(texts.filter(str.strip)),
        negative_prompt=draw(texts),
        first_image=form.PICTURE if has_image else None,
        motion_score=draw(st.floats(0, 50)) if moves else None,
        camera_move=draw(st.sampled_from(["", *MOVES])),
        infer_steps=draw(st.integers(1, 200)),
        cfg_scale=draw(st.floats(1, 30)),
        time_shift=draw(st.floats(0.1, 100)),
        num_frames=draw(st.sampled_from([1, *range(17, model.max_frames + 1, 17)])),
        height=16 * draw(st.integers(4, 128)),
        width=16 * draw(st.integers(4, 128)),
        seed=draw(st.integers(0, MAX_SEED)),
        speed=draw(st.sampled_from(speeds)).value,
        guidance_schedule=draw(st.sampled_from(list(GuidanceSchedule))).value,
        camera_speed=draw(st.sampled_from(list(CameraSpeed))).value,
        magic_words=draw(st.sampled_from(list(MagicWords))).value,
        crop_left=draw(st.floats(0, 1)),
        crop_top=draw(st.floats(0, 1)),
    )


def by_browser(values):
    """What a browser makes of values: its one kind of number writes 9.0 as 9, and is exact up to 2**53."""
    whole = {name: int(v) if isinstance(v, float) and v == int(v) else v for name, v in values.items()}
    assert all(abs(v) <= 2**53 for v in whole.values() if isinstance(v, int))
    return json.loads(json.dumps(whole))


@given(requests())
@settings(max_examples=100, deadline=None)
def test_collect_is_the_inverse_of_fill(wanted):
    model = MODELS[wanted.model]
    assert not wanted.resolve(model).problems(model, MOVES)
    values = by_browser(form.fill(wanted, model))
    found = form.collect(values, MODELS, wanted.first_image is not None)
    assert found == wanted
    assert found.to_json() == wanted.to_json()  # 9.0 stays 9.0: the same job, the same text in the file


@given(requests())
@settings(max_examples=50, deadline=None)
def test_what_a_form_holds_is_always_among_its_choices(wanted):
    model = MODELS[wanted.model]
    values = form.fill(wanted, model)
    assert values["size"] in [value for _, value in form.size_choices(model, values["size"], "en")]
    lengths = form.length_choices(model, values["num_frames"], "zh", values["speed"])
    assert values["num_frames"] in [value for _, value in lengths]
    assert values["speed"] in [value for _, value in speeds.choices(values, {}, False, "en")]
    assert values["guidance_schedule"] in [value for _, value in form.guidance_choices("zh")]
    motion = form.motion_state(model, wanted.first_image is not None, values["motion_score"], "en")
    assert values["motion_score"] <= motion.limit


def test_every_setting_has_its_field():
    names = {field.name for field in dataclasses.fields(GenerationSettings)}
    fields = set(form.fill(GenerationSettings("nano", "a"), NANO))
    assert names - {"first_image", "height", "width", "prompt_template"} == fields - {"size", "default_speed"}


def test_every_choice_offered_is_valid():
    wrong = []
    for model, language in itertools.product(MODELS.values(), ("en", "zh")):
        base = form.fill(GenerationSettings(model.name, "a cat"), model)
        lengths, sizes = form.length_choices(model, None, language), form.size_choices(model, base["size"], language)
        assert all(len({words for words, _ in choices}) == len(choices) for choices in (lengths, sizes))
        changes = [{"num_frames": value} for _, value in lengths] + [{"size": value} for _, value in sizes]
        for change in changes:
            made = form.collect(base | change, MODELS, not model.takes_text_alone).resolve(model)
            wrong += [(model.name, change)] if made.problems(model, MOVES) or made.num_frames > model.max_frames else []
    assert wrong == []


def test_lengths_are_said_in_seconds():
    assert ("8.2 s · 204 frames", 204) in form.length_choices(T2V, None, "en")
    assert ("4.1 秒 · 102 帧", 102) in form.length_choices(TI2V, None, "zh")


def test_a_preset_tells_what_it_costs_here_and_a_speed_whether_it_was_calibrated():
    told = form.preset_choices(PRESETS, "step-video-t2v", {"t2v-best": 5400.0, "t2v-balanced": 3132.0}, "en")
    assert told == [
        ("Draft", "t2v-draft"),
        ("Balanced\nabout 52 min", "t2v-balanced"),
        ("Best\nabout 1 h 30 min", "t2v-best"),
    ]
    long, known = {"num_frames": 204, "speed": "exact"}, {"exact": 5400.0, "fast": None, "draft": 312.0}
    assert speeds.choices(long, known, True, "en") == [
        ("Exact · about 1 h 30 min", "exact"),
        ("Fast (calibrated)", "fast"),
        ("Draft (preview) · 2.0 s in ~5 min 12 s", "draft"),
    ]
    assert speeds.choices({**long, "num_frames": 17}, known, True, "zh") == [
        ("精确 · 约 1 小时 30 分", "exact"),
        ("快速（已校准）", "fast"),
        ("草稿（预览） · 约 5 分 12 秒", "draft"),
    ]
    assert speeds.choices({**long, "num_frames": ""}, {}, False, "en")[1:] == [
        ("Fast", "fast"),
        ("Draft (preview)", "draft"),
    ]


def test_a_preset_leaves_the_length_and_a_draft_shortens_it():
    values = form.fill(GenerationSettings("step-video-t2v", "a cat", num_frames=136), T2V)
    assert form.preset_of(values, PRESETS) == "t2v-best"
    balanced = form.with_preset(values, PRESETS["t2v-balanced"])
    assert (balanced["num_frames"], balanced["speed"]) == (136, "fast")
    assert form.with_preset(values, PRESETS["t2v-draft"])["num_frames"] == 51


def test_what_is_changed_in_the_drawer_is_told_and_taken_back():
    values = form.fill(GenerationSettings("step-video-ti2v", "a cat"), TI2V)
    assert form_changes.changed(values, TI2V, PRESETS, True) == []
    assert form_changes.changed(form.with_preset(values, PRESETS["ti2v-draft"]), TI2V, PRESETS, True) == []
    mine = values | {"camera_move": "orbit", "infer_steps": 33, "seed": " 7 ", "motion_score": 10, "cfg_scale": ""}
    mine |= {"negative_prompt": "", "num_frames": 17, "size": "544x992", "prompt": "b"}
    names = ["camera_move", "motion_score", "seed", "infer_steps", "negative_prompt"]
    assert form_changes.changed(mine, TI2V, PRESETS, True) == names
    assert form_changes.changed(mine, TI2V, PRESETS, False) == names, "its one network takes pictures"
    one = form_changes.reset(mine, "infer_steps", TI2V, PRESETS, True)
    assert one == mine | {"infer_steps": 50}
    back = form_changes.reset(mine, "all", TI2V, PRESETS, True)
    assert form_changes.changed(back, TI2V, PRESETS, True) == [] and back["prompt"] == "b" and back["num_frames"] == 17
    assert form_changes.reset(mine, "prompt", TI2V, PRESETS, True) == mine, "no field of the drawer"


def test_a_draft_is_short():
    values = form.fill(GenerationSettings("step-video-t2v", "a cat"), T2V)
    draft = form.change_speed({**values, "speed": "draft"})
    assert draft["num_frames"] == 51 and form.change_speed({**draft, "num_frames": 17})["num_frames"] == 17
    assert form.change_speed({**values, "speed": "fast"})["num_frames"] == 204
    offered = [frames for _, frames in form.length_choices(T2V, 51, "en", "draft")]
    assert offered == [1, 17, 34, 51] and len(form.length_choices(T2V, 51, "en", "fast")) == 13
    assert 204 in [frames for _, frames in form.length_choices(T2V, 204, "en", "draft")], "what is set is never dropped"


def test_turbo_has_one_speed_also_in_a_form_that_comes_back():
    stored = form.fill(GenerationSettings("step-video-t2v", "a cat", speed="fast"), T2V)
    assert form.restored(stored, MODELS, NANO)["speed"] == "fast"
    assert form.restored({**stored, "model": "nano-turbo"}, MODELS, NANO)["speed"] == "exact"


def test_whose_choice_the_speed_was_is_kept_with_the_form():
    """What a person or a file chose is theirs; what the page chose goes on following the default."""
    mine, left = (form.fill(GenerationSettings("nano", "a cat", speed=speed), NANO) for speed in ("fast", None))
    assert (mine["default_speed"], left["default_speed"]) == ("", "exact")
    for stored in (mine, left, {**left, "speed": "fast"}, {**left, "speed": "fast", "default_speed": "fast"}):
        assert form.restored(by_browser(stored), MODELS, NANO) == stored
    for stored, by_page in (({"model": "nano"}, "exact"), ({"speed": "exact"}, ""), ({**left, "default_speed": 3}, "")):
        assert form.restored(stored, MODELS, NANO)["default_speed"] == by_page
    assert form.change_model(mine, T2V, MODELS)["default_speed"] == "exact", "its defaults travel together"


def test_presets_fit_their_model_and_are_recognised():
    for key, preset in PRESETS.items():
        model = MODELS[preset.model]
        values = form.fill(GenerationSettings(model.name, "a"), model) | preset.values
        assert form.preset_of(values, PRESETS) == key
        assert form.preset_of({**values, "infer_steps": 7}, PRESETS) == "", key
        assert key in [value for _, value in form.preset_choices(PRESETS, model.name, {}, "zh")]
        made = form.collect(values, MODELS, not model.takes_text_alone).resolve(model)
        assert not made.problems(model, MOVES), key


def test_a_changed_model_brings_its_defaults_and_keeps_the_words():
    values = form.fill(GenerationSettings("step-video-t2v", "a cat", camera_move="orbit", height=992, width=544), T2V)
    changed = form.change_model(values, TI2V, MODELS)
    assert (changed["prompt"], changed["camera_move"], changed["size"]) == ("a cat", "orbit", "544x992")
    assert changed["negative_prompt"] == TI2V.negative_prompt
    assert (changed["num_frames"], changed["infer_steps"], changed["motion_score"]) == (102, 50, 5.0)
    edited = form.change_model({**values, "negative_prompt": "mine"}, TI2V, MODELS)
    assert edited["negative_prompt"] == "mine"
    assert form.change_model(values, NANO, MODELS)["size"] == "128x224"  # its own sizes, the same orientation


def refused(**changes):
    """The sentence that refuses a form with these values, "" where it may run."""
    values = form.fill(GenerationSettings("nano", "a"), NANO) | changes
    try:
        form.collect(values, MODELS, False).resolve(NANO).check(NANO, MOVES)
    except InputError as error:
        return str(error)
    return ""


def test_a_seed_that_is_none_is_a_sentence():
    seeds = ("12x", "1.5", "-3", "1e3", "٣x", "9" * 40)
    assert [seed for seed in seeds if "seed" not in refused(seed=seed)] == []


def test_an_empty_seed_is_drawn_and_an_empty_negative_prompt_stays_empty():
    values = form.fill(GenerationSettings("step-video-t2v", "a"), T2V) | {"seed": " ", "negative_prompt": ""}
    found = form.collect(values, MODELS, False)
    assert found.seed is None and found.resolve(T2V).negative_prompt == ""


def test_numbers_that_cannot_run_are_refused_not_rounded():
    wrong = [{"infer_steps": 2.5}, {"infer_steps": 10**9}, {"cfg_scale": float("nan")}, {"num_frames": 100}]
    assert [changes for changes in (*wrong, {"size": "../x"}) if not refused(**changes)] == []


def test_a_picture_chooses_the_size_of_its_shape():
    assert form.nearest_size(TI2V, 3000, 4000) == "768x768"
    assert form.nearest_size(TI2V, 900, 1600) == "544x992"
    assert form.nearest_size(TI2V, 1920, 1080) == "992x544"
    assert form.nearest_size(NANO, 0, 0) == "224x128"


def test_a_broken_memory_of_the_form_is_its_defaults():
    broken = (None, 3, [], {"model": "gone"}, {"size": "1x", "seed": 4, "infer_steps": "many"})
    defaults = form.fill(GenerationSettings("nano", ""), NANO)
    assert [stored for stored in broken if form.restored(stored, MODELS, NANO) != defaults] == []


def test_the_form_comes_back_as_it_was_left():
    values = form.fill(GenerationSettings("step-video-ti2v", "a cat", camera_move="up", seed=7), TI2V)
    values |= {"infer_steps": 33, "cfg_scale": 7.5, "speed": "fast", "negative_prompt": "", "size": "544x992"}
    assert form.restored(by_browser(values), MODELS, NANO) == values


def test_motion_score_says_why_it_is_grey():
    assert form.motion_state(TI2V, True, 5.0, "en").enabled
    assert "has no motion score" in form.motion_state(T2V, False, 5.0, "en").info
    # A model with one network for text alone and another for pictures.
    apart = dataclasses.replace(NANO, variants=(*T2V.variants, *TI2V.variants))
    assert not form.motion_state(apart, False, 5.0, "zh").enabled and form.motion_state(apart, True, 5.0, "zh").enabled
    assert form.motion_state(NANO, False, 5.0, "zh").enabled
