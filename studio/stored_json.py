"""What this program wrote down for itself and reads again: another version, a person or a bad disk may have changed it.

A file or number that is not what it should be is not there.
"""

from pathlib import Path
from typing import Any

from models.regular_files import parse_json, read_regular

LARGEST_BYTES = 1 << 20


def load_object(path: Path) -> dict[str, Any]:
    """The json object in a file; {} where it is absent, not readable, too long or none."""
    try:
        return parse_json(read_regular(path, LARGEST_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}


def number(value: Any, low: float, high: float) -> float:
    """The number between `low` and `high`. Raises ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError("it is no such number")
    return float(value)
