"""What the form does when something is clicked, without a browser: handlers get values and give updates."""

import inspect
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
from PIL import Image

from studio.errors import InputError
from studio.settings import GenerationSettings
from studio.ui import form
from studio.ui.page import Page
from studio.video_writer import VideoWriter
from tests.ui.clicks import EVIL, filled, give, in_gallery, message, picture, submit, upload
from tests.ui.conftest import ALL


def test_generate_queues_exactly_what_the_form_says(page):
    updates = page.stage.generate(filled(page, camera_move="orbit", infer_steps=7, seed="12", negative_prompt=""))
    (job,) = page.backend.queue.list()
    assert updates[page.stage.focus] == job.id and message(page, updates) == ""
    asked = GenerationSettings("nano", "a paper boat", "", camera_move="orbit", infer_steps=7, seed=12)
    assert job.settings == asked.resolve(page.backend.models["nano"])


def test_an_empty_seed_is_drawn_when_queued(page):
    page.stage.generate(filled(page))
    page.stage.generate(filled(page))
    first, second = page.backend.queue.list()
    assert first.settings.seed != second.settings.seed


def test_the_job_owns_the_picture_as_it_was_uploaded(page):
    data = picture(kind="JPEG", exif=Image.Exif())
    page.stage.generate(filled(page, "step-video-ti2v", image=data))
    (job,) = page.backend.queue.list()
    with open(job.settings.first_image, "rb") as file:
        assert file.read() == data
    assert job.settings.motion_score == 5.0


WRONG = [
    ({"prompt": " "}, "The prompt is empty", "提示词为空"),
    ({"prompt": "x" * 2001}, "2001 characters", "2001 个字符"),
    ({"infer_steps": 0}, "Infer steps is 0", "推理步数 为 0"),
    ({"cfg_scale": float("inf")}, "CFG scale is inf", "CFG 强度 为 inf"),
    ({"seed": "1.5"}, "Seed is '1.5'", "随机种子 为 '1.5'"),
    ({"time_shift": 1e9}, "Time shift is 1000000000, it must lie between 0.1 and 100.", "在 0.1 到 100 之间"),
    ({"num_frames": 100}, "use 85 or 102", "85 或 102"),
    ({"size": "100x100"}, "use 96 or 112", "96 或 112"),
    ({"model": "step-video-ti2v"}, "starts from a picture", "需要首帧图片"),
    ({"model": "step-video-t2v", "image": picture()}, "cannot use a first image", "无法使用首帧图片"),
    ({"image": b"not a picture"}, "cannot be read", "无法读取"),
]


def test_wrong_input_is_a_sentence_and_nothing_is_lost(page):
    wrong = []
    for changes, *sentences in WRONG:
        for language, words in zip(("en", "zh"), sentences, strict=True):
            updates = page.stage.generate(filled(page, language=language, **changes))
            lost = set(updates) & {*page.create.fields.values(), page.create.first_image}
            told = message(page, updates).replace("&#x27;", "'")
            wrong += [] if words in told and not lost else [(changes, language)]
    assert wrong == [] and page.backend.queue.list() == []


def test_a_missing_model_gives_the_command_that_fetches_it(page):
    data = filled(page, "step-video-t2v-turbo")
    assert "python app.py download step-video-t2v-turbo" in message(page, page.stage.generate(data))
    wrong = filled(page, "step-video-t2v-turbo", image=picture(), infer_steps=0)
    assert "download step-video-t2v-turbo" in message(page, page.stage.generate(wrong)), "before what it would refuse"
    assert "python app.py download step-video-t2v-turbo" in page.events.typed(data)[page.create.plan]
    assert page.backend.queue.list() == []


