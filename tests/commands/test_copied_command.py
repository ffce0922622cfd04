"""The command that the page shows for a video, read by the command line itself: it makes the same video."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from studio import PROGRAM
from studio.commands.cli import build_parser
from studio.commands.generate import wanted_settings
from studio.commands.machine import studio_config
from studio.config import load_models
from studio.queue.gallery import Entry
from studio.queue.job import JobState
from studio.service.command_line import generate_command
from studio.settings import GenerationSettings, ResolvedSettings
from studio.ui.made_of import made_of

NANO = load_models()["nano"]
WORDS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=40)


def read(command: str) -> ResolvedSettings:
    """The settings that the command line makes of a command."""
    assert command.startswith(f"{PROGRAM} generate ")
    options = build_parser().parse_args(shlex.split(command.removeprefix(PROGRAM)))
    return wanted_settings(options, studio_config(options), None).resolve(NANO)


@given(WORDS, WORDS, st.sampled_from(["", "orbit"]), st.integers(0, 2**63 - 1), st.floats(1, 30), st.booleans())
@examples(max_examples=25, deadline=None)
def test_it_says_every_setting(
    prompt: str, negative: str, move: str, seed: int, scale: float, with_picture: bool
) -> None:
    asked = GenerationSettings("nano", prompt, negative, camera_move=move, seed=seed, cfg_scale=scale, num_frames=34)
    settings = replace(asked, first_image="/secret/a.png" if with_picture else None).resolve(NANO)
    command = generate_command(settings, "a b.first.png")
    assert read(command) == replace(settings, first_image="a b.first.png" if with_picture else None)
    assert "secret" not in command


def test_the_page_shows_it_with_what_the_file_says(tmp_path: Path) -> None:
    path, evil = tmp_path / "a.mp4", "<b>x</b>"
    settings = replace(GenerationSettings("nano", evil, first_image="/secret/a.png", seed=5).resolve(NANO))
    record = {"quantize": "int8", "dtype": "bfloat16", "device": evil * 99, "attention": ["x"]}
    path.with_suffix(".json").write_text(json.dumps(record))
    entry = Entry("0123456789abcdef", JobState.FINISHED, settings, 1.0, path, None)
    shown = made_of(entry, "Nano", "en")
    assert "Weights int8" in shown and "bfloat16" not in shown and "Attention" not in shown and "<b>" not in shown
    assert "studio/media/0123456789abcdef/first" in shown and "secret" not in shown and "a.first.png" in shown
    assert "Weights" not in made_of(replace(entry, path=None), "Nano", "en")
