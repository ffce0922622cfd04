"""What the form shows around its fields, as html: notes, token meters, the texts for the model, the plan."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Any

from studio import PROGRAM
from studio.config import CameraMove, ModelConfig
from studio.examples import MOTION, MOTION_SCORES, MOTION_STILL
from studio.prompt import EncoderCount
from studio.service.backend import TextReport
from studio.ui.markup import media_url, text
from studio.ui.strings import say, say_gb, say_time

_MOTION_WORDS = ("motion.steady", "motion.default", "motion.lively", "motion.wild")
MOTION_TICKS = dict(zip(MOTION_SCORES, _MOTION_WORDS, strict=True))
_drawn = count()
LONG_SECONDS = 3600  # a plan that takes longer is shown in amber


def meters(report: TextReport | None, language: str) -> str:
    """One line under the prompt: how full each encoder is."""
    tokens = report.tokens if report else ()
    title = f"<span>{say('receives.meters', language)}</span>" if tokens else ""
    return f'<div class="meters">{title}{"".join(_meter(meter, language) for meter in tokens)}</div>'


def other_meters(counts: Mapping[str, Sequence[EncoderCount]], language: str) -> str:
    """A line for models that are not here and whose tokenizers are; models that read the same share one.

    counts: title -> a count per encoder, empty where it is unknown.
    """
    lines: dict[tuple[EncoderCount, ...], list[str]] = {}
    for title, found in counts.items():
        if found:
            lines.setdefault(tuple(found), []).append(title)
    shown = ""
    for found, titles in lines.items():
        meters = "".join(_meter(one, language) for one in found)
        shown += f'<div class="meters"><span>{text(", ".join(titles))}</span>{meters}</div>'
    return shown


def _meter(meter: EncoderCount, language: str) -> str:
    state = "over" if meter.cut else "near" if meter.used > 0.9 * meter.limit else ""
    percent = min(100 * meter.used / meter.limit, 100)
    unread = f" · {say('receives.unread', language, cut=meter.cut)}" if meter.cut else ""
    return (
        f'<div class="meter {state}"><span>{_encoder(meter.encoder, language)}</span>'
        f'<i><b style="width:{percent:.0f}%"></b></i>'
        f"<span>{say('receives.tokens', language, used=meter.used, limit=meter.limit)}{unread}</span></div>"
    )


def _encoder(name: str, language: str) -> str:
    return say(f"receives.{name}", language)


def receives(report: TextReport, language: str, note: str = "") -> str:
    """Both texts as the encoders get them, with a mark where an encoder stops reading. note: below them."""
    marks = sorted((len(tail), name) for name, tail in report.unread.items() if tail)
    html, end = "", len(report.positive)
    cut = {meter.encoder: meter.cut for meter in report.tokens}
    for length, name in marks:
        start = len(report.positive) - length
        words = say("receives.cut", language, encoder=_encoder(name, language), cut=cut.get(name, "?"))
        html = f'<em class="cut">▸ {text(words)}</em><s>{text(report.positive[start:end])}</s>{html}'
        end = start
    html = text(report.positive[:end]) + html
    told = f'<p class="note">{text(note)}</p>' if note else ""
    negative = text(report.negative) or f"<em>{say('receives.nothing', language)}</em>"
    return (
        f'<h2 class="receives-title">{say("receives", language)}</h2>'
        f'<dl class="receives"><dt>{say("receives.positive", language)}</dt><dd>{html}</dd>'
        f"<dt>{say('receives.negative', language)}</dt><dd>{negative}</dd></dl>"
        f"{told}"
    )


def plan_line(plan: Mapping[str, Any], language: str) -> str:
    """Whether it will fit and how long it takes, in one line; amber where it takes long, red where it does not fit."""
    seconds = plan.get("seconds_total")
    vram, ram = (say_gb(plan.get(f"{what}_peak_gb") or 0, language) for what in ("vram", "ram"))
    if not plan["fits"]:
        remedy = plan.get("remedy") or ""
        remedy = remedy if isinstance(remedy, str) else remedy[language]
        return _plan("bad", f"{say('plan.misfit', language, vram=vram, ram=ram)} {remedy}")
    fits = say("plan.fits" if plan.get("vram_peak_gb") else "plan.fits_ram", language, vram=vram, ram=ram)
    if (gpus := plan.get("gpus", 1)) > 1:
        fits = say("plan.each", language, count=gpus, fits=fits)
    if not seconds:
        return _plan("good", fits)
    words = f"{fits} · {say('plan.time', language, time=say_time(seconds, language))}"
    if seconds > LONG_SECONDS:
        return _plan("warn", f"{words}. {say('plan.long', language)}")
    return _plan("good", words)


def plan_problem(sentences: Iterable[str]) -> str:
    """Why Generate would refuse, in place of the plan."""
    return _plan("warn", " ".join(sentences))


def plan_missing(model: ModelConfig, language: str) -> str:
    """The command that brings a model which is not here; for a built-in one there is none."""
    if not model.sources:
        return plan_problem([say("model.lost", language, model=model.title[language])])
    command = f"{PROGRAM} download {model.name}"
    words = say("model.get", language, model=model.title[language])
    return f'<div class="plan warn"><span>{text(words)} <code data-copy>{text(command)}</code></span></div>'


def _plan(kind: str, words: str) -> str:
    return f'<div class="plan {kind}"><span>{text(words)}</span></div>'


def crop_figure(picture: str, box: tuple[int, int, int, int], size: tuple[int, int], language: str) -> str:
    """The whole picture (a data url) with the part that becomes frame 1 bright; crop.js moves it where it has room, on
    one side at most. box: (l, t, r, b) of size (w, h)."""
    (left, top, right, bottom), (width, height) = box, size
    used = (right - left) * (bottom - top) / (width * height)
    part = (
        f"left:{100 * left / width:.2f}%;top:{100 * top / height:.2f}%;"
        f"width:{100 * (right - left) / width:.2f}%;height:{100 * (bottom - top) / height:.2f}%"
    )
    key = "image.whole" if used > 0.995 else "image.cropped"
    words = say(key, language, width=width, height=height, percent=round(100 * (1 - used)))
    return (
        f'<figure class="crop"><div><img src="{picture}" alt="{text(say("image.alt", language))}">'
        f'<i style="{part}"{_grip(box, size, language)}></i></div><figcaption>{words}</figcaption></figure>'
    )


def _grip(box: tuple[int, int, int, int], size: tuple[int, int], language: str) -> str:
    """The box as a slider, in pixels of the picture."""
    (left, top, right, bottom), (width, height) = box, size
    sides = {"left": (left, width - right + left, width), "top": (top, height - bottom + top, height)}
    side, (at, room, length) = max(sides.items(), key=lambda item: item[1][1])
    if room == 0:
        return ""
    label, orientation = text(say("image.crop", language)), "horizontal" if side == "left" else "vertical"
    drawn = next(_drawn)  # gradio draws a value anew only where it differs, and the box may have been moved
    return (
        f' tabindex="0" role="slider" aria-label="{label}" aria-orientation="{orientation}" aria-valuemin="0" '
        f'aria-valuemax="{room}" aria-valuenow="{at}" data-side="{side}" data-length="{length}" data-drawn="{drawn}"'
    )


def camera_note(move: CameraMove | None, speed: str, advice: tuple[str, float | None], language: str) -> str:
    """The exact words a camera move adds; what of the prompt goes against it, and the motion score that suits it, which
    a click sets. advice: both, see camera_advice.py."""
    if move is None:
        return '<div class="note"></div>'
    other, score = advice
    words = [say("camera.sent", language, phrase=move.words(speed), gloss=move.gloss)]
    words += [say("camera.other", language, words=other)] if other else []
    button = ""
    if score is not None:
        put = text(say("camera.score", language, score=f"{score:g}"))
        words.append(say("camera.unfit", language))
        button = f' <button type="button" data-score="{score:g}">{put}</button>'
    return f'<div class="note">{text(" · ".join(words))}{button}</div>{_over_picture(move)}'


def _over_picture(move: CameraMove) -> str:
    """Draws the move over the first image; moves.css has its drawing and how that moves, anew for each."""
    key = text(move.key)
    shown = f".crop i {{ --plate: rgb(0 0 0 / 50%); --over: var(--move-{key}); --run: move-{key}; }}"
    return f"<style>{shown} @keyframes move-{key} {{ 50% {{ transform: var(--by-{key}); }} }}</style>"


def model_words(model: ModelConfig, reason: str, language: str) -> str:
    """A choice of the model menu, with why it is grey ("": it is not); the style sheet sets its first line apart."""
    return f"{model.title[language]}\n{say(reason, language) if reason else ''}".strip()


def model_style(grey: Iterable[str]) -> str:
    """Greys models by name; a radio cannot say so itself."""
    labels = ", ".join(f'#model label:has(input[value="{name}"])' for name in grey)
    return f"<style>{labels} {{ --ink: var(--faint); border-style: dashed; }}</style>" if labels else ""


def zone_title(title: str, hint: str) -> str:
    """The heading of a place for a file."""
    hint = f"<small>{text(hint)}</small>" if hint else ""
    return f'<div class="zone-title"><b>{text(title)}</b>{hint}</div>'


def motion_ticks(limit: float, enabled: bool, language: str) -> str:
    """The named values under the slider, each with what nano makes of one picture with it; a click on one sets it."""
    off = "" if enabled else " disabled"
    told = say("motion.shown", language)
    ticks = "".join(
        f'<button type="button" data-score="{score}" title="{text(told)}"{off}>{_motion_clip(score)}'
        f"<span>{score} {text(say(key, language))}</span></button>"
        for score, key in MOTION_TICKS.items()
        if score <= limit
    )
    return f'<div class="ticks">{ticks}</div><p class="note">{text(told)}</p>'


def _motion_clip(score: int) -> str:
    """It loops, but for whoever wants less motion."""
    still, clip = media_url(MOTION, MOTION_STILL), media_url(MOTION, str(score))
    reduced = f'<source srcset="{still}" media="(prefers-reduced-motion: reduce)">'
    return f'<picture>{reduced}<img src="{clip}" alt="" loading="lazy" width="96" height="55"></picture>'


def model_note(model: ModelConfig, language: str) -> str:
    """What a model is, and what is not known about it."""
    summary = model.summary[language]
    words = summary if model.verified else say("model.unverified", language, summary=summary)
    return f'<div class="note">{text(words)}</div>'
