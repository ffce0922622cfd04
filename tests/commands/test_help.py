"""Every command's help ends with an example that its own parser takes, and tells ranges and defaults."""

import argparse
import shlex
from collections.abc import Iterator

from studio.commands.cli import build_parser
from studio.commands.help_examples import EXAMPLES
from studio.settings import RANGES


def commands_of(parser: argparse.ArgumentParser, name: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command that a person may give, also those of another one, with its parser."""
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command, inner in action.choices.items():
                if command not in ("worker", "sound_worker"):
                    yield from commands_of(inner, f"{name} {command}".strip())


def test_every_command_tells_what_it_does_and_has_an_example_that_it_takes() -> None:
    parser = build_parser()
    commands = dict(commands_of(parser))
    assert {*EXAMPLES} == {*commands}
    for name, example in EXAMPLES.items():
        asked = vars(parser.parse_args(shlex.split(example)))
        found = [asked.get("command"), asked.get("act") if name.startswith("queue") else asked.get("action")]
        assert " ".join(filter(None, found)).startswith(name) and example.startswith(name), name
        assert example in " ".join(commands[name].format_help().split()), name
        assert commands[name].description, name


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
    ranges = {name: " to ".join(f"{end:g}" if end < 1e6 else str(end) for end in ends) for name, ends in RANGES.items()}
    wrong = [name for name, words in ranges.items() if f"; {words} (default:" not in told]
    assert wrong == []
