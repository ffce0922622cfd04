"""The Sound tab's handlers: what is shown of a clip, what becomes of a request, how the job is told."""

import json
import re
from html import unescape
from types import SimpleNamespace

import pytest

from studio.audio.robot import speak
from studio.audio.synthesis import RATE
from studio.chat import Chat
from studio.events import Failed, Finished, Notice, PhaseStarted, Progress
from studio.queue.job import JobState
from studio.queue.kinds import JobKind
from studio.service.chat_desk import ChatDesk
from studio.service.drafts import draft_of
from studio.ui.strings import LANGUAGES, say
from studio.ui.theme import ASSETS
from tests.audio.clips import make_clip, tone, write_sound
from tests.toy_chat import toy_chat
from tests.ui.clicks import EVIL, finish, submit

TRACK = {"version": 1, "lines": [{"text": EVIL, "start": 0.2}], "layers": [{"sound": "rain", "start": 0, "end": 1}]}


def told(html):
    return json.loads(unescape(re.search(r'data-(?:told|answer)="([^"]*)"', html)[1]))


def at(page, clip="", job="", language="en"):
    return {page.sound.clip: clip, page.sound.job: job, page.sound.language: language}


def asked(**words):
    return SimpleNamespace(**words)


@pytest.fixture
def clip(page, tmp_path):
    """The id of a finished clip."""
    job = submit(page, prompt=EVIL)
    make_clip(finish(page, job, tmp_path), 25, {"program": "step-video-studio"})
    return job.id


def test_a_clip_is_shown_with_every_word_in_both_languages(page, clip):
    tab = page.sound
    for language in LANGUAGES:
        shown = tab.open(clip, language)[tab.editor]
        assert "<img" not in shown and told(shown)["says"]["make"] == say("sound.make", language)
        assert told(shown)["id"] == clip and told(shown)["track"] is None
        assert set(told(shown)["choices"]) == {"sounds", "rooms", "voices", "languages", "presets"}
        assert say("sound.none", language) in tab.open("gone", language)[tab.editor]
    assert tab.shown(at(page))[tab.clip] == clip, "the newest"
    assert set(tab.shown(at(page, clip))) == {tab.clip}, "what is edited stays"
    assert told(tab.translated(at(page, clip, language="zh"))[tab.editor])["says"]["undo"] == "撤销"


def test_scenes_sets_and_files_become_layers_and_what_is_wrong_is_said(page, clip):
    tab, say_what = page.sound, {"do": "scene", "text": "0-2秒：水下，2-4 s: a purple zebra and birds"}
    scene = tab.acted(at(page, clip), asked(**say_what))
    assert [layer["sound"] for layer in told(scene[tab.answer])["layers"]] == ["under_water", "birds"]
    assert "purple zebra" in scene[tab.message] and "2 sounds were added" in scene[tab.message]
    for name in page.backend.sound.choices()["presets"]:
        layers = told(tab.acted(at(page, clip), asked(do="preset", name=name, seconds="8"))[tab.answer])["layers"]
        page.backend.sound.check({"version": 1, "layers": layers}, [])
        assert max(layer["end"] for layer in layers) == 8.0
    path = page.create.uploads.folder / "x" / "a b.wav"
    path.parent.mkdir(parents=True)
    write_sound(path, tone(0.5))
    taken = tab.acted(at(page, clip), asked(do="file", path=str(path)))
    assert told(taken[tab.answer])["file"] == {"name": "sound-a-b.wav", "path": str(path), "seconds": 0.5}
    path.write_text(EVIL)
    wrong = [
        (tab.acted(at(page, clip), asked(do="file", path=str(path))), "cannot be used as sound"),
        (tab.acted(at(page, clip), asked(do="file", path="/etc/passwd")), "upload"),
        (tab.acted(at(page, clip), asked(do="scene", text="0-2 s: trombone")), "Nothing in the scene is known"),
        (tab.acted(at(page, clip), asked(do="scene", text="雨" * 10_001)), "10001"),
        (tab.acted(at(page, clip), asked(do="preset", name=EVIL, seconds="x")), "must be one of"),
        (tab.acted(at(page, clip), asked(do="make", track="{", uploads="")), "no json"),
        (tab.acted(at(page, clip), asked(do="make", track="null", uploads="{}")), "nothing to hear"),
        (tab.acted(at(page, clip), asked(do="make", track=" " * 500_000, uploads="{}")), "400000"),
        (tab.acted(at(page, "gone"), asked(do="without")), "cannot get a sound"),
    ]
    assert [(words, sentence) for words, sentence in wrong if sentence not in words[tab.message]] == []
    assert page.backend.queue.count() == 1 and all(EVIL not in words[tab.message] for words, _ in wrong)


def test_the_length_of_a_robots_line_is_told_as_it_is_typed(page):
    tab = page.sound
    lines = [["Look, the cat!", "robot", "auto"], ["快看，那只猫！", "robot-female", "auto"]]
    unknown = [["Hi.", "anna", "en"], ["...", "robot", "en"], ["x" * 2001, "robot", "en"], ["Hi.", "robot", "fr"]]
    heard = tab.lengths_asked(at(page), asked(lines=json.dumps(lines + unknown)))
    found = told(heard[tab.lengths])["lengths"]
    assert [line[:3] for line in found] == lines + unknown and [line[3] for line in found[2:]] == [None] * 4
    assert [line[3] for line in found[:2]] == [len(speak(*line)) / RATE for line in lines]
    for words in (json.dumps([5, ["a"], ["a", "robot", 7], {"text": "a"}]), "{}", "null", "{", "", " " * 500_000):
        assert told(tab.lengths_asked(at(page), asked(lines=words))[tab.lengths])["lengths"] == []


