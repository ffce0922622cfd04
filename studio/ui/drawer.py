"""The drawer's html: the button that opens it, what was changed in it with a reset each, and its search."""

import json
from collections.abc import Sequence

from studio.prompt_builder import PARTS
from studio.ui.form_changes import ALL
from studio.ui.markup import FIELDS, text
from studio.ui.strings import MOVES, STRINGS, say

SPEEDS = ("camera.speed", "camera.speed.slow", "camera.speed.fast")
# Rows of the drawer by the id of their element -> what they hold, and by which words they are found besides.
ROWS = {
    "row-words": ("", ("builder", *(f"builder.{part}" for part in PARTS), "history")),
    "row-camera": ("camera_move", ("camera", *(words for pair in MOVES.values() for words in pair), *SPEEDS)),
    "camera-speed": ("camera_speed", SPEEDS),  # inside the row of the moves
    "row-motion": ("motion_score", ("motion",)),
    "speed": ("speed", ("speed", "speed.exact", "speed.fast", "speed.draft")),
    "seed": ("seed", ("seed",)),
    "steps": ("infer_steps", ("steps",)),
    "cfg": ("cfg_scale", ("cfg",)),
    "shift": ("time_shift", ("shift",)),
    "guidance": ("guidance_schedule", ("guidance", "guidance.falling", "guidance.constant")),
    "magic": ("magic_words", ("magic", "magic.official", "magic.english", "magic.anime", "magic.none")),
    "negative": ("negative_prompt", ("negative",)),
    "row-restore": ("", ("restore", "mp4 png json --from-video")),
    "row-receives": ("", ("receives", "receives.tokens", "receives.clip", "receives.step_llm")),
    "row-check": ("", ("check", "check.info")),
}
LONGEST = 28  # letters of a value on a chip


def drawer_head(changes: Sequence[tuple[str, str]], language: str) -> str:
    """The button that opens the drawer, and a chip for each changed field. changes: (field, its value in words)."""
    toggle = (
        '<button type="button" id="drawer-toggle" aria-expanded="false" aria-controls="drawer">'
        f"{text(say('drawer', language))}</button>"
    )
    return f"{toggle}{_chips(changes, language) if changes else ''}"


def _chips(changes: Sequence[tuple[str, str]], language: str) -> str:
    dots = ", ".join(_title(field) for field, _ in changes)
    chips = "".join(_chip(field, value, language) for field, value in changes)
    if len(changes) > 1:
        words = text(say("drawer.reset_all", language))
        chips += f'<li><button type="button" class="all" data-reset="{ALL}">{words}</button></li>'
    title = text(say("drawer.changed", language, count=len(changes)))
    return f'<ul class="changes" aria-label="{title}">{chips}</ul><style>{dots} {{ --dot: inline-block; }}</style>'


def _chip(field: str, value: str, language: str) -> str:
    label = say(FIELDS[field], language)
    words = say("drawer.value", language, label=label, value=_short(value) or say("receives.nothing", language))
    told = text(say("drawer.reset", language, label=label))
    return (
        f'<li><button type="button" data-reset="{field}" title="{told}">{text(words)}'
        f'<span class="unseen"> · {told}</span></button></li>'
    )


def _short(value: str) -> str:
    return value if len(value) <= LONGEST else f"{value[: LONGEST - 1]}…"


def _title(field: str) -> str:
    """Where the name of a field stands."""
    row = next(row for row, (name, _) in ROWS.items() if name == field).removeprefix("row-")
    return f"#{row} .title, #{row} [data-testid=block-info]"


def drawer_search(language: str) -> str:
    """The field that finds a setting by its name in either language, and as code and command line call it."""
    found = {}
    for row, (field, keys) in ROWS.items():
        words = [word for key in keys for word in STRINGS.get(key, (key,))]
        fields = [field, "camera_speed"] if row == "row-camera" else [field]
        names = [word for name in fields for word in (name, f"--{name.replace('_', '-')}")]
        found[row] = " ".join([*words, *names]).lower()
    label, none = text(say("drawer.search", language)), text(say("drawer.none", language))
    return (
        f'<label class="unseen" for="setting-search">{label}</label>'
        f'<input id="setting-search" type="search" placeholder="{label}" autocomplete="off" '
        f'data-words="{text(json.dumps(found, ensure_ascii=False))}">'
        f'<p class="nothing" role="status" hidden>{none}</p>'
    )
