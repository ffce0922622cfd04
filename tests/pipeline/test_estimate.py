"""Estimates: the speeds they follow from, what they say where nothing fits, and what they learn from jobs."""

import shutil
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.nn.modules.module import register_module_module_registration_hook

from studio.config import load_models, load_studio
from studio.errors import StudioError
from studio.memory.plan import WeightMode
from studio.memory.planning import planner, speeds
from studio.memory.planning.speeds import ASSUMED, DiskSpeed, remember
from studio.messages import message
from studio.pipeline.engine import CACHE_FOLDER, EngineOptions, open_engine
from studio.pipeline.estimate import Estimator
from studio.pipeline.job_times import FILE_NAME
from studio.settings import GenerationSettings

MODEL = load_models()["step-video-t2v"]
SMALL = {"num_frames": 17, "height": 64, "width": 96, "infer_steps": 2}


def test_an_engine_plans_with_the_disk_of_its_weights(open_tiny, outputs, model_dir, monkeypatch):
    shutil.rmtree(outputs)  # with the speeds that other tests share
    monkeypatch.setattr(speeds, "PART_SECONDS", 0.01)

    def read(cache, weights, clock):
        return DiskSpeed(6.5 if model_dir in weights.parents else 1.0, speeds.DISK_BYTES)

    monkeypatch.setattr(speeds, "_disk_speed", read)
    assert open_tiny("step-video-t2v").memory.speeds.disk_gbps == 6.5


def test_what_would_fit_is_said_in_both_languages_on_the_page_and_in_english_elsewhere(model_dir, outputs):
    config = load_studio(model_dir=str(model_dir), output_dir=str(outputs), ram_gb=0.1)
    settings = GenerationSettings(MODEL.name, "x").resolve(MODEL)
    plan = Estimator(config, EngineOptions("cpu")).for_page(settings, MODEL)
    assert not plan["fits"] and plan["seconds_total"] is None
    assert "It would fit with" in plan["remedy"]["en"] and "改用" in plan["remedy"]["zh"]
    assert plan["reason"] == plan["remedy"]["en"]
    engine = open_engine(MODEL, False, {}, config, EngineOptions("cpu"))
    with pytest.raises(StudioError) as refused:
        engine.memory.require(settings.video_shape)
    assert plan["remedy"]["en"] in str(refused.value)
    assert plan["remedy"]["zh"] in message(refused.value.code, refused.value.values, "zh")


class Jobs:
    """Estimates of step-video-t2v's jobs at tiny sizes, from assumed speeds."""

    def __init__(self, model_dir, outputs):
        self.config = load_studio(model_dir=str(model_dir), output_dir=str(outputs), ram_gb=4)
        found = Estimator(self.config, EngineOptions("cpu")).machine_speeds(MODEL)
        self.speeds = replace(ASSUMED["cpu"], disk=found.disk)  # of the device and of this disk
        remember(outputs / CACHE_FOLDER, torch.device("cpu"), self.speeds)

    def seconds(self, *, first=True):
        settings = GenerationSettings(MODEL.name, "x", **SMALL).resolve(MODEL)
        return Estimator(self.config, EngineOptions("cpu")).for_page(settings, MODEL, first=first)["seconds_total"]

    def learn(self, seconds, *, first):
        engine = SimpleNamespace(model=MODEL, memory=SimpleNamespace(speeds=self.speeds))
        settings = GenerationSettings(MODEL.name, "x", **SMALL).resolve(MODEL)
        Estimator(self.config, EngineOptions("cpu")).learn(engine, settings, seconds, first=first)


@pytest.fixture
def jobs(model_dir, outputs):
    return Jobs(model_dir, outputs)


def test_a_first_job_is_told_what_loading_and_starting_take(jobs):
    """Networks of a few hundred kilobytes: a formula of bytes and products alone would say nothing of it."""
    assert 3 < jobs.seconds() < 12
    assert jobs.seconds(first=False) < jobs.seconds() / 2


def test_finished_jobs_correct_the_next_estimate(jobs):
    took = {"load": 2.0, "encode_text": 9.0, "encode_image": 0.0, "denoise": 0.3, "decode": 4.0, "write": 0.1}
    for _ in range(2):
        jobs.learn(took, first=True)
    assert jobs.seconds() == pytest.approx(sum(took.values()), rel=0.1)
    warm = {"load": 0.0, "encode_text": 0.5, "encode_image": 0.0, "denoise": 0.3, "decode": 2.0, "write": 0.1}
    for _ in range(6):
        jobs.learn(warm, first=False)
    assert jobs.seconds(first=False) == pytest.approx(sum(warm.values()), rel=0.2)
    assert jobs.seconds() == pytest.approx(sum(took.values()), rel=0.1), "the first of a process is another matter"


