"""The Sound tab's handlers: what is shown of a clip, what becomes of a request, how the job is told."""

import json
import re
from html import unescape
from types import SimpleNamespace

import pytest

from studio.events import Failed, Finished, Notice, PhaseStarted, Progress
from studio.queue.job import JobState
from studio.queue.kinds import JobKind
from studio.ui.strings import LANGUAGES, say
from tests.audio.clips import make_clip, tone, write_sound
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
    assert queue.cancel_requested(id) and queue.resume(id)
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
