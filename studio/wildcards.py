"""Words that are drawn when a request is submitted: {a|b} is one of them, __name__ a line of the list of that name.

The seed decides, so the same prompt with the same seed and lists gives the same words. What was typed is recorded in
the settings as prompt_template; the prompt is what it became. A later run of it with the same seed does not draw again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from models.regular_files import read_regular
from studio.errors import InputError
from studio.settings import PROMPT_LIMIT, GenerationSettings, ResolvedSettings, drawn_seed

WILD = re.compile(r"\{([^{}]*\|[^{}]*)\}|__([^\W_](?:[\w-]*?[^\W_])?)__")
MOST_DRAWS = 200  # of one prompt: a list may name itself
MOST_LETTERS = 10 * PROMPT_LIMIT  # on the way
LIST_BYTES = 2**20
NAME = re.compile(r"[^\W_](?:[\w-]*?[^\W_])?")
Lists = Mapping[str, Sequence[str]]
Settings = TypeVar("Settings", GenerationSettings, ResolvedSettings)


def has_wildcards(prompt: str) -> bool:
    """Whether something in it is to be drawn."""
    return WILD.search(prompt) is not None


def expand(prompt: str, seed: int, lists: Lists) -> str:
    """The prompt with everything drawn, from left to right and from the inside out. Raises InputError."""
    for number in range(MOST_DRAWS):
        found = WILD.search(prompt)
        if found is None:
            return prompt
        choices = found[1].split("|") if found[2] is None else lists.get(found[2])
        if not choices:
            raise InputError("wildcard_unknown", name=f"__{found[2]}__", known=", ".join(sorted(lists)))
        prompt = prompt[: found.start()] + _drawn(choices, seed, number) + prompt[found.end() :]
        if len(prompt) > MOST_LETTERS:
            break
    if has_wildcards(prompt):
        raise InputError("wildcard_endless", limit=MOST_DRAWS)
    return prompt


def with_words_drawn(asked: GenerationSettings, lists: Lists) -> GenerationSettings:
    """The request with its words drawn; an empty seed is drawn too, since it decides them. Raises as `expand`."""
    if not has_wildcards(asked.prompt):
        return asked
    seed = drawn_seed() if asked.seed is None else asked.seed
    return replace(asked, prompt=expand(asked.prompt, seed, lists), prompt_template=asked.prompt, seed=seed)


def with_seed(settings: Settings, seed: int | None, lists: Lists) -> Settings:
    """The same video with another seed, which draws its own words; None: one drawn now. Raises as `expand`."""
    seed = drawn_seed() if seed is None else seed
    words = expand(settings.prompt_template, seed, lists) if settings.prompt_template else settings.prompt
    return replace(settings, seed=seed, prompt=words)


def user_lists(folder: Path) -> dict[str, tuple[str, ...]]:
    """The lists of a folder: of NAME.txt, each line that is not empty and does not begin with #; none where there is no
    such folder. Raises InputError for a file that cannot be read."""
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix == ".txt" and NAME.fullmatch(path.stem))
    except OSError:
        return {}
    return {path.stem: _lines(path) for path in files}


def _lines(path: Path) -> tuple[str, ...]:
    try:
        text = read_regular(path, LIST_BYTES).decode("utf-8-sig")
    except (OSError, ValueError) as error:  # ValueError: no utf-8
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError("file_unreadable", file=path, reason=reason) from None
    return tuple(line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))


def _drawn(choices: Sequence[str], seed: int, number: int) -> str:
    """The same for every version of Python, unlike `random`."""
    digest = hashlib.sha256(f"{seed} {number}".encode()).digest()
    return choices[int.from_bytes(digest[:8], "big") % len(choices)]
