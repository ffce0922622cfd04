"""The blind test: which clips a voter sees in which order and on which side, the votes on disk, what they say.

Everything that a voter sees follows from a secret and the voter's name, so that nothing but votes is stored: a file of
lines, to which several people add.
"""

import hashlib
import json
import math
import os
import random
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.errors import InputError
from studio.evals.intervals import Interval, difference_interval, share_interval
from studio.evals.merge import chosen_pairs
from studio.evals.results import Row, Run
from studio.filenames import write_whole

OF_TEXT = ("instruction", "motion", "physics", "beauty", "overall")  # the official criteria, and one of our own
OF_PICTURE = ("instruction", "consistency", "physics", "overall")
OVERALL = "overall"
LEFT, RIGHT, EQUAL = "left", "right", "equal"
FIRST, SECOND = "first", "second"
REPEATED = 10  # of so many pairs one comes again with its sides swapped
VOTER = re.compile(r"[A-Za-z0-9_-]{1,40}")
SMALL_DIFFERENCE = 0.1  # wins less losses, as a share: what "how many more" refers to where none was seen


@dataclass(frozen=True)
class Shown:
    """One pair as a voter sees it. number: its place in the voter's order, from 0. swapped: the second recipe is on
    the left. repeat: it was shown before, the other way round."""

    number: int
    first: Row
    second: Row
    swapped: bool
    repeat: bool

    @property
    def sides(self) -> tuple[Row, Row]:
        """The clips on the left and on the right."""
        return (self.second, self.first) if self.swapped else (self.first, self.second)

    @property
    def criteria(self) -> tuple[str, ...]:
        """What is asked of this pair."""
        return OF_PICTURE if self.first.settings.get("first_image") else OF_TEXT


@dataclass(frozen=True)
class Vote:
    """What a voter said of a pair. choices: criterion -> FIRST, SECOND or EQUAL."""

    voter: str
    case: str
    seed_number: int
    swapped: bool
    repeat: bool
    choices: Mapping[str, str]


@dataclass(frozen=True)
class Verdict:
    """The second recipe against the first by one criterion. margin: wins less losses as a share of the pairs, each
    prompt counted once. more: about how many further prompts would decide, 0 where it is decided."""

    wins: int
    ties: int
    losses: int
    margin: Interval
    more: int


@dataclass(frozen=True)
class Outcome:
    """agreement: how often a voter chose the same of a repeated pair, over all; left: how often the left side was
    chosen where one was. None where nothing was asked yet."""

    verdicts: Mapping[str, Verdict]
    votes: int
    voters: int
    agreement: Interval | None
    left: Interval | None