def test_the_presets_are_offered_with_their_times_and_turbo_has_one_speed(page):
    def offered(updates):
        return [words.split("\n") for words, _ in updates[page.create.preset]["choices"]]

    times = offered(page.events.typed(filled(page, "step-video-t2v")))
    assert [name for name, _ in times] == ["Draft", "Balanced", "Best"]
    assert len({took for _, took in times}) == 3
    broken = offered(page.events.typed(filled(page, num_frames=100)))
    assert broken == [["Draft"], ["Balanced"], ["Best"]], "no time is known"
    turbo = page.events.model_chosen(filled(page, "nano-turbo"))
    assert turbo[page.create.fields["speed"]]["visible"] == "hidden" and len(offered(turbo)) == 1


def test_the_drawer_tells_what_was_changed_and_takes_it_back(page):
    data = filled(page, "step-video-t2v", infer_steps=33, seed="7", language="zh")
    head = page.events.typed(data)[page.create.drawer_head]
    assert "推理步数：33" in head and "随机种子：7" in head and "全部恢复" in head and "#steps .title" in head
    back = page.events.reset(data, SimpleNamespace(id="infer_steps"))
    assert back[page.create.fields["infer_steps"]]["value"] == 50 and back[page.create.fields["seed"]]["value"] == "7"
    whole = page.events.reset(data, SimpleNamespace(id="all"))
    assert whole[page.create.fields["seed"]]["value"] == "" and "<ul" not in whole[page.create.drawer_head]
    for id in (EVIL, None, "model"):
        assert page.events.reset(data, SimpleNamespace(id=id))[page.create.fields["infer_steps"]]["value"] == 33
    evil = page.events.typed(filled(page, negative_prompt=EVIL))[page.create.drawer_head]
    assert EVIL not in evil and "&lt;img" in evil


def test_installed_models_are_the_choice_and_a_missing_one_is_marked(page):
    updates = page.create.show(form.fill(GenerationSettings("nano", ""), page.backend.models["nano"]), False, "en")
    choices = updates[page.create.fields["model"]]["choices"]
    assert [value for _, value in choices] == [*ALL[2:], "nano", "nano-turbo"]
    brought = GenerationSettings("step-video-t2v-turbo", "")  # by a file
    values = form.fill(brought, page.backend.models[brought.model])
    choices = page.create.show(values, False, "en")[page.create.fields["model"]]["choices"]
    assert [value for words, value in choices if "not installed" in words] == ["step-video-t2v-turbo"]


def test_a_built_in_model_without_its_files_is_not_offered(page, fake, monkeypatch):
    monkeypatch.setattr(fake, "names", ("nano",))
    updates = page.open("en", {"model": "nano-turbo"})
    assert "nano-turbo" not in [value for _, value in updates[page.create.fields["model"]]["choices"]]
    assert updates[page.create.fields["model"]]["value"] == "nano"
    for language, words in (("en", "not in this copy"), ("zh", "没有它的文件")):
        told = message(page, page.stage.generate(filled(page, "nano-turbo", language=language)))
        assert words in told and "download" not in told


def test_a_picture_greys_what_works_from_text_alone(page):
    """Both Turbos and T2V alike: the menu says why, the chosen one says what to do."""
    for language, why, remedy in (
        ("en", "from text alone", "remove it, or choose nano."),
        ("zh", "只用文字生成", "改用 nano。"),
    ):
        data = filled(page, "nano-turbo", image=picture(), language=language)
        updates = page.events.picture_given(data)
        words = {value: words for words, value in updates[page.create.fields["model"]]["choices"]}
        assert [name for name in words if why in words[name]] == ["step-video-t2v", "nano-turbo"]
        style = updates[page.create.model_style]
        grey = {name for name in page.backend.models if f'"{name}"' in style}
        assert grey == {"step-video-t2v", "nano-turbo", "step-video-t2v-turbo"}
        assert remedy in updates[page.create.plan]
        assert "step-video-t2v-turbo" in (style := page.events.picture_removed(data)[page.create.model_style])
        assert '"nano-turbo"' not in style and '"step-video-t2v"' not in style


