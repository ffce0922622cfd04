"""How long a pass over a network takes: computation, copies and reads as queues that wait for each other."""

import pytest

from studio.memory.plan import ComponentPlan
from studio.memory.planning import timing
from studio.memory.planning.speeds import Speeds


def component(*source: str, slots: int = 2) -> ComponentPlan:
    resident = tuple(unit for unit, kind in enumerate(source) if kind == "resident")
    return ComponentPlan(resident, slots, source, unit_bytes=10**9, rest_bytes=0)


def test_a_pass_takes_the_longest_queue():
    speeds = Speeds(1, 1, memory_gbps=1, link_gbps=2, disk_gbps=0.5)
    for source, slots, seconds in (
        (["resident"] * 4, 0, 4.0),
        (["pinned"] * 4, 2, 4.0),  # copies of half a second are hidden
        (["pinned"] * 4, 1, 6.0),  # with one slot nothing is
        (["direct"] * 4, 2, 8.0),  # reads of two seconds are not, but copies are
        (["resident", "direct"] * 2, 2, 4.0),  # between residents there is time for them
    ):
        took = timing.pass_seconds(component(*source, slots=slots), 1.0, speeds, on_cpu=False)
        assert took == pytest.approx(seconds), (source, slots)


def test_the_first_pass_reads_every_unit():
    speeds = Speeds(1, 1, memory_gbps=1, link_gbps=100, disk_gbps=0.5, register_gbps=100)
    for source in ("resident", "pinned", "direct"):
        plan = component(*[source] * 4, slots=0 if source == "resident" else 2)
        cold = timing.pass_seconds(plan, 1.0, speeds, on_cpu=False, cold=True)
        assert cold == pytest.approx(4 * 2 + 1, abs=0.1)  # reading and computing overlap


def test_the_first_pass_registers_pinned_memory_and_two_staging_buffers():
    speeds = Speeds(1, 1, memory_gbps=1, link_gbps=100, disk_gbps=10, register_gbps=0.5)
    for source, seconds in (("pinned", 8 * 2 + 1), ("direct", 2 * 2 + 7), ("resident", 2 * 2 + 7)):
        plan = component(*[source] * 8, slots=0 if source == "resident" else 2)
        cold = timing.pass_seconds(plan, 1.0, speeds, on_cpu=False, cold=True)
        assert cold == pytest.approx(seconds, abs=0.3), source


def test_on_a_cpu_one_slot_is_read_while_the_other_is_computed_from():
    speeds = Speeds(1, 1, memory_gbps=1, link_gbps=1, disk_gbps=1)
    assert timing.pass_seconds(component(*["direct"] * 6), 1.0, speeds, on_cpu=True) == pytest.approx(6)
    assert timing.pass_seconds(component(*["direct"] * 6, slots=1), 1.0, speeds, on_cpu=True) == pytest.approx(12)
