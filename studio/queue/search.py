"""Which jobs and results a person looks at, and in which order; the same rules in SQLite and in memory."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from studio.queue.job import JobState
from studio.settings import ResolvedSettings

SEARCHED = ("prompt", "model", "camera_move", "seed")  # of the settings, by words
MOST_WORDS = 8
# A job's tags are searched too; marks.py keeps quotes and commas out of them, so that only words are left here.
TAGS = "replace(replace(trim(tags, '[]'), '\"', ' '), ',', ' ')"
SAID = " || ' ' || ".join((*(f"coalesce(settings ->> '$.{name}', '')" for name in SEARCHED), TAGS))


class Sort(StrEnum):
    """The order of what is found. LONGEST: by frames, the newest of a length first."""

    NEWEST = "newest"
    OLDEST = "oldest"
    LONGEST = "longest"


FRAMES = "settings ->> '$.num_frames'"
# Columns that `Search.rank` makes a tuple of, and the order that they are read in.
RANKED = {
    Sort.NEWEST: "created",
    Sort.OLDEST: "-created",
    Sort.LONGEST: f"{FRAMES}, created",
}
ORDER = {
    Sort.NEWEST: "ORDER BY created DESC, number DESC",
    Sort.OLDEST: "ORDER BY created, number",
    Sort.LONGEST: f"ORDER BY {FRAMES} DESC, created DESC, number DESC",
}
Rank = tuple[float, ...]


@dataclass(frozen=True)
class Search:
    """What is looked for: everything that says all of the words, favourites alone or all, in an order.

    words: each must be said somewhere in prompt, model, camera move, seed or tags.
    """

    words: str = ""
    favourites: bool = False
    sort: Sort = Sort.NEWEST

    @property
    def sought(self) -> tuple[str, ...]:
        """The words in small letters; more than MOST_WORDS are not looked at."""
        return tuple(self.words.lower().split()[:MOST_WORDS])

    def finds(self, settings: ResolvedSettings) -> bool:
        """Whether a result that no job knows is looked for: nobody can have marked it."""
        said = " ".join(str(getattr(settings, name)) for name in SEARCHED).lower()
        return not self.favourites and all(word in said for word in self.sought)

    def rank(self, settings: ResolvedSettings, created: float) -> Rank:
        """The larger, the earlier it comes. created: Unix seconds."""
        return {
            Sort.NEWEST: (created,),
            Sort.OLDEST: (-created,),
            Sort.LONGEST: (settings.num_frames, created),
        }[self.sort]

    def where(self, states: Iterable[JobState] | None) -> tuple[str, tuple[str, ...]]:
        """The condition of a query for jobs in these states (None: in any), "" for none, with its values."""
        wanted = () if states is None else tuple(states)
        parts = [] if states is None else [f"state IN ({', '.join('?' * len(wanted))})"]
        parts += ["favourite = 1"] * self.favourites
        parts += [f"instr(lower({SAID}), ?)"] * len(self.sought)
        return f"WHERE {' AND '.join(parts)}" if parts else "", (*wanted, *self.sought)

    def page(
        self, columns: str, states: Iterable[JobState] | None, limit: int | None = None, offset: int = 0
    ) -> tuple[str, tuple[str | int, ...]]:
        """A query for columns of a page of jobs, with its values; an index answers it without words."""
        where, values = self.where(states)
        page = (-1 if limit is None else limit, offset)  # -1 means no limit in SQLite
        return f"SELECT {columns} FROM jobs {where} {ORDER[self.sort]} LIMIT ? OFFSET ?", (*values, *page)


ALL = Search()
