"""Every command's help ends with an example that its own parser takes, and tells ranges and defaults."""

import argparse
import shlex
from collections.abc import Iterator

from studio.commands.cli import build_parser
from studio.commands.help_examples import EXAMPLES
from studio.settings import RANGES


def test_every_command_has_an_example_that_it_takes() -> None:
    parser = build_parser()
    (commands,) = (action for action in parser._actions if action.dest == "command")
    assert set(EXAMPLES) - {""} == set(commands.choices or ()) - {"worker", "sound_worker"}, "started by no person"
    for name, example in EXAMPLES.items():
        assert (parser.parse_args(shlex.split(example)).command or "") == name
        assert example in " ".join((commands.choices[name] if name else parser).format_help().split()), name


def options_of(parser: argparse.ArgumentParser, name: str = "") -> Iterator[tuple[str, argparse.Action]]:
    """Everything that a person may give a command, with the command that takes it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command, inner in action.choices.items():
                if command not in ("worker", "sound_worker"):
                    yield from options_of(inner, f"{name} {command}")
        elif action.help != argparse.SUPPRESS:
            yield name, action


def test_every_option_is_explained_and_every_optional_value_tells_its_default() -> None:
    wrong = []
    for command, action in options_of(build_parser()):
        told, optional = action.help or "", action.option_strings and not action.required and action.nargs != 0
        if not told or (optional and "default" not in told):
            wrong.append(f"{command} {action.option_strings or action.dest}: {told}")
    assert wrong == [], "\n".join(wrong)


def test_generate_tells_the_range_of_every_number() -> None:
    parser = build_parser()
    (commands,) = (action for action in parser._actions if action.dest == "command")
    told = " ".join(commands.choices["generate"].format_help().split())
    wrong = [name for name, (low, high) in RANGES.items() if f"{low:g} to {high} (default:" not in told]
    assert wrong == []
