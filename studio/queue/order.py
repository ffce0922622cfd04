"""The order of the jobs that wait: their positions, numbers that leave room between any two.

All functions run inside a transaction of the queue.
"""

import math
import sqlite3
from collections.abc import Sequence
from enum import StrEnum

from studio.queue.schema import NEXT_CHANGE

Rows = list[sqlite3.Row]


class Where(StrEnum):
    """A place in the queue: its ends, or beside another job."""

    FIRST = "first"
    LAST = "last"
    BEFORE = "before"
    AFTER = "after"


def waiting(db: sqlite3.Connection) -> Rows:
    """number, id and position of all that wait, in their order."""
    return db.execute(
        "SELECT number, id, position FROM jobs WHERE state IN ('queued', 'paused') ORDER BY position, number"
    ).fetchall()


def behind(db: sqlite3.Connection, id: str, count: int, now: float) -> tuple[list[float], Rows]:
    """`count` new positions behind the waiting job `id`, or behind all others where it does not wait.

    Returns the rows that changed to make room, too. now: Unix seconds; each position is larger than the last one, also
    where the clock was set back.
    """
    rows = waiting(db)
    at = next((index for index, row in enumerate(rows) if row["id"] == id), None)
    if at is None or at == len(rows) - 1:
        last = rows[-1]["position"] if rows else -math.inf
        found = [max(now, math.nextafter(last, math.inf))]
        while len(found) < count:
            found.append(math.nextafter(found[-1], math.inf))
        return found, []
    between = _between(rows[at]["position"], rows[at + 1]["position"], count)
    if between is not None:
        return between, []
    changed = _renumbered(db, [row["number"] for row in rows])
    low, high = changed[at]["position"], changed[at + 1]["position"]
    return [low + (high - low) * number / (count + 1) for number in range(1, count + 1)], changed


def move(db: sqlite3.Connection, id: str, where: Where, other: str = "") -> Rows:
    """Put a waiting job elsewhere. Returns all rows that changed; none where one of the two does not wait.

    AFTER a running job is FIRST.
    """
    rows = waiting(db)
    moved = next((row for row in rows if row["id"] == id), None)
    others = [row for row in rows if row["id"] != id]
    index = _index(db, others, where, other)
    if moved is None or index is None:
        return []
    low = others[index - 1]["position"] if index else None
    high = others[index]["position"] if index < len(others) else None
    place = _between(low, high, 1)
    if place is not None:
        return _set(db, [(place[0], moved["number"])])
    numbers = [row["number"] for row in others]
    numbers.insert(index, moved["number"])
    return _renumbered(db, numbers)


def _index(db: sqlite3.Connection, others: Sequence[sqlite3.Row], where: Where, other: str) -> int | None:
    """Before which of the others the place is."""
    if where in (Where.FIRST, Where.LAST):
        return 0 if where == Where.FIRST else len(others)
    at = next((index for index, row in enumerate(others) if row["id"] == other), None)
    if at is None:
        runs = db.execute("SELECT 1 FROM jobs WHERE id = ? AND state = 'running'", (other,)).fetchone()
        return 0 if runs and where == Where.AFTER else None
    return at + (where == Where.AFTER)


def _between(low: float | None, high: float | None, count: int) -> list[float] | None:
    """`count` growing numbers between two others (None: no bound there); None where there is no room for them."""
    if high is None:
        return [(low or 0.0) + number for number in range(1, count + 1)]
    if low is None:
        return [high - number for number in range(count, 0, -1)]
    found = [low + (high - low) * number / (count + 1) for number in range(1, count + 1)]
    row = [low, *found, high]
    return found if all(first < second for first, second in zip(row, row[1:], strict=False)) else None


def _renumbered(db: sqlite3.Connection, numbers: Sequence[int]) -> Rows:
    """New positions, one apart, for the jobs of these numbers in this order, and their rows."""
    start = math.floor(db.execute("SELECT min(position) FROM jobs WHERE state IN ('queued', 'paused')").fetchone()[0])
    return _set(db, [(float(start + index), number) for index, number in enumerate(numbers)])


def _set(db: sqlite3.Connection, places: Sequence[tuple[float, int]]) -> Rows:
    sql = f"UPDATE jobs SET position = ?, version = {NEXT_CHANGE} WHERE number = ? RETURNING *"
    return [db.execute(sql, place).fetchall()[0] for place in places]
