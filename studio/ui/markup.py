"""Html that every part of the page shares. Text from outside passes `text` before it becomes html."""

from collections.abc import Iterable, Mapping
from html import escape

from studio.errors import StudioError
from studio.events import Failed, Notice
from studio.messages import MESSAGES, message
from studio.settings import FPS
from studio.ui.strings import say, say_gb

FIELDS = {  # of the form, as labels call them: field -> its label's key
    "prompt": "prompt",
    "negative_prompt": "negative",
    "camera_move": "camera",
    "camera_speed": "camera.speed",
    "motion_score": "motion",
    "infer_steps": "steps",
    "cfg_scale": "cfg",
    "time_shift": "shift",
    "num_frames": "length",
    "size": "size",
    "seed": "seed",
    "speed": "speed",
    "guidance_schedule": "guidance",
    "magic_words": "magic",
    "crop_left": "crop.left",
    "crop_top": "crop.top",
}
NAMES = FIELDS | {  # what a sentence may name by its name in code
    "height": "height",
    "width": "width",
    "step_llm": "receives.step_llm",
    "clip": "receives.clip",
}


def text(value: object) -> str:
    """Text made harmless inside html, in elements and attributes alike."""
    return escape(str(value), quote=True)


def media_url(id: str, kind: str) -> str:
    """Where the page finds a file of a job (see server.py): relative, so that any prefix or public link works."""
    return f"studio/media/{id}/{kind}"


def sentence(told: Failed | Notice | StudioError, language: str) -> str:
    """What happened or was stored, in the reader's language and with the names that the page uses; its own text where
    the code is not known any more."""
    own = str(told) if isinstance(told, StudioError) else told.text
    try:
        values = {
            key: say(NAMES[value], language) if key in ("field", "encoder") and value in NAMES else plain(value)
            for key, value in told.values.items()
        }
        return message(told.code, values, language) if told.code in MESSAGES else own
    except (KeyError, ValueError, IndexError):
        return own


def plain(value: object) -> object:
    """A value as people write it: a whole number without ".0"."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def alert(sentences: Iterable[str], kind: str = "bad") -> str:
    """Sentences in a box; "" for none. kind: bad, warn or good."""
    lines = "".join(f"<p>{text(line)}</p>" for line in sentences)
    return f'<div class="alert {kind}" role="alert">{lines}</div>' if lines else ""


def seconds_words(frames: int) -> str:
    """The length of `frames` in seconds, one decimal."""
    return f"{frames / FPS:.1f}"


def brand(language: str) -> str:
    """The name of the program, with its mark: a frame, and the step into it; before it a way past the header."""
    skip = f'<a class="skip" href="#prompt">{text(say("app.skip", language))}</a>'
    mark = (
        '<svg viewBox="0 0 32 32" aria-hidden="true"><rect x="3" y="6" width="26" height="20" rx="5"/>'
        '<path d="M8 21h5v-4h5v-4h5"/></svg>'
    )
    return f'{skip}<h1 class="brand">{mark}<span>Step-Video</span> <i>Studio</i></h1>'


def page_switches(language: str, has_login: bool) -> str:
    """The button between light and dark, where page.js does the work, and the one that logs out."""
    words = text(say("app.theme", language))
    theme = f'<button type="button" id="theme-switch" aria-label="{words}" title="{words}"></button>'
    if not has_login:
        return theme
    leave = text(say("logout", language))
    leave = f'<button type="submit" id="logout" title="{leave}" aria-label="{leave}"><span>{leave}</span></button>'
    return f'<div class="switches">{theme}<form method="post" action="logout">{leave}</form></div>'


def system_bar(usage: Mapping[str, float | None], running: int, waiting: int, language: str, percent: str = "") -> str:
    """What runs and how full the memory is. usage: vram_gb, vram_total_gb, ram_gb, ram_total_gb; any may be missing.

    percent: how far what runs is, as title and icon of the browser's tab say it.
    """
    work = [say("status.running", language, count=running)] if running else []
    work += [say("status.waiting", language, count=waiting)] if waiting else []
    words = " · ".join(work) or say("status.idle", language)
    gauges = "".join(_gauge(kind, usage, language) for kind in ("vram", "ram") if usage.get(f"{kind}_total_gb"))
    kind = f"work{' on' if running else ''}"
    state = (
        f'<button type="button" class="{kind}" id="to-queue" title="{text(say("queue", language))}">{words}</button>'
    )
    lost = f'<span class="lost" role="alert">{text(say("app.lost", language))}</span>'
    return f'<div class="system" data-language="{language}" data-title="{percent}">{state}{gauges}{lost}</div>'


def _gauge(kind: str, usage: Mapping[str, float | None], language: str) -> str:
    used, total = usage.get(f"{kind}_gb") or 0.0, usage[f"{kind}_total_gb"] or 1.0
    words = say("status.of", language, used=f"{used:.1f}", total=say_gb(total, language))
    level = "high" if used > 0.92 * total else ""
    return (
        f'<span class="gauge {level}"><span>{say(f"status.{kind}", language)}</span>'
        f'<i><b style="width:{min(100 * used / total, 100):.0f}%"></b></i><span>{words}</span></span>'
    )
