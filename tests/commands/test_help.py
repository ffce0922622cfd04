"""Every command's help ends with an example that its own parser takes, and tells ranges and defaults."""

import shlex

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


def test_generate_tells_the_range_of_every_number() -> None:
    parser = build_parser()
    (commands,) = (action for action in parser._actions if action.dest == "command")
    told = " ".join(commands.choices["generate"].format_help().split())
    wrong = [name for name, (low, high) in RANGES.items() if f"{low:g} to {high} (default:" not in told]
    assert wrong == []
