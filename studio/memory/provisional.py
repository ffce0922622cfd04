"""A plan by mode alone, until the planner is there."""

from studio.memory.networks import StreamedNetwork
from studio.memory.plan import Budgets, ComponentPlan, Plan, VideoShape


def component_plan(network: StreamedNetwork, kind: str) -> ComponentPlan:
    slots = 0 if kind == "resident" else min(2, network.units)
    resident = tuple(range(network.units)) if kind == "resident" else ()
    return ComponentPlan(
        resident, slots, (kind,) * network.units, network.layout.nbytes, network.rest_bytes, network.scratch_bytes
    )


def make_plan(
    transformer: StreamedNetwork, step_llm: StreamedNetwork, video: VideoShape, budgets: Budgets, offload: str
) -> Plan:
    kind = {"none": "resident", "blocks": "pinned", "disk": "direct", "auto": "resident"}[offload]
    if offload == "auto" and transformer.layout.nbytes * transformer.units > budgets.ram_bytes // 2:
        kind = "cached"
    return Plan(
        video, component_plan(transformer, kind), component_plan(step_llm, "cached"), 1, 0, 0, 0.0, True, "", {}
    )


def step_down(plan: Plan) -> Plan | None:
    return None