def test_a_known_prompt_teaches_nothing_about_encoding_prompts(jobs):
    before = jobs.seconds()
    jobs.learn({"encode_text": 0.01}, first=True)
    assert jobs.seconds() == pytest.approx(before, abs=0.1)


def test_a_damaged_file_is_no_knowledge(jobs, outputs):
    before = jobs.seconds()
    contents = ["", "[]", '{"cpu step-video-t2v": 3}', '{"cpu step-video-t2v": {"first": {"load": "x"}}}', "\0"]
    for content in contents:
        (outputs / CACHE_FOLDER / FILE_NAME).write_text(content)
        assert jobs.seconds() == before, content


@contextmanager
def counted_modules():
    """A list that grows by every sub-module that any network gains while it is built."""
    built = []
    counting = register_module_module_registration_hook(lambda parent, name, module: built.append(name))
    try:
        yield built
    finally:
        counting.remove()


def edits(model):
    """What a person may change in the form between two estimates."""
    base = GenerationSettings(model.name, "x", first_image="a" if model.takes_image else None)
    sizes = [{"height": height, "width": width} for height, width in model.sizes]
    changes = [{"prompt": "y"}, {"num_frames": 17}, {"infer_steps": 3}, {"cfg_scale": 1.0}, {"seed": 1}, *sizes]
    return [replace(base, **change).resolve(model) for change in changes]


def test_only_the_first_edit_of_a_form_builds_networks(outputs, tmp_path):
    """At public sizes, on a card that is not here: what fits, what does not, and with int8 weights."""
    for weights, vram in ((WeightMode.NONE, 80), (WeightMode.NONE, 2), (WeightMode.INT8, 24)):
        config = load_studio(model_dir=str(tmp_path), output_dir=str(outputs), vram_gb=vram, ram_gb=128)
        estimator = Estimator(config, EngineOptions("cuda", weights=weights))
        for name in ("step-video-t2v", "step-video-ti2v"):
            model = load_models()[name]
            with counted_modules() as built:
                first, *others = (estimator.for_page(settings, model)["fits"] for settings in edits(model)[:2])
                assert built, "the first estimate of a model needs its sizes"
                built.clear()
                others += [estimator.for_page(settings, model)["fits"] for settings in edits(model)]
                assert not built
            assert {first, *others} == {vram > 2}


def test_a_model_that_was_installed_meanwhile_is_estimated_as_it_is(model_dir, outputs, tmp_path):
    settings = GenerationSettings(MODEL.name, "x", **SMALL).resolve(MODEL)
    estimator = Estimator(
        load_studio(model_dir=str(tmp_path), output_dir=str(outputs), ram_gb=64), EngineOptions("cpu")
    )
    public = estimator.for_page(settings, MODEL)["ram_peak_gb"]
    shutil.copytree(model_dir / MODEL.name, tmp_path / MODEL.name)
    assert estimator.for_page(settings, MODEL)["ram_peak_gb"] < public / 2


def test_the_free_vram_is_asked_for_every_two_seconds_and_one_plan_serves_every_speed(outputs, tmp_path, monkeypatch):
    now, asked, planned, plan_run = [0.0], [], [], planner.plan_run
    monkeypatch.setattr(planner, "plan_run", lambda request: planned.append(request.video) or plan_run(request))

    def free_vram_gb():
        asked.append(now[0])
        return 80.0 if len(asked) == 1 else 1.0

    config = load_studio(model_dir=str(tmp_path), output_dir=str(outputs), ram_gb=128)
    estimator = Estimator(config, EngineOptions("cuda"), free_vram_gb=free_vram_gb, clock=lambda: now[0])
    settings, fits = GenerationSettings(MODEL.name, "x").resolve(MODEL), []
    for now[0] in (0.0, 1.0, 2.0, 2.5, 3.0):
        fits.append(estimator.for_page(settings, MODEL)["fits"])
        for speed in ("fast", "draft"):
            estimator.for_page(replace(settings, speed=speed, infer_steps=30, cfg_scale=5.0), MODEL)
    assert asked == [0.0, 2.5] and fits == [True, True, True, False, False]
    assert planned == [settings.video_shape] * 2, "one for each amount of memory"