def test_a_bad_picture_is_refused_at_once(page):
    animation = picture(kind="GIF", save_all=True, append_images=[Image.new("RGB", (60, 90), "red")])
    bad = [(b"", "cannot be read"), (EVIL.encode(), "cannot be read"), (animation, "frames")]
    for data, words in (*bad, (picture(9000, 9000, mode="1"), "megapixels")):
        updates = page.events.picture_given(filled(page, image=data))
        assert words in message(page, updates)
        assert updates[page.create.first_image]["value"] is None and updates[page.create.picture_size] == "", words


def test_a_picture_chooses_its_size_and_shows_its_crop(page):
    updates = page.events.picture_given(filled(page, "step-video-ti2v", image=picture(900, 1600)))
    assert updates[page.create.fields["size"]]["value"] == "544x992"
    assert "data:image/jpeg;base64," in updates[page.create.figure]["value"]
    assert updates[page.create.picture_size] == "900x1600"
    other = filled(page, "step-video-ti2v", image=picture(900, 1600), size="992x544")
    assert page.events.size_chosen(other)[page.create.figure] != updates[page.create.figure]["value"]


def test_a_removed_picture_is_gone(page):
    updates = page.events.picture_removed(filled(page, image=picture()))
    assert updates[page.create.first_image]["value"] is None and updates[page.create.picture_size] == ""
    assert updates[page.create.fields["motion_score"]]["interactive"]  # nano has one without a picture too


def test_another_model_brings_its_defaults(page):
    data = filled(page, "step-video-t2v") | {page.create.fields["model"]: "step-video-ti2v"}
    data[page.create.fields["negative_prompt"]] = page.backend.models["step-video-t2v"].negative_prompt
    updates = page.events.model_chosen(data)
    assert updates[page.create.fields["num_frames"]]["value"] == 102
    assert updates[page.create.fields["negative_prompt"]]["value"].startswith("动画")
    assert "value" not in updates[page.create.fields["prompt"]]
    assert updates[page.create.preset]["value"] == "ti2v-best"


def test_a_preset_sets_its_values_and_a_change_leaves_it(page):
    data = filled(page, "step-video-ti2v") | {page.create.preset: "ti2v-draft"}
    assert page.events.preset_chosen(data)[page.create.fields["num_frames"]]["value"] == 51
    changed = page.events.typed(filled(page, "step-video-ti2v", infer_steps=49))
    assert changed[page.create.preset]["value"] == ""


def test_a_tick_sets_the_motion_score_and_nothing_else_does(page):
    data = filled(page, "step-video-ti2v", image=picture())
    field = page.create.fields["motion_score"]
    assert page.events.tick_chosen(data, SimpleNamespace(score="10"))[field]["value"] == 10
    for score in (11, None, [], EVIL):
        assert page.events.tick_chosen(data, SimpleNamespace(score=score))[field]["value"] == 5.0


def test_the_panel_shows_exactly_what_is_sent(page):
    updates = page.events.typed(filled(page, "step-video-t2v", prompt=f"a {EVIL} cat", camera_move="push-in"))
    sent = updates[page.create.receives]
    assert "镜头推进，a &lt;img" in sent and "超高清" in sent and "画面暗" in sent
    assert "镜头推进" in updates[page.create.camera_note]


def test_a_video_that_does_not_fit_offers_the_longest_that_does(page, fake):
    fake.vram_limit_gb = 10
    data = filled(page, "step-video-t2v")
    updates = page.events.typed(data)
    assert "Will not fit" in updates[page.create.plan] and updates[page.create.fix]["visible"]
    frames = page.events.fixed(data)[page.create.fields["num_frames"]]["value"]
    asked = GenerationSettings("nano", "", num_frames=frames, height=544, width=992, infer_steps=1)
    fitting = asked.resolve(page.backend.models["nano"])
    assert fake.plan(fitting)["fits"] and not fake.plan(replace(fitting, num_frames=frames + 17))["fits"]


