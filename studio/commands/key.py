"""`key new|list|revoke`: the API keys of a queue."""

import argparse
import sys
import time

from studio.api.keys import KEYS_FILE, Keys, Scope
from studio.config import load_studio
from studio.filenames import QUEUE_FOLDER


def run(options: argparse.Namespace) -> int:
    """Make, list or revoke keys; a running page knows at once."""
    given = vars(options)
    config = load_studio(output_dir=given.get("output_dir"))
    keys = Keys(config.output_dir / QUEUE_FOLDER / KEYS_FILE)
    if options.action == "new":
        text = keys.new(options.name, Scope(options.scope), given.get("rate") or config.key_rate)
        print(f"Key {options.name!r}: it is shown this once.", file=sys.stderr)
        print(text)
    elif options.action == "revoke":
        keys.revoke(options.name)
        print(f"Key {options.name!r} is revoked.")
    else:
        for entry in keys.entries():
            day = time.strftime("%Y-%m-%d", time.localtime(entry.created))
            print(f"{entry.name:24} {entry.scope:6} {entry.rate:7} requests a minute, made {day}")
    return 0