def order_for(run: Run, voter: str, secret: str) -> list[Shown]:
    """The pairs in this voter's order; each tenth comes again at the end of its part, sides swapped."""
    dice = random.Random(hashlib.sha256(f"{secret}/{voter}".encode()).digest())
    pairs = list(chosen_pairs(run))
    dice.shuffle(pairs)
    plan = [(pair, dice.random() < 0.5, False) for pair in pairs]
    again = dice.sample(plan[: max(len(plan) // 2, 1)], math.ceil(len(plan) / REPEATED))
    for pair, swapped, _ in again:  # the first half's, in the second: nobody remembers the sides
        plan.insert(dice.randint((len(plan) + 1) // 2, len(plan)), (pair, not swapped, True))
    return [
        Shown(number, first, second, swapped, repeat) for number, ((first, second), swapped, repeat) in enumerate(plan)
    ]


def votes_path(run: Run) -> Path:
    """Where the votes on a comparison lie unless somebody names a file: in the folder of its first run."""
    return run.folder / "blind" / f"{'-'.join(re.sub(r'[^A-Za-z0-9_.-]+', '_', name) for name in run.recipes)}.jsonl"


def read_secret(votes: Path) -> str:
    """What the order of pairs follows from: kept beside the votes, so that a voter goes on in the same order."""
    path = votes.with_suffix(".secret")
    if not path.exists():
        write_whole(path, secrets.token_hex(16).encode())
    return path.read_text(encoding="ascii")


class Votes:
    """The votes of one comparison: a file of lines. Raises InputError where a line is none."""

    def __init__(self, path: Path, run: Run) -> None:
        self._path, self._names = path, list(run.recipes)

    def read(self) -> list[Vote]:
        """All votes; of one voter's several on a pair the last counts."""
        found: dict[tuple[str, str, int, bool], Vote] = {}
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []
        for number, line in enumerate(lines, 1):
            try:
                told = json.loads(line)
                named = told.pop("recipes")
                vote = Vote(**told)
                if named != self._names or not set(vote.choices.values()) <= {FIRST, SECOND, EQUAL}:
                    raise ValueError(f"it is about {named}")
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                if number == len(lines):  # cut by a power failure
                    continue
                raise InputError("votes_unreadable", file=self._path, line=number, reason=str(error)) from None
            found[vote.voter, vote.case, vote.seed_number, vote.repeat] = vote
        return list(found.values())

    def add(self, vote: Vote) -> None:
        """Append a vote; it is on the disk afterwards. Raises OSError."""
        line = json.dumps({"recipes": self._names, **vars(vote)}, ensure_ascii=False)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab+") as file:
            size = file.seek(0, os.SEEK_END)
            if size and (file.seek(size - 1), file.read(1))[1] != b"\n":  # a cut line stays a line of its own
                line = "\n" + line
            file.write(f"{line}\n".encode())
            file.flush()
            os.fsync(file.fileno())


def next_for(shown: Sequence[Shown], votes: Sequence[Vote], voter: str) -> Shown | None:
    """The first pair of the voter's order without a vote, None after the last."""
    done = {(vote.case, vote.seed_number, vote.repeat) for vote in votes if vote.voter == voter}
    return next((one for one in shown if (one.first.case, one.first.seed_number, one.repeat) not in done), None)


def vote_of(one: Shown, voter: str, sides: Mapping[str, Any]) -> Vote:
    """A vote from what was chosen by side. Raises InputError where that is not an answer to what was asked."""
    if set(sides) != set(one.criteria) or not set(map(str, sides.values())) <= {LEFT, RIGHT, EQUAL}:
        raise InputError("vote_unknown", criteria=", ".join(one.criteria))
    names = {LEFT: SECOND, RIGHT: FIRST} if one.swapped else {LEFT: FIRST, RIGHT: SECOND}
    choices = {criterion: names.get(side, EQUAL) for criterion, side in sides.items()}
    return Vote(voter, one.first.case, one.first.seed_number, one.swapped, one.repeat, choices)


def outcome(votes: Sequence[Vote]) -> Outcome:
    """What the votes say; repeated pairs tell the voters' agreement with themselves and nothing else."""
    counted = [vote for vote in votes if not vote.repeat]
    criteria = dict.fromkeys(name for vote in counted for name in vote.choices)
    chosen = [
        float((vote.choices[OVERALL] == SECOND) == vote.swapped)
        for vote in votes
        if vote.choices.get(OVERALL) in (FIRST, SECOND)
    ]
    before = {(vote.voter, vote.case, vote.seed_number): vote.choices.get(OVERALL) for vote in counted}
    same = [
        float(before[key] == vote.choices.get(OVERALL))
        for vote in votes
        if vote.repeat and (key := (vote.voter, vote.case, vote.seed_number)) in before
    ]
    return Outcome(
        verdicts={name: _verdict(counted, name) for name in criteria},
        votes=len(counted),
        voters=len({vote.voter for vote in votes}),
        agreement=share_interval(same) if same else None,
        left=share_interval(chosen) if chosen else None,
    )


def _verdict(votes: Sequence[Vote], criterion: str) -> Verdict:
    value = {SECOND: 1.0, EQUAL: 0.0, FIRST: -1.0}
    by_case: dict[str, list[float]] = {}
    for vote in votes:
        if criterion in vote.choices:
            by_case.setdefault(vote.case, []).append(value[vote.choices[criterion]])
    everything = [said for values in by_case.values() for said in values]
    margin = difference_interval([math.fsum(values) / len(values) for values in by_case.values()], of_shares=True)
    wins, losses = everything.count(1.0), everything.count(-1.0)
    return Verdict(wins, len(everything) - wins - losses, losses, margin, _more(margin))


def _more(margin: Interval) -> int:
    """The half width shrinks with the root of the number of prompts: how many more until it is the margin itself."""
    if margin.decides:
        return 0
    if margin.low is None or margin.high is None:
        return REPEATED
    half, seen = (margin.high - margin.low) / 2, max(abs(margin.mean), SMALL_DIFFERENCE)
    return max(math.ceil(margin.count * (half / seen) ** 2) - margin.count, 1)
