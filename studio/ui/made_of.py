"""What made a clip, beside its player: the first image, a chip per choice, the command that makes it again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studio.errors import InputError
from studio.filenames import beside
from studio.media import read_metadata_file
from studio.queue.gallery import Entry
from studio.service.command_line import generate_command
from studio.ui.job_panels import choice, shape_words
from studio.ui.markup import media_url, plain, text
from studio.ui.strings import MOVES, say, say_move

LONGEST = 60  # letters of what a file says of itself


def made_of(entry: Entry, model_title: str, language: str) -> str:
    """The first image, the chips and the command of an entry. Everything in it is copied by a click."""
    picture, settings = "", entry.settings
    if settings.first_image is not None:
        label = text(say("image", language))
        picture = f'<img class="first" src="{media_url(entry.id, "first")}" alt="{label}" title="{label}">'
    found = [*_chosen(entry, model_title, language), *_machine(_record(entry.path), language)]
    chips = "".join(f'<button type="button" class="chip" data-copy>{text(words)}</button>' for words in found if words)
    return f'<div class="made">{picture}<div class="chips">{chips}</div></div>{_command(entry, language)}'


def _chosen(entry: Entry, model_title: str, language: str) -> list[str]:
    settings = entry.settings
    move = say_move(settings.camera_move, language) if settings.camera_move in MOVES else settings.camera_move
    motion = "" if settings.motion_score is None else f"{say('motion', language)} {plain(settings.motion_score)}"
    steps = f"{say('steps', language)} {settings.infer_steps}"
    speed = choice("speed", settings.speed, language)
    seed = say("stage.seed", language, seed=settings.seed)
    return [model_title, shape_words(settings, language), speed, steps, motion, move, seed]


def _machine(record: Mapping[str, Any], language: str) -> list[str]:
    """On what it was made and with which weights, as the file says it."""
    told = {name: record.get(name) for name in ("quantize", "dtype", "device", "attention")}
    said = {name: value[:LONGEST] for name, value in told.items() if isinstance(value, str)}
    weights = said.get("quantize", "none")
    kind = weights if weights != "none" else said.get("dtype", "")
    shown = [f"{say('made.weights', language)} {kind}" if kind else "", said.get("device", "")]
    return [*shown, f"{say('made.attention', language)} {said['attention']}" if "attention" in said else ""]


def _record(path: Path | None) -> Mapping[str, Any]:
    """What lies beside the result; {} where that cannot be read."""
    try:
        return read_metadata_file(beside(path, ".json")) if path else {}
    except InputError:
        return {}


def _command(entry: Entry, language: str) -> str:
    """Closed until it is asked for; the first image goes by the name that it has beside the video."""
    picture = beside(entry.path, ".first.png").name if entry.path else None
    command = generate_command(entry.settings, picture)
    return (
        f'<details class="command"><summary>{text(say("made.command", language))}</summary>'
        f'<button type="button" data-copy title="{text(say("made.copy", language))}">{text(command)}</button></details>'
    )
