"""The blind test: what a voter sees gives nothing away, votes add up, and a planted preference is found."""

import random
from pathlib import Path

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from studio.errors import InputError
from studio.evals.blind import EQUAL, FIRST, OVERALL, SECOND, Shown, Vote, Votes, next_for, order_for, outcome, vote_of
from studio.evals.blind_routes import BlindTest
from studio.evals.results import Run
from studio.media import read_metadata, read_video
from studio.video_writer import VideoWriter
from tests.evals.test_summary import row, run


def comparison(count: int, folder: Path = Path()) -> Run:
    return run([row(f"c{number}", name) for number in range(count) for name in ("a", "b")], folder)


def test_orders_differ_by_voter_and_hide_the_sides() -> None:
    made = comparison(200)
    one, two = order_for(made, "ann", "s"), order_for(made, "bob", "s")
    assert order_for(made, "ann", "s") == one and [x.first.case for x in one] != [x.first.case for x in two]
    first = [shown for shown in one if not shown.repeat]
    repeats = [shown for shown in one if shown.repeat]
    assert len(first) == 200 and len(repeats) == 20 and len({shown.first.case for shown in first}) == 200
    assert 70 < sum(shown.swapped for shown in first) < 130
    before = {shown.first.case: shown for shown in first}
    assert all(shown.swapped != before[shown.first.case].swapped for shown in repeats)
    assert all(shown.number > before[shown.first.case].number for shown in repeats)


def test_votes_are_stored_by_recipe_and_add_up_over_people(tmp_path: Path) -> None:
    made = comparison(12)
    votes = Votes(tmp_path / "votes.jsonl", made)
    for voter in ("ann", "bob"):
        shown = order_for(made, voter, "s")
        while one := next_for(shown, votes.read(), voter):
            votes.add(vote_of(one, voter, dict.fromkeys(one.criteria, "right" if not one.swapped else "left")))
    found = outcome(votes.read())
    assert (found.voters, found.votes, found.agreement.mean) == (2, 24, 1.0)
    assert {(one.wins, one.ties, one.losses, one.more) for one in found.verdicts.values()} == {(24, 0, 0, 0)}
    assert list(found.verdicts) == ["instruction", "motion", "physics", "beauty", "overall"]
    with (tmp_path / "votes.jsonl").open("a") as file:
        file.write('{"recipes": ["a"')  # a power cut
    votes.add(vote_of(order_for(made, "ann", "s")[0], "cy", dict.fromkeys(made_criteria(made), "equal")))
    with pytest.raises(InputError, match="is no vote"):
        votes.read()
    with pytest.raises(InputError, match="is no vote"):
        Votes(tmp_path / "votes.jsonl", run([row("c1", "a"), row("c1", "z")])).read()


def made_criteria(made: Run) -> tuple[str, ...]:
    return order_for(made, "ann", "s")[0].criteria


def test_a_planted_preference_is_found_with_the_right_interval() -> None:
    """Voters that prefer the second recipe in 60 % of the pairs and find 20 % equal: a margin of 0.4."""
    held, decided, rounds = 0, 0, 200
    for seed in range(rounds):
        dice = random.Random(seed)
        votes = [
            Vote(
                "v",
                f"c{n}",
                1,
                dice.random() < 0.5,
                False,
                {OVERALL: dice.choices([SECOND, EQUAL, FIRST], [60, 20, 20])[0]},
            )
            for n in range(60)
        ]
        verdict = outcome(votes).verdicts[OVERALL]
        held += verdict.margin.low <= 0.4 <= verdict.margin.high
        decided += verdict.more == 0 and verdict.margin.mean > 0
    assert 0.92 <= held / rounds <= 0.99 and decided / rounds > 0.9


def test_a_voter_who_always_takes_the_left_one_is_told() -> None:
    votes = []
    for number in range(100):
        swapped = number % 2 == 1
        for repeat in (False, True):
            side = swapped != repeat
            left = SECOND if side else FIRST
            votes.append(Vote("v", f"c{number}", 1, side, repeat, {OVERALL: left}))  # always the left one
    found = outcome(votes)
    assert found.left.mean == 1 and found.agreement.mean == 0
    assert found.verdicts[OVERALL].more > 0 and not found.verdicts[OVERALL].margin.decides


def test_the_page_serves_clips_without_names_and_metadata(tmp_path: Path) -> None:
    made = comparison(3, tmp_path)
    for one in made.rows:
        path = tmp_path / one.clip
        path.parent.mkdir(exist_ok=True)
        writer = VideoWriter(path, 32, 32, 25, {"settings": {"infer_steps": 1}})
        writer.add(np.full((5, 32, 32, 3), 40 * one.number, np.uint8))
        writer.close()
    stripped = tmp_path / "stripped"
    stripped.mkdir()
    test = BlindTest(made, Votes(tmp_path / "votes.jsonl", made), "s", stripped)
    client = TestClient(Starlette(routes=test.endpoints().routes))
    told = client.get("/pair?voter=ann").json()
    assert told["total"] == 4 and not {"a", "b"} & set(str(told).replace("'", " ").split())
    answer = client.get(f"/clip/{told['left']}")
    assert answer.headers["content-type"] == "video/mp4"
    with pytest.raises(InputError):
        read_metadata(answer.content)
    shown = order_for(made, "ann", "s")
    original = tmp_path / shown[0].sides[0].clip
    assert read_metadata(original.read_bytes())["settings"] == {"infer_steps": 1}
    (tmp_path / "got.mp4").write_bytes(answer.content)
    assert np.array_equal(read_video(tmp_path / "got.mp4"), read_video(original))
    assert told["left"] != client.get("/pair?voter=bob").json()["left"]

    choices = dict.fromkeys(told["criteria"], "left")
    for body in (
        {},
        {"voter": "ann", "number": 0, "left": told["left"], "choices": {"overall": "left"}},
        {"voter": "../x", "number": 0, "left": told["left"], "choices": choices},
        {"voter": "ann", "number": 1, "left": told["left"], "choices": choices},  # not the pair that was shown
    ):
        assert client.post("/vote", json=body).status_code == 400
    assert client.get("/clip/none.mp4").status_code == 404 and client.get("/pair?voter=a b").status_code == 400
    while "criteria" in told:
        one: Shown = shown[told["number"]]
        side = "left" if one.swapped else "right"
        choices = dict.fromkeys(told["criteria"], side)
        body = {"voter": "ann", "number": told["number"], "left": told["left"], "choices": choices}
        told = client.post("/vote", json=body).json()
    found = client.get("/result").json()
    assert (found["first"], found["second"], found["votes"]) == ("a", "b", 3)
    assert found["verdicts"]["overall"]["wins"] == 3 and found["agreement"]["mean"] == 1
