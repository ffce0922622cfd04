"""`compare`: two recipes of finished evaluations prompt by prompt, as a report of their own."""

import argparse

from studio.evals.merge import merge
from studio.evals.report import write_report
from studio.evals.score_list import BY_KEY
from studio.evals.summary import compare


def run(options: argparse.Namespace) -> int:
    """Print the differences with their intervals, and write the report."""
    made = merge(options.first, options.second, options.to.resolve())
    first, second = made.recipes
    found = compare(made, first, second)
    print(f"{second} against {first}: {len({row.case for row in made.rows})} prompts, {len(made.rows) // 2} pairs")
    print(f"{'':30s} {'difference':>11s}   95 % interval         better equal worse")
    for key, one in found.items():
        low, high = one.difference.low, one.difference.high
        interval = "" if low is None or high is None else f"[{low:9.4f}, {high:9.4f}]"
        title = BY_KEY[key].title[0] if key in BY_KEY else "Seconds per clip"
        decided = " *" if one.difference.decides else ""
        record = f"{one.wins:6d} {one.ties:5d} {one.losses:5d}" if one.wins or one.ties or one.losses else ""
        print(f"{title:30s} {one.difference.mean:11.4f}   {interval:22s} {record}{decided}")
    made.store()
    print(write_report(made))
    return 0