def test_a_draft_is_heard_before_the_sound_is_made(page, clip, monkeypatch):
    tab = page.sound

    def drafted(language="en", **track):
        track = json.dumps(TRACK | track)
        return tab.draft_asked(at(page, clip, language=language), asked(track=track, uploads="{}"))

    url = told(drafted()[tab.drafted])["draft"]
    assert re.fullmatch(r"studio/media/[0-9a-f]{32}/draft", url) and drafted()[tab.message] == ""
    assert find_draft(page, url).read_bytes()[:4] == b"RIFF" and page.backend.queue.count() == 1
    monkeypatch.setattr("studio.commands.sound_desk.ready_voices", lambda folder: ["anna"])
    spoken = {"text": EVIL, "start": 0.1, "voice": "anna"}
    for language, words in (("en", "Not in the draft: 1 lines"), ("zh", "草稿中不含语音模型的 1 句台词")):
        shown = drafted(language, lines=[spoken])
        assert words in shown[tab.message] and EVIL not in shown[tab.message] and told(shown[tab.drafted])["draft"]
        shown = drafted(language, lines=[spoken], layers=[])
        assert "alert bad" in shown[tab.message] and told(shown[tab.drafted])["draft"] is None


def test_ten_thousand_characters_get_their_sentence(page, clip):
    """The page does not cut what is pasted: the sentence says how long it is and how long it may be."""
    tab, track = page.sound, json.dumps(TRACK | {"lines": [{"text": "好" * 10_000, "start": 0}]})
    for language, words in (
        ("en", "A line has 10000 characters, 2000"),
        ("zh", "有一句台词为 10000 个字符，上限为 2000"),
    ):
        data, event = at(page, clip, language=language), asked(do="make", track=track, uploads="{}")
        assert words in tab.acted(data, event)[tab.message] and words in tab.draft_asked(data, event)[tab.message]
    assert page.backend.queue.count() == 1
    assert "maxLength" not in (ASSETS / "sound_fields.js").read_text(), "nothing is cut silently"


def test_the_language_model_writes_lines_that_are_shown_first(page, clip):
    tab, event = page.sound, asked(text="calm", seconds="1.36")
    assert told(tab.lines_asked(at(page, clip), event)[tab.written])["written"] is None, "none was named"
    assert not told(tab.open(clip, "en")[tab.editor])["chat"]
    with toy_chat() as toy:
        object.__setattr__(page.backend, "chat", ChatDesk(Chat(toy.url)))
        try:
            toy.text = f"Here:\n0.2: {EVIL}\n1：再见\n7: too late"
            shown = tab.lines_asked(at(page, clip), event)
            written = {"lines": [[0.2, EVIL], [1.0, "再见"]], "other": ["Here:", "7: too late"]}
            assert told(shown[tab.written])["written"] == written and EVIL not in shown[tab.written]
            assert "1.36 seconds long" in toy.requests[-1][1]["messages"][0]["content"]
            for language in LANGUAGES:
                editor = told(tab.open(clip, language)[tab.editor])
                where = say("sound.chat_where", language, host=toy.url.removeprefix("http://"))
                assert editor["chat"] and editor["says"]["chat_where"] == where
            toy.text = "no line at all"
            failed = tab.lines_asked(at(page, clip, language="zh"), event)
            assert "没有给出可用的回答" in failed[tab.message] and told(failed[tab.written])["written"] is None
        finally:
            object.__setattr__(page.backend, "chat", None)


def find_draft(page, url):
    return draft_of(page.backend, url.split("/")[2])


def test_how_the_sound_is_getting_on_is_told_until_its_clip_is_edited(page, clip, tmp_path):
    tab, queue = page.sound, page.backend.queue
    made = tab.acted(at(page, clip), asked(do="make", track=json.dumps(TRACK), uploads="{}"))
    id = made[tab.job]
    assert say("sound.waits", "en") in made[tab.status] and queue.get(id).sound.track["lines"][0]["text"] == EVIL
    queue.claim("sound", JobKind.SOUND)
    for event in (PhaseStarted("speak"), Progress("speak", 1, 4, 0.1), Notice("sound_quiet", {}, EVIL)):
        queue.record(id, event)
    looked = tab.look(at(page, clip, id, "zh"))
    assert "合成语音 · 1 / 4" in looked[tab.status] and "width:25%" in looked[tab.status] and tab.clip not in looked
    assert EVIL not in looked[tab.status]
    tab.stop(at(page, clip, id))
    assert queue.get(id).stopping and queue.resume(id)
    done = finish_sound(page, id, tmp_path)
    looked = tab.look(at(page, clip, id))
    assert (looked[tab.clip], looked[tab.job]) == (done, "") and told(looked[tab.editor])["follows"] == clip
    assert say("sound.done", "en") in looked[tab.status]
    failed = tab.acted(at(page, done), asked(do="without"))[tab.job]
    queue.claim("sound", JobKind.SOUND)
    queue.finish(
        failed, JobState.FAILED, error=Failed("disk_full", {"folder": "/", "free_gb": 0, "need_gb": 2.0}, "full")
    )
    looked = tab.look(at(page, done, failed))
    assert "2.0" in looked[tab.status] and looked[tab.job] == "" and tab.clip not in looked
    assert tab.look(at(page, done)) == {}


def finish_sound(page, id, folder):
    path = make_clip(folder / "sounding.mp4", 25, {"program": "step-video-studio"})
    page.backend.queue.finish(id, JobState.FINISHED, result=Finished(str(path), 5, {}, 0, 0))
    return id
