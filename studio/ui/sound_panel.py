"""The Sound tab as html: the clip and what the scripts need to draw its timeline, and how a sound is getting on."""

import json
from collections.abc import Mapping
from typing import Any

from studio.events import Failed
from studio.messages import phase_title
from studio.queue.gallery import Entry
from studio.queue.job import Job, JobState
from studio.service.sound import has_words, loudness_of, track_of
from studio.settings import FPS
from studio.ui.markup import alert, media_url, sentence, text
from studio.ui.strings import STRINGS, say
from studio.ui.strings_sound import SOUND_STRINGS

WORDS = [key.removeprefix("sound.") for key in SOUND_STRINGS if key.startswith("sound.")]


def editor(entry: Entry | None, choices: Mapping[str, Any], follows: str, language: str, chat: str = "") -> str:
    """What the scripts build the editor from. follows: the clip that was shown before this one, whose sound it has.
    chat: host of the language model that may write lines, "" for none."""
    if entry is None:
        return f'<p class="nothing">{text(say("sound.none", language))}</p>'
    side, track = ("en", "zh").index(language), track_of(entry)
    says = {name: STRINGS[f"sound.{name}"][side] for name in WORDS}
    says["chat_where"] = say("sound.chat_where", language, host=chat)
    told = {
        "id": entry.id,
        "chat": bool(chat),
        "follows": follows,
        "seconds": (entry.settings.num_frames or 1) / FPS,
        "track": track,
        "urls": {kind: media_url(entry.id, kind) for kind in ("result", "strip", "wave")}
        | {"poster": media_url(entry.id, "poster") if entry.poster else ""}
        | ({"words": media_url(entry.id, "words")} if has_words(track) else {}),
        "says": says | {"prompt": entry.settings.prompt},
        "choices": {
            family: [[name, titles[side]] for name, titles in named.items()] for family, named in choices.items()
        },
    }
    return f'<section class="sound" data-told="{text(json.dumps(told, ensure_ascii=False))}"></section>'


def answer(number: int, **told: Any) -> str:
    """What the server answers to the scripts, with a number that no earlier answer had."""
    return f'<i hidden data-answer="{text(json.dumps({"number": number, **told}, ensure_ascii=False))}"></i>'


def status(job: Job | None, language: str) -> str:
    """How the sound that was asked for is getting on: phase, bar, Stop; what is to be known of it once it ended."""
    if job is None:
        return ""
    notices = alert([sentence(notice, language) for notice in job.notices], "warn") if job.notices else ""
    if job.state == JobState.FINISHED:
        return alert([say("sound.done", language) + _reached(job, language)], "good") + notices
    if job.state == JobState.FAILED:
        return alert([sentence(job.error or Failed("unexpected", {}, "-"), language)]) + notices
    if job.state not in (JobState.QUEUED, JobState.RUNNING):
        return alert([say(f"state.{job.state}", language)], "warn")
    words = phase_title(job.phase, language) if job.phase else say("sound.waits", language)
    progress, bar = job.progress, '<div class="bar busy"><i></i></div>'
    if progress and progress.steps > 0:
        words += f" · {progress.step} / {progress.steps}"
        bar = f'<div class="bar"><i style="width:{100 * progress.step / progress.steps:.0f}%"></i></div>'
    stop = f'<button type="button" data-do="stop">{text(say("sound.stop", language))}</button>'
    return (
        f'<div class="making" role="status" data-state="{job.state}"><span>{text(words)}</span>{bar}{stop}</div>'
        f"{notices}"
    )


def _reached(job: Job, language: str) -> str:
    """How loud the finished sound is."""
    if (found := loudness_of(job)) is None:
        return ""
    return " " + say("sound.reached", language, lufs=f"{found[0]:.1f}", peak=f"{found[1]:.1f}")