def test_an_error_of_the_counter_is_shown_and_does_not_break_the_form(page, fake):
    fake.token_error = InputError("settings_unreadable", reason=EVIL)
    updates = page.events.typed(filled(page))
    assert "cannot be read" in updates[page.create.plan] and EVIL not in updates[page.create.plan]


def test_settings_come_back_from_a_file(page):
    settings = {"model": "step-video-t2v", "prompt": EVIL, "seed": 2**60 + 1, "height": 992, "width": 544}
    updates = give(page, {"settings": settings, "program": "step-video-studio"})
    fields = page.create.fields
    assert updates[fields["prompt"]]["value"] == EVIL and updates[fields["seed"]]["value"] == str(2**60 + 1)
    assert updates[fields["size"]]["value"] == "544x992" and updates[page.create.restore]["value"] is None
    assert "alert good" in message(page, updates)


def test_the_difference_comes_first(page):
    data = filled(page, prompt="a kite", seed="5")
    file = {"model": "step-video-t2v", "prompt": EVIL, "seed": 5, "height": 992, "width": 544, "first_image": None}
    data[page.create.restore] = upload(page, json.dumps(file).encode())
    given = page.events.settings_given(data)
    shown = given[page.create.differs]
    assert "<s>a kite</s> &lt;img" in shown and "544 × 992" in shown and EVIL not in shown and ">Seed<" not in shown
    waits = data | given
    assert "采用文件" in page.events.difference_again(waits | {page.create.language: "zh"})[page.create.differs]
    left = page.events.settings_answered(waits, SimpleNamespace(id="leave"))
    assert left == {page.create.pending: "", page.create.pending_image: None, page.create.differs: ""}
    for forged in ('{"model": "none", "prompt": "a"}', "[", '{"model": "nano", "prompt": "a", "height": 100}'):
        answer = page.events.settings_answered(waits | {page.create.pending: forged}, SimpleNamespace(id="apply"))
        assert "alert bad" in message(page, answer) and not set(answer) & set(page.create.fields.values())
    same = page.events.settings_given(filled(page) | {page.create.restore: upload(page, OWN)})
    assert same[page.create.differs] == "" and "alert good" in message(page, same)


def test_a_video_brings_the_first_image_that_it_carries(page, tmp_path):
    """Shown as a difference where the form has another picture or none, and used when told to."""
    record = {"settings": {"model": "nano", "prompt": "a paper boat", "seed": 5, "first_image": "x.first.png"}}
    writer = VideoWriter(tmp_path / "a.mp4", 16, 16, 25, record, original=picture(60, 90))
    writer.add(np.zeros((2, 16, 16, 3), np.uint8))
    writer.close()
    data = filled(page)
    data[page.create.restore] = upload(page, (tmp_path / "a.mp4").read_bytes())
    given = page.events.settings_given(data)
    assert "60 × 90, from inside the file" in given[page.create.differs]
    kept = {page.create.pending_image: given[page.create.pending_image]}
    waits = data | given | kept
    assert "取自文件内部" in page.events.difference_again(waits | {page.create.language: "zh"})[page.create.differs]
    answer = page.events.settings_answered(waits, SimpleNamespace(id="apply"))
    assert answer[page.create.picture_size] == "60x90" and "alert good" in message(page, answer)
    assert Path(answer[page.create.first_image]["value"]).read_bytes() == picture(60, 90)
    writer = VideoWriter(tmp_path / "b.mp4", 16, 16, 25, record, original=b"no picture")
    writer.add(np.zeros((2, 16, 16, 3), np.uint8))
    writer.close()
    refused = page.events.settings_given(data | {page.create.restore: upload(page, (tmp_path / "b.mp4").read_bytes())})
    assert "alert bad" in message(page, refused) and refused[page.create.pending] == ""


