"""The denoising loop, with a small function in the network's place."""

import hashlib

import pytest
import torch

from models.geometry import VideoShape
from models.scheduler import FlowMatchScheduler
from studio.errors import Cancelled
from studio.pipeline.sampler import SamplerState, denoise, guide, noise

VIDEO = VideoShape(17, 64, 96)
GOLDEN_NOISE = "b77cacd55a58139dcad639a76b10d438d32a1223ad7270290af8f8e27f6def7e"
SCHEDULER = FlowMatchScheduler(6, 3.0)


def passes(latents, time):
    return [torch.sin(latents) + time, torch.cos(latents) * time]


def test_noise_is_the_same_on_every_machine():
    drawn = noise(VIDEO, 4, 42)
    assert drawn.shape == (1, 3, 4, 4, 6) and drawn.dtype == torch.float32
    assert hashlib.sha256(drawn.numpy().tobytes()).hexdigest() == GOLDEN_NOISE


def test_guidance():
    conditional, unconditional = torch.tensor([3.0]), torch.tensor([1.0])
    assert guide([conditional, unconditional], 9.0).item() == 1 + 9 * 2
    assert guide([conditional], 1.0) is conditional


def test_every_step_is_eulers_and_its_estimate_the_straight_way_to_the_end():
    latents, seen = noise(VIDEO, 4, 1), []
    for step in denoise(SamplerState(latents, 0), SCHEDULER, 4.0, passes):
        time, end = (float(SCHEDULER.times[index]) for index in (len(seen), len(seen) + 1))
        velocity = guide(passes(latents, time), 4.0)
        assert torch.equal(step.clean_estimate(), latents + (1 - time) * velocity)
        latents = latents + velocity * (end - time)
        torch.testing.assert_close(step.state.latents, latents, rtol=1e-6, atol=1e-6)
        latents = step.state.latents
        seen.append(step.state.step)
    assert seen == [1, 2, 3, 4, 5, 6]


def test_a_run_that_goes_on_from_any_step_has_the_same_bits():
    start = SamplerState(noise(VIDEO, 4, 1), 0)
    states = [start, *(step.state for step in denoise(start, SCHEDULER, 4.0, passes))]
    for state in states:
        rest = [step.state for step in denoise(state, SCHEDULER, 4.0, passes)]
        assert [s.step for s in rest] == list(range(state.step + 1, 7))
        assert torch.equal((rest or [state])[-1].latents, states[-1].latents)


def test_a_pass_that_is_cancelled_ends_the_loop_between_steps():
    def cancelled_at_the_third(latents, time):
        if time == float(SCHEDULER.times[2]):
            raise Cancelled
        return passes(latents, time)

    done = []
    with pytest.raises(Cancelled):
        for step in denoise(SamplerState(noise(VIDEO, 4, 1), 0), SCHEDULER, 4.0, cancelled_at_the_third):
            done.append(step.state.step)
    assert done == [1, 2]
