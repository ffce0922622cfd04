"""The speeds of the form: the default follows what was calibrated, a choice stays, and a file brings its own plan."""

import json
from dataclasses import asdict

from studio.pipeline.evaluation_plan import Rule
from studio.settings import GenerationSettings
from studio.ui import form
from tests.ui.clicks import filled, give, message, picture, upload


def speed_field(page, updates):
    return updates[page.create.fields["speed"]]


def test_fast_is_the_default_where_it_was_calibrated(page, fake):
    try:
        fake.calibrated = {"nano": 5.0}
        data = filled(page, "step-video-t2v")
        chosen = page.events.model_chosen(data | {page.create.fields["model"]: "nano"})
        assert speed_field(page, chosen)["value"] == "fast"
        assert "Fast (calibrated)" in speed_field(page, chosen)["choices"][1][0]
        beyond = speed_field(page, page.events.speed_chosen(filled(page, cfg_scale=6.0)))
        assert "calibrated" not in beyond["choices"][1][0], "measured with less guidance"
        beyond = speed_field(page, page.events.speed_chosen(filled(page, time_shift=2.0)))
        assert "calibrated" not in beyond["choices"][1][0], "measured with more time shift"
        assert speed_field(page, page.open("en", None))["value"] == (
            "fast" if page.backend.first_model().name == "nano" else "exact"
        )
        assert speed_field(page, page.open("en", {"model": "nano", "speed": "exact"}))["value"] == "exact"
        assert speed_field(page, page.open("en", {"model": "nano"}))["value"] == "fast"
        kept = {"model": "nano", "speed": "exact", "default_speed": "exact"}
        assert speed_field(page, page.open("en", kept))["value"] == "fast", "the page chose it"
    finally:
        fake.calibrated = {}


def test_a_speed_that_is_only_the_default_follows_the_form_and_a_chosen_one_stays(page, fake):
    def after(updates, data):
        """The form and its default once the answer has arrived."""
        new = {
            part: update["value"] for part, update in updates.items() if isinstance(update, dict) and "value" in update
        }
        data = data | {part: value for part, value in new.items() if part in data}
        return data, (data[page.create.fields["speed"]], data[page.create.fields["default_speed"]])

    def words(updates):
        return [text.split(" · ")[0] for text, _ in speed_field(page, updates)["choices"]][1]

    guidance, has_picture = page.create.fields["cfg_scale"], {page.create.picture_size: "60x90"}
    try:
        fake.calibrated = {("nano", False): 5.0, ("nano", True): 0.0}
        data, speed = after(page.events.model_chosen(filled(page)), filled(page))
        assert speed == ("fast", "fast")
        given = page.events.picture_given(data | {page.create.first_image: upload(page, picture())})
        with_picture, speed = after(given, data | has_picture)
        assert speed == ("exact", "exact") and words(given) == "Fast", "with a picture it was not calibrated"
        _, speed = after(page.events.picture_removed(with_picture), with_picture)
        assert speed == ("fast", "fast")
        used, speed = after(page.events.use_picture(data, picture(), "used"), data)
        assert speed == ("exact", "exact")
        fake.calibrated = {("nano", False): 0.0, ("nano", True): 5.0}
        used = page.events.use_picture(filled(page), picture(), "used")
        assert after(used, filled(page))[1] == ("fast", "fast") and words(used) == "Fast (calibrated)"
        fake.calibrated = {"nano": 5.0}
        more = page.events.typed(data | {guidance: 6.0})
        typed, speed = after(more, data | {guidance: 6.0})
        assert speed == ("exact", "exact") and words(more) == "Fast", "measured with less guidance"
        assert more[page.create.store]["speed"] == "exact"
        less = page.events.typed(typed | {guidance: 4.0})
        assert after(less, typed)[1] == ("fast", "fast") and words(less) == "Fast (calibrated)"
        falling = {page.create.fields["guidance_schedule"]: "falling"}
        assert after(page.events.typed(data | falling), data)[1] == ("exact", "exact")
        for same in (4.0, "", None):
            update = speed_field(page, page.events.typed(data | {guidance: same}))
            assert "value" not in update, "a late answer undoes no choice; an empty number is the model's"
        chosen, _ = after(page.events.speed_chosen(data), data)
        for number in (6.0, 4.0):
            told = page.events.typed(chosen | {guidance: number})
            assert after(told, chosen)[1] == ("fast", "") and "value" not in speed_field(page, told)
        assert words(page.events.typed(chosen | {guidance: 6.0})) == "Fast", "the label tells what would run"
        asked = form.fill(GenerationSettings("nano", "a", speed="exact"), page.backend.models["nano"])
        assert page.create.show(asked, False, "en")[page.create.fields["speed"]]["value"] == "exact", "a file's"
    finally:
        fake.calibrated = {}


def test_a_chosen_draft_shortens_the_video(page):
    updates = page.events.speed_chosen(filled(page, "step-video-t2v", num_frames=204, speed="draft"))
    assert updates[page.create.fields["num_frames"]]["value"] == 51
    assert speed_field(page, updates)["value"] == "draft"


def test_a_file_brings_the_plan_that_made_it_as_long_as_nothing_is_changed(page):
    plan = Rule(9, 5.0, 0.6).plan(3.0, calibrated=True).to_dict()
    asked = GenerationSettings("nano", "a kite", seed=5, infer_steps=20, cfg_scale=3.0, speed="fast")
    settings = asdict(asked.resolve(page.backend.models["nano"]))
    record = {"settings": settings, "plan": plan, "model_fingerprint": "5a", "program": "step-video-studio"}
    for language, words in (("en", "takes the file&#x27;s own 9 steps"), ("zh", "自己的 9 步")):
        given = give(page, record, language=language)
        assert words in message(page, given)
    fields, values = page.create.fields, {"prompt": "a kite", "seed": "5", "speed": "fast"}
    assert given[fields["speed"]]["value"] == "fast"
    same = filled(page, **values) | {page.create.record: given[page.create.record]}
    for changes, kept in (({}, plan), ({"seed": "6"}, None), ({"cfg_scale": 2.0}, None), ({"speed": "draft"}, None)):
        page.stage.generate(same | {fields[name]: value for name, value in changes.items()})
        made = page.backend.queue.list(limit=1)[0]
        assert (made.again and made.again["plan"]) == kept, changes
    first = page.backend.queue.list()[-1]
    looked = {page.stage.focus: first.id}
    page.stage.again(same | looked)
    assert page.backend.queue.list(limit=1)[0].again == first.again
    assert json.loads(page.stage.reuse(same | looked)[page.create.record])["plan"] == plan
    for forged in ("[", "[]", '{"plan": 3}', json.dumps({**record, "plan": {"nodes": []}})):
        refused = page.stage.generate(same | {page.create.record: forged})
        assert "alert bad" in message(page, refused)
    other = give(page, {"settings": settings})
    assert other[page.create.record] == "" and "own" not in message(page, other)
    refused = give(page, {**record, "plan": {"nodes": [[0.5, 3.0]]}})
    assert "alert bad" in message(page, refused) and page.create.record not in refused
