"""Managers that share a video: one plan, one copy of weights in RAM, and one end where memory runs out."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from studio.errors import DoesNotFit
from studio.memory.manager import MemoryManager
from studio.memory.plan import CAN_SHARE_RAM, Budgets, Sharing
from studio.memory.streaming.arena import Place, stride
from tests.memory.tiny_model import (
    BLOCKS,
    LAYERS,
    VIDEO,
    denoise,
    open_manager,
    slow_twin,
    with_sources,
    with_texts_kept,
    write_model,
)

pytestmark = pytest.mark.skipif(not CAN_SHARE_RAM, reason="no memfd here")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


def in_ram(place: Place) -> int:
    """Bytes that the one copy takes."""
    return Path(place.path).stat().st_blocks * 512


def test_all_follow_one_plan_with_one_copy_and_let_go_of_it_together(folder: Path) -> None:
    with torch.inference_mode():
        twin = slow_twin(folder, torch.float32)[0]
    managers = [open_manager(folder, sharing=Sharing(3)) for _ in range(3)]
    first, *others = managers
    mixed = ["pinned", "resident", "pinned", "direct", "pinned"][:BLOCKS]
    plan, before = with_sources(first.plan(VIDEO), mixed, ["direct"] * LAYERS, 2), None
    for planned in (plan, with_texts_kept(first, plan), plan):  # other blocks, of another size, replace the copy
        first.set_plan(planned)
        lead = first.lead(VIDEO, [other.budgets for other in others])
        assert lead.plan == planned and lead.arena != before
        for other in others:
            other.follow(lead)
        for manager in managers:
            assert torch.equal(denoise(manager), twin)
            manager.check_integrity()
        unit = planned.transformer.unit_bytes
        assert {manager.usage().pinned_bytes for manager in managers} == {mixed.count("pinned") * unit}, "each uses it"
        assert 0 <= in_ram(lead.arena) - mixed.count("pinned") * stride(unit) <= stride(1), "there once"
        before = lead.arena
    others[0].release()
    assert in_ram(lead.arena) >= mixed.count("pinned") * stride(plan.transformer.unit_bytes), "others still use it"
    assert torch.equal(denoise(others[1]), twin)
    others[1].release()
    first.release()
    with pytest.raises(OSError):
        lead.arena.open()


def test_the_least_of_all_budgets_is_every_ones_plan(folder: Path) -> None:
    first = open_manager(folder, sharing=Sharing(2), offload="blocks")
    own = first.plan(VIDEO)
    least = replace(first.budgets, ram_bytes=own.ram_peak_bytes - 1)
    lead = first.lead(VIDEO, [Budgets(1 << 60, 1 << 60), least])
    assert lead.plan.fits and lead.plan.ram_peak_bytes <= least.ram_bytes < own.ram_peak_bytes
    assert first.lead(VIDEO, [Budgets(1 << 60, 1 << 60)]) == lead
    with pytest.raises(DoesNotFit, match="It needs at least"):
        first.lead(VIDEO, [Budgets(0, 1)])
    first.release()


def test_a_step_that_runs_out_of_memory_ends_all_and_no_plan_becomes_smaller(folder: Path) -> None:
    first, second = (open_manager(folder, sharing=Sharing(2)) for _ in range(2))
    second.follow(first.lead(VIDEO, []))

    def refuse() -> bool:
        raise MemoryError("planted")

    def check(manager: MemoryManager) -> None:
        plan, told = manager.plan(VIDEO), list[str]()
        manager.notify = lambda code, **values: told.append(code)
        with pytest.raises(DoesNotFit, match="while several devices shared the video"):
            denoise(manager, cancelled=refuse)
        assert manager.plan(VIDEO) == plan and not told
        manager.check_integrity()

    check(second)
    check(first)
    for manager in (first, second):
        manager.release()


def test_without_one_copy_each_has_its_own(folder: Path) -> None:
    first, second = (open_manager(folder, sharing=Sharing(2, one_copy=False)) for _ in range(2))
    lead = first.lead(VIDEO, [])
    assert lead.arena is None
    second.follow(lead)
    assert torch.equal(denoise(first), denoise(second))
    for manager in (first, second):
        manager.release()
