"""Numbers of a config, which a stranger may have written: each is checked before anything is built from it.

Every function raises ValueError with the key and what it should be.
"""

from collections.abc import Mapping
from typing import Any

MOST_LAYERS = 512  # the largest public network has 48
MOST_SIZE = 1 << 20  # of channels, words, positions; the largest public number is 74,752


def whole(config: Mapping[str, Any], key: str, most: int = MOST_SIZE) -> int:
    """A whole number from 1 to `most`."""
    return _whole(_value(config, key), key, most)


def layer_count(config: Mapping[str, Any], key: str) -> int:
    """A number of layers: each is an object of Python's before any weight is looked at."""
    return whole(config, key, MOST_LAYERS)


def wholes(config: Mapping[str, Any], key: str, count: int) -> tuple[int, ...]:
    """A list of exactly `count` whole numbers from 1 to MOST_SIZE."""
    values = _value(config, key)
    if not isinstance(values, list | tuple) or len(values) != count:
        raise ValueError(f"{key} must be a list of {count} numbers")
    return tuple(_whole(value, key, MOST_SIZE) for value in values)


def epsilon(config: Mapping[str, Any], key: str) -> float:
    """What a norm adds before it divides: above 0, below 1."""
    value = _value(config, key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise ValueError(f"{key} is {_short(value)}, it must lie between 0 and 1")
    return float(value)


def flag(config: Mapping[str, Any], key: str) -> bool:
    """True or false."""
    value = _value(config, key)
    if not isinstance(value, bool):
        raise ValueError(f"{key} is {_short(value)}, it must be true or false")
    return value


def product(first: int, second: int, words: str) -> int:
    """The product of two sizes, a size itself: at most MOST_SIZE."""
    return _whole(first * second, words, MOST_SIZE)


def fixed(config: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Keys that may be absent, and else must have these values: nothing else is computed here."""
    for key, known in values.items():
        value = config.get(key, known)
        if value != known or isinstance(value, bool) != isinstance(known, bool):
            raise ValueError(f"{key} is {_short(value)}; only {known!r} is supported")


def divides(part: int, whole_number: int, words: str) -> None:
    """`words` says what must be divisible: "width 6144 by 48 heads"."""
    if whole_number % part:
        raise ValueError(f"its sizes do not divide: {words}")


def _value(config: Mapping[str, Any], key: str) -> Any:
    if key not in config:
        raise ValueError(f"it has no {key}")
    return config[key]


def _whole(value: Any, key: str, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ValueError(f"{key} is {_short(value)}, it must be a whole number from 1 to {most:,}")
    return value


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, str | int | float | bool | None) else f"a {type(value).__name__}"
    return text if len(text) <= 40 else f"{text[:40]}…"
