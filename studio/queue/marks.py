"""What a person says of a job that is no setting: it is a favourite, it has tags. Its copy on disk says so too."""

import json
import re
import sqlite3
import unicodedata
from collections.abc import Sequence

from studio.queue.job import key
from studio.queue.jobs import JobQueue, Rows

MOST_TAGS = 12
LONGEST_TAG = 32  # letters
NO_TAG = re.compile(r"[^\w\s.+-]")  # what separates tags or could be taken for the brackets of a list


def set_favourite(queue: JobQueue, ids: Sequence[str], favourite: bool) -> int:
    """Mark jobs, or take the mark away. Returns how many it changed."""
    return _set(queue, "favourite", int(favourite), ids)


def set_tags(queue: JobQueue, ids: Sequence[str], tags: Sequence[str]) -> int:
    """Give jobs these tags instead of theirs. Returns how many it changed."""
    return _set(queue, "tags", json.dumps(tags_of(", ".join(tags)), ensure_ascii=False), ids)


def add_tags(queue: JobQueue, ids: Sequence[str], tags: Sequence[str]) -> int:
    """Give jobs these tags beside theirs. Returns how many it changed."""
    jobs = [job for id in ids if (job := queue.get(id)) is not None]
    return sum(set_tags(queue, [job.id], [*job.tags, *tags]) for job in jobs)


def tags_of(text: str) -> list[str]:
    """The tags in what a person typed, with commas between them: each once, without signs, at most MOST_TAGS."""
    parts = re.split(r"[,，、;；\n]", unicodedata.normalize("NFC", text))
    tags = [" ".join(NO_TAG.sub(" ", part).split())[:LONGEST_TAG].strip() for part in parts]
    return list(dict.fromkeys(tag for tag in tags if tag))[:MOST_TAGS]


def _set(queue: JobQueue, column: str, value: str | int, ids: Sequence[str]) -> int:
    """Where all have the value already nothing is written, and no page looks again."""

    def work(db: sqlite3.Connection) -> Rows:
        rows: Rows = []
        for id in dict.fromkeys(ids):
            rows += queue.update(db, f"{column} = ?", f"id = ? AND {column} <> ?", value, key(id), value)
        return queue.copied(rows)

    return len(queue.changed(work))
