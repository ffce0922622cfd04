"""Which cards of a cluster make nothing because their machine differs: written beside the queue, shown by the page.

The cluster's worker is a process of its own and the page another; they meet in the queue's folder.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studio.events import Failed
from studio.filenames import write_whole
from studio.messages import message
from studio.stored_json import load_object

FILE = "cluster-refused.json"
MOST_LETTERS = 500  # of what a machine differs in: names of models come from there


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What a machine has otherwise than the head: "version", or the name of a model, also where only one has it."""
    return sorted(key for key in {**found, **wanted} if found.get(key) != wanted.get(key))


def write_refused(folder: Path, cards: Mapping[str, str]) -> None:
    """Card -> what its machine differs in, for `read_refused`. Raises OSError."""
    write_whole(folder / FILE, json.dumps(dict(cards)).encode())


def read_refused(folder: Path) -> dict[str, Failed]:
    """Card -> the sentence that says why it makes nothing; {} where there is none, or the file is none."""
    told = {}
    for name, different in load_object(folder / FILE).items():
        if isinstance(different, str):
            values = {"node": name[:MOST_LETTERS], "different": different[:MOST_LETTERS]}
            told[name] = Failed("node_differs", values, message("node_differs", values))
    return told
