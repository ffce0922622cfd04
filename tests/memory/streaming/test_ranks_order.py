"""Units that several ranks load in parts and gather: right weights on every rank, and bugs that are found."""

import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
import torch

from studio.memory.plan import ComponentPlan
from tests.memory.streaming.fake import FakeMachine
from tests.memory.streaming.fake_ranks import RankBackend, World, run_ranks
from tests.memory.toys import Toy, component_plan, open_toy, write_units

UNITS = 5
PASSES = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    write_units(folder, UNITS)
    return folder


def wrong_uses(folder: Path, seed: int, forgets: frozenset[str] = frozenset()) -> int:
    """Some passes of each rank's streamer over one plan; how many uses saw other weights than the unit's.

    -1: the ranks wait for each other for ever.
    """
    chance = random.Random(seed)
    world = World(chance.choice((2, 3, 4)), forgets)
    kinds = ["pinned", *(chance.choice(("pinned", "resident")) for _ in range(UNITS - 2)), "pinned"]
    plan = component_plan(kinds, slots=chance.randint(2, 3))
    wrong: list[int] = []
    works, backends, toys = [], [], []
    for rank in range(world.ranks):
        backend = RankBackend(seed * 10 + rank, rank, world)
        toy = open_toy(folder, UNITS, machine=FakeMachine(), backend=backend)
        backends.append(backend)
        toys.append(toy)
        weights = []
        for unit in range(UNITS):
            memory = torch.zeros(toy.layout.nbytes, dtype=torch.uint8)
            toy.reader.read(unit, memory)
            weights.append(toy.layout.views(memory)["weight"])
        works.append(partial(_passes, toy, backend, plan, weights, wrong))
    patience = 2.0 if forgets else 100.0
    done = run_ranks(world, works, patience) and run_ranks(world, [backend.drain for backend in backends], patience)
    for toy in toys:
        toy.close()
    return len(wrong) if done else -1


def _passes(
    toy: Toy, backend: RankBackend, plan: ComponentPlan, weights: Sequence[torch.Tensor], wrong: list[int]
) -> None:
    def look(unit: int, weight: torch.Tensor) -> None:
        if not torch.equal(weight, weights[unit]):
            wrong.append(unit)

    toy.streamer.set_plan(plan)
    for number in range(PASSES):
        for unit, block in toy.streamer.blocks(last=number == PASSES - 1):
            backend.calculate(partial(look, unit, block.weight))
    backend.finish()


def test_every_rank_computes_with_the_units_weights(folder: Path) -> None:
    assert not [seed for seed in range(25) if wrong_uses(folder, seed)]


def test_planted_bugs_of_several_ranks_are_caught(folder: Path) -> None:
    for bug in ("late", "order", "gathered", "first"):
        caught = sum(wrong_uses(folder, seed, frozenset({bug})) != 0 for seed in range(15))
        assert caught > 3, bug
