"""The sampler's time grid against the recorded ones, and its step."""

import pytest
import torch

from models.scheduler import FlowMatchScheduler
from tests.golden.rule import golden, relative_error


def test_every_recorded_schedule_is_reproduced():
    recorded = golden("schedule")
    assert recorded
    for name, wanted in recorded.items():
        steps, shift = name.removeprefix("steps").split("_shift")
        times = FlowMatchScheduler(int(steps), float(shift)).times
        assert times.dtype == torch.float32 and times[0] == 0 and times[-1] == 1, name
        assert relative_error(times, wanted) <= 1e-6, name


def test_times_rise():
    for shift in (0.5, 1.0, 13.0, 100.0):
        assert (FlowMatchScheduler(40, shift).times.diff() > 0).all(), shift


def test_no_shift_means_equal_steps():
    torch.testing.assert_close(FlowMatchScheduler(4, 1.0).times, torch.tensor([0, 0.25, 0.5, 0.75, 1]))


def test_a_straight_flow_arrives_in_any_number_of_steps():
    noise, data = torch.randn(2, 1, 3, 4, generator=torch.Generator().manual_seed(0)).double()
    for steps in (1, 3, 50):
        scheduler, latents = FlowMatchScheduler(steps, 13.0), noise
        for i in range(steps):
            latents = scheduler.step(data - noise, latents, i)
        torch.testing.assert_close(latents, data.float(), rtol=0, atol=2e-6)


def test_a_step_computes_in_float32():
    scheduler = FlowMatchScheduler(2, 1.0)
    stepped = scheduler.step(torch.full((1,), 2**-9).bfloat16(), torch.ones(1), 0)
    assert stepped.dtype == torch.float32 and stepped.item() == 1 + 2**-10


def test_impossible_schedules_are_refused():
    for steps, shift in ((0, 13.0), (5, 0.0), (5, -1.0)):
        with pytest.raises(ValueError, match="at least one step"):
            FlowMatchScheduler(steps, shift)