OWN = b'{"model": "nano", "prompt": "a paper boat"}'
FOREIGN = [
    (b"\x00\x01", "no settings"),
    ({"settings": {"model": EVIL, "prompt": "a"}}, "no model named"),
    ({"settings": {"model": "nano", "prompt": "a", "height": 100}}, "multiple of 16"),
    ({"settings": {"model": "nano", "prompt": "a", "infer_steps": 1e300}}, "infer_steps"),
    ({"settings": {"model": "nano", "prompt": "a", "height": EVIL}}, "height"),
    ({"settings": {"model": "nano", "prompt": "a", "camera_move": EVIL}}, "no camera move"),
    ({"settings": {"model": "nano", "prompt": ["a"], EVIL: 1}}, "field this version does not know"),
    ([], "no settings"),
]


def test_a_foreign_file_is_a_sentence(page):
    wrong = []
    for text, words in FOREIGN:
        updates = give(page, text)
        told, lost = message(page, updates), set(updates) & set(page.create.fields.values())
        wrong += [] if words in told and EVIL not in told and not lost else [text]
    assert wrong == []


def test_a_path_in_a_foreign_file_is_never_opened(page, tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(picture())
    updates = give(page, {"model": "nano", "prompt": "a", "first_image": str(secret)})
    assert "value" not in updates[page.create.first_image] and page.create.figure not in updates
    assert "NAME.first.png" in message(page, updates)
    kept = give(page, {"model": "nano", "prompt": "a", "first_image": "/etc/passwd"}, image=picture())
    assert "value" not in kept[page.create.first_image] and "NAME.first.png" not in message(page, kept)
    dropped = give(page, {"model": "nano", "prompt": "a", "first_image": None}, image=picture())
    assert dropped[page.create.first_image]["value"] is None


def test_a_returning_visitor_finds_form_and_language(page):
    stored = form.fill(GenerationSettings("nano", "half a sen", seed=3), page.backend.models["nano"])
    updates = page.open("zh", stored)
    assert updates[page.create.fields["prompt"]]["value"] == "half a sen"
    assert updates[page.create.generate]["value"] == "生成" and updates[page.language]["value"] == "zh"
    assert page.open("../", None)[page.language]["value"] == "en"


def test_every_handler_keeps_to_its_outputs(page, fake):
    """Gradio refuses an update of a component that is no output: wire everything, call everything, compare."""
    with gr.Blocks() as blocks:
        made = Page(fake.backend, fake.uploads)
        made.wire(blocks)
    given = filled(made, "nano", image=picture())
    settings_file = upload(made, b'{"model": "nano", "prompt": "a"}')
    given |= {
        made.create.restore: settings_file,
        made.create.inbox: settings_file,
        made.seen: "",
        made.create.pending: "",
        made.create.pending_image: None,
        made.create.absent.is_open: "",
        made.create.absent.seen: "",
    }
    given |= {made.stage.focus: submit(made).id, **in_gallery(made, "")}
    events = {"tick_chosen": {"score": "5"}, "choose": {"id": "picture-lively"}, "pick": {"id": "x"}}
    events |= {"acted": {"act": "pause", "id": made.backend.queue.in_order()[0].id}, "edit": {"id": "x"}}
    events |= {
        name: {"id": "x", "frame": "1"}
        for name in ("frame", "given", "answered", "bring_back", "searched", "settings_answered", "reset")
    }
    events["compared"] = {"act": "compare", "ids": "x y"}
    events |= {
        "asked": {"id": "history"},
        "chosen": {"id": given[made.stage.focus]},
        "began": {"id": "prefix"},
    }
    events |= {"marked": {"act": "star", "ids": "x"}, "marked_one": {"act": "tag", "tags": "a, b"}}
    for fn in blocks.fns.values():
        arguments = [{part: given[part] for part in fn.inputs}] if fn.inputs_as_dict else ["en", None][: len(fn.inputs)]
        if "event" in inspect.signature(fn.fn).parameters:
            arguments.append(SimpleNamespace(**events.get(fn.name, {})))
        assert set(fn.fn(*arguments)) <= set(fn.outputs), fn.name
    assert set(events) <= {fn.name for fn in blocks.fns.values()}
