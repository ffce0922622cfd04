"""The denoising loop, with a small function in the network's place."""

import hashlib
import math

import pytest
import torch

from models.geometry import VideoShape
from models.scheduler import FlowMatchScheduler
from studio.errors import Cancelled, StudioError
from studio.pipeline.evaluation_plan import EvaluationPlan, Node, make_plan
from studio.pipeline.sampler import GROWTH_BOUND, SamplerState, denoise, guide, noise
from studio.settings import GuidanceSchedule, Speed

VIDEO = VideoShape(17, 64, 96)
GOLDEN_NOISE = "b77cacd55a58139dcad639a76b10d438d32a1223ad7270290af8f8e27f6def7e"
PLAN = make_plan(6, 3.0, 4.0)
PLANS = [PLAN, make_plan(20, 3.0, 4.0, Speed.FAST), make_plan(40, 13.0, 9.0, Speed.DRAFT)]
PLANS.append(make_plan(10, 17.0, 5.0, schedule=GuidanceSchedule.FALLING))


def passes(latents, node):
    found = [torch.sin(latents) + node.time, torch.cos(latents) * node.time]
    return found[: node.passes]


def start():
    return SamplerState(noise(VIDEO, 4, 1), 0)


def test_noise_is_the_same_on_every_machine():
    drawn = noise(VIDEO, 4, 42)
    assert drawn.shape == (1, 3, 4, 4, 6) and drawn.dtype == torch.float32
    assert hashlib.sha256(drawn.numpy().tobytes()).hexdigest() == GOLDEN_NOISE


def test_guidance_takes_two_passes_and_none_one():
    asked = []

    def noted(latents, node):
        asked.append(node.passes)
        return passes(latents, node)

    list(denoise(start(), PLANS[-1], noted))
    assert asked == [2] * 7 + [1] * 3
    conditional, unconditional = torch.tensor([3.0]), torch.tensor([1.0])
    assert guide([conditional, unconditional], 9.0).item() == 1 + 9 * 2
    assert guide([conditional], 1.0) is conditional


def test_exact_steps_are_the_official_eulers_bits():
    scheduler, latents = FlowMatchScheduler(6, 3.0), noise(VIDEO, 4, 1)
    for index, step in enumerate(denoise(start(), PLAN, passes)):
        time = float(scheduler.times[index])
        velocity = guide(passes(latents, Node(time, 4.0)), 4.0)
        assert torch.equal(step.clean_estimate(), latents + (1 - time) * velocity)
        latents = scheduler.step(velocity, latents, index)
        assert torch.equal(step.state.latents, latents) and step.state.velocity is None
    assert step.state.step == 6


def test_steps_of_second_order_come_closer_to_the_solution():
    def end(plan):
        *_, last = denoise(start(), plan, passes)
        return last.state.latents

    shift = 13.0  # with less, fast keeps these nodes (the end is the same) and Euler's own are better ones
    truth = end(make_plan(200, shift, 4.0, Speed.FAST))
    errors = {speed: float((end(make_plan(40, shift, 4.0, speed)) - truth).norm()) for speed in Speed}
    assert errors[Speed.FAST] < errors[Speed.EXACT] / 2
    assert len(make_plan(40, shift, 4.0, Speed.FAST).nodes) < 40


def test_a_run_that_goes_on_from_any_step_has_the_same_bits():
    for plan in PLANS:
        states = [start(), *(step.state for step in denoise(start(), plan, passes))]
        for state in states:
            rest = [step.state for step in denoise(state, plan, passes)]
            assert [s.step for s in rest] == list(range(state.step + 1, len(plan.nodes) + 1))
            assert torch.equal((rest or [state])[-1].latents, states[-1].latents)


def test_a_velocity_that_grows_makes_an_euler_step_and_is_counted():
    plan = EvaluationPlan(Speed.FAST, tuple(Node(i / 6, 1.0) for i in range(6)), 1.0)
    latents = torch.zeros(1, 1, 1, 1, 1)
    sizes = [1.0, 1.0, 2 * GROWTH_BOUND, 2 * GROWTH_BOUND, 5 * GROWTH_BOUND**2, 0.1]
    steps = list(
        denoise(SamplerState(latents, 0), plan, lambda x, node: [torch.full_like(x, sizes[round(node.time * 6)])])
    )
    assert [step.growth is not None for step in steps] == [False, False, True, False, True, False]
    assert [step.state.growths for step in steps] == [0, 0, 1, 1, 2, 2]
    for i in (2, 4):
        moved = steps[i].state.latents - steps[i].latents
        assert moved.item() == pytest.approx(sizes[i] / 6, rel=1e-5)


def test_latents_that_are_not_finite_are_never_yielded():
    def spoilt(latents, node):
        found = passes(latents, node)
        found[0][0, 0, 0, 0, 0] = math.nan if node.time == PLAN.nodes[3].time else 1.0
        return found

    done = []
    with pytest.raises(StudioError) as caught:
        for step in denoise(start(), PLAN, spoilt):
            done.append(step.state.step)
    assert done == [1, 2, 3]
    assert caught.value.code == "latents_not_finite" and caught.value.values["step"] == 4


def test_a_pass_that_is_cancelled_ends_the_loop_between_steps():
    def cancelled_at_the_third(latents, node):
        if node.time == PLAN.nodes[2].time:
            raise Cancelled
        return passes(latents, node)

    done = []
    with pytest.raises(Cancelled):
        for step in denoise(start(), PLAN, cancelled_at_the_third):
            done.append(step.state.step)
    assert done == [1, 2]
