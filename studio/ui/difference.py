"""What a file's settings would change in the form, shown before they do."""

from collections.abc import Mapping
from typing import Any

from studio.config import ModelConfig
from studio.ui.job_panels import choice, crop_words
from studio.ui.markup import FIELDS, plain, seconds_words, text
from studio.ui.strings import MOVES, say, say_move

LONGEST = 300  # letters of a prompt
Values = Mapping[str, Any]  # of the form, see form.py


def difference(
    now: Values, then: Values, models: Mapping[str, ModelConfig], language: str
) -> list[tuple[str, str, str]]:
    """(label, as it is, as it would be) of every field that differs, in the order of the form."""
    before, after = form_values(now, models, language), form_values(then, models, language)
    labels = {"model": "model"} | FIELDS
    return [
        (say(key, language), before[name], after[name]) for name, key in labels.items() if before[name] != after[name]
    ]


def difference_panel(rows: list[tuple[str, str, str]], language: str) -> str:
    """The fields that differ, with the choice; "" where none does."""
    if not rows:
        return ""
    nothing = say("receives.nothing", language)
    lines = "".join(
        f"<dt>{text(label)}</dt><dd><s>{text(before[:LONGEST] or nothing)}</s> {text(after[:LONGEST] or nothing)}</dd>"
        for label, before, after in rows
    )
    title = text(say("restore.differs", language, count=len(rows)))
    buttons = "".join(
        f'<button type="button" data-id="{id}"{more}>{text(say(key, language))}</button>'
        for id, key, more in (("apply", "restore.apply", ""), ("leave", "restore.leave", " data-close"))
    )
    return f'<section class="differs" role="status"><b>{title}</b><dl>{lines}</dl><p>{buttons}</p></section>'


def form_values(values: Values, models: Mapping[str, ModelConfig], language: str) -> dict[str, str]:
    """Every field in the words of the page; whatever a browser sends becomes text."""
    said = {name: str(plain(values[name]) if values[name] is not None else "") for name in ("model", *FIELDS)}
    frames, model = values["num_frames"], models.get(said["model"])
    if isinstance(frames, int):
        said["num_frames"] = say("length.choice", language, seconds=seconds_words(frames), frames=frames)
    return said | {
        "model": model.title[language] if model else said["model"],
        "size": said["size"].replace("x", " × "),
        "camera_move": say_move(said["camera_move"], language) if said["camera_move"] in MOVES else "",
        "speed": choice("speed", said["speed"], language),
        "guidance_schedule": choice("guidance", said["guidance_schedule"], language),
        "camera_speed": choice("camera.speed", said["camera_speed"], language),
        "magic_words": choice("magic", said["magic_words"], language),
        **{name: crop_words(values[name]) for name in ("crop_left", "crop_top")},
    }
