"""The modes through the whole pipeline: what the file says of its plan, resuming at every step, making it again."""

import dataclasses
import json

import pytest
import torch

from studio.errors import Cancelled
from studio.events import PhaseStarted, Progress
from studio.pipeline.evaluation_plan import EvaluationPlan, Node, plan_of
from studio.pipeline.generate import generate
from studio.pipeline.latents_file import read_latents
from studio.pipeline.rerun import rerun_plan
from studio.settings import Speed
from tests.pipeline.test_generate import final_latents, make_request, run


@pytest.mark.parametrize("speed", ["fast", "draft"])
def test_a_run_stopped_at_any_step_resumes_with_the_same_bits(open_tiny, tmp_path, speed):
    engine = open_tiny("step-video-t2v")
    whole = make_request(engine, tmp_path, "whole", infer_steps=8, speed=speed)
    run(whole, engine)
    steps = len(plan_of(whole.settings).nodes)
    for stop_after in range(steps):
        request = make_request(engine, tmp_path, f"stopped{stop_after}", infer_steps=8, speed=speed)
        done, phases = [], []

        def emit(event, done=done, phases=phases):
            if isinstance(event, PhaseStarted):
                phases.append(event.phase)
            elif isinstance(event, Progress) and event.phase == "denoise":
                done.append(event.step)

        def cancelled(done=done, phases=phases, stop_after=stop_after):
            return phases[-1:] == ["denoise"] and len(done) >= stop_after

        with pytest.raises(Cancelled):
            generate(request, engine, emit, cancelled)
        saved = read_latents(request.workdir / "latents.safetensors").state
        assert saved.step == stop_after and (saved.velocity is not None) == (stop_after > 0)
        run(request, engine)
        assert torch.equal(final_latents(request), final_latents(whole))


def test_the_file_tells_the_plan_and_another_run_repeats_it(open_tiny, tmp_path):
    engine = open_tiny("step-video-t2v")
    plan = EvaluationPlan(Speed.FAST, (Node(0.0, 4.0), Node(0.3, 1.0), Node(0.7, 2.0)), 0.5, calibrated=True)
    request = dataclasses.replace(make_request(engine, tmp_path, "first", speed="fast"), plan=plan)
    run(request, engine)
    record = json.loads((tmp_path / "first.json").read_text())
    assert record["forwards"] == {"conditional": 3, "unconditional": 2}
    assert record["seconds_per_pass"] > 0 and record["velocity_growths"] == 0
    again = make_request(engine, tmp_path, "again", speed="fast")
    assert rerun_plan(record, again.settings) == plan
    run(dataclasses.replace(again, plan=rerun_plan(record, again.settings)), engine)
    assert torch.equal(final_latents(request), final_latents(again))
    assert rerun_plan(record, dataclasses.replace(again.settings, infer_steps=9)) is None


def test_unguided_plans_read_no_negative_prompt(open_tiny, tmp_path):
    engine = open_tiny("step-video-t2v")
    request = make_request(engine, tmp_path, "alone", cfg_scale=1.0, speed="fast")
    run(request, engine)
    record = json.loads((tmp_path / "alone.json").read_text())
    assert record["forwards"]["unconditional"] == 0
