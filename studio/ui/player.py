"""The player of a finished video, as html; player.js moves it."""

from pathlib import Path

from studio.settings import FPS
from studio.ui.markup import media_url, text
from studio.ui.strings import say

BUTTONS = (("back", "player.back"), ("play", "player.play"), ("next", "player.next"))
MORE = (("mute", "player.mute"), ("loop", "player.loop"), ("full", "player.full"))


def player(
    id: str, path: Path | None, poster: bool, prompt: str, frames: int, language: str, words: bool = False
) -> str:
    """The video with frames, speed and loop; a single frame is a picture; a sentence where the file is gone.

    frames: how many the video has. `poster`: whether there is one. words: whether it has subtitles.
    """
    if path is None:
        return f'<p class="gone">{say("gallery.file_gone", language)}</p>'
    url = media_url(id, "result")
    if path.suffix == ".png":
        return f'<img src="{url}" alt="{text(prompt)}">'
    still = f' poster="{media_url(id, "poster")}"' if poster else ""
    label = text(prompt[:120])
    lines = captions(id, words, language)
    video = f'<video src="{url}"{still} loop autoplay muted playsinline aria-label="{label}">{lines}</video>'
    told = f'data-job="{id}" data-frames="{frames}" data-fps="{FPS}"'
    return f'<div class="player looping" {told} tabindex="0">{video}{_controls(frames, language, words)}</div>'


def captions(id: str, words: bool, language: str) -> str:
    """The track of a video's subtitles, "" where it has none."""
    label = text(say("player.words", language))
    return f'<track kind="captions" src="{media_url(id, "words")}" label="{label}" default>' if words else ""


def _controls(frames: int, language: str, words: bool) -> str:
    label = text(say("player.frame", language))
    scrub = f'<input type="range" min="0" max="{max(frames - 1, 0)}" value="0" step="1" aria-label="{label}">'
    count = f"<output>1 / {frames}</output>"
    speed = text(say("player.speed", language))
    rate = f'<button type="button" data-do="speed" class="said" title="{speed}">1×</button>'
    use = text(say("player.use_frame", language))
    frame = f'<button type="button" data-do="frame" class="said use">{use}</button>'
    left = "".join(_button(do, key, language) for do, key in BUTTONS)
    right = "".join(_button(do, key, language) for do, key in MORE)
    said, shown = (text(say(key, language)) for key in ("player.words_shown", "player.cc"))
    told = f'class="said words" title="{said}" aria-label="{said}" aria-pressed="true"'
    lines = f'<button type="button" data-do="words" {told}>{shown}</button>'
    return f'<div class="controls">{left}{scrub}{count}{rate}{lines if words else ""}{right}{frame}</div>'


def _button(do: str, key: str, language: str) -> str:
    words = text(say(key, language))
    return f'<button type="button" data-do="{do}" class="{do}" title="{words}" aria-label="{words}"></button>'
