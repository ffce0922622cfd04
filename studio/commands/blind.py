"""`blind`: two recipes of finished evaluations, judged by people who do not know which is which."""

import argparse
import tempfile
import time
from contextlib import closing
from pathlib import Path

from studio.commands.machine import studio_config
from studio.commands.serving import serve_options
from studio.commands.signals import stopping
from studio.evals.blind import Outcome, Votes, outcome, read_secret, votes_path
from studio.evals.blind_routes import BlindTest
from studio.evals.intervals import Interval
from studio.evals.merge import merge, pick
from studio.evals.results import Run
from studio.ui.routes_server import serve_routes

POLL_SECONDS = 0.2


def run(options: argparse.Namespace) -> int:
    """Serve the test until it is stopped, then print what the votes say; with --result print alone."""
    config = studio_config(options)
    made = merge(options.first, options.second, pick(options.first)[0].folder)
    path = options.votes or votes_path(made)
    votes = Votes(path, made)
    votes.read()  # a file of something else is said now
    if not options.result:
        with tempfile.TemporaryDirectory() as stripped, stopping("Closing.") as stop:
            test = BlindTest(made, votes, read_secret(path), Path(stripped))
            with closing(serve_routes(test.endpoints(), Path(stripped), config, serve_options(options))):
                while not stop.is_set():
                    time.sleep(POLL_SECONDS)
    print("\n".join(told(made, outcome(votes.read()))))
    print(f"Votes: {path}")
    return 0


def told(made: Run, found: Outcome) -> list[str]:
    """The result as lines of a table."""
    first, second = made.recipes
    lines = [f"{second} against {first}: {found.votes} votes of {found.voters} people"]
    lines.append(f"{'':14s} better equal worse   margin")
    for name, one in found.verdicts.items():
        decided = "decided" if one.more == 0 else f"undecided, about {one.more} more prompts"
        record = f"{one.wins:6d} {one.ties:5d} {one.losses:5d}"
        lines.append(f"{name:14s} {record}   {_percent(one.margin)}   {decided}")
    if found.agreement:
        lines.append(f"repeated pairs judged alike: {_percent(found.agreement)}")
    if found.left:
        lines.append(f"left side chosen: {_percent(found.left)}")
    return lines


def _percent(found: Interval) -> str:
    mean = f"{100 * found.mean:+.0f} %"
    if found.low is None or found.high is None:
        return mean
    return f"{mean} [{100 * found.low:+.0f}, {100 * found.high:+.0f}]"
