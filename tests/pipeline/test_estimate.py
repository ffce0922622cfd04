"""Estimates: the speeds they follow from, what they say where nothing fits, and what they learn from jobs."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from studio.config import ROOT, load_models, load_studio
from studio.errors import StudioError
from studio.memory.planning import speeds
from studio.memory.planning.speeds import ASSUMED, DiskSpeed
from studio.messages import message
from studio.pipeline import estimate
from studio.pipeline.engine import CACHE_FOLDER, EngineOptions, open_engine
from studio.pipeline.estimate import learn, page_estimate
from studio.pipeline.job_times import FILE_NAME
from studio.settings import GenerationSettings

APP = [sys.executable, str(ROOT / "app.py")]


def test_an_engine_plans_with_the_disk_of_its_weights(open_tiny, outputs, model_dir, monkeypatch):
    shutil.rmtree(outputs)  # with the speeds that other tests share
    monkeypatch.setattr(speeds, "PART_SECONDS", 0.01)

    def read(cache, weights, clock):
        return DiskSpeed(6.5 if model_dir in weights.parents else 1.0, speeds.DISK_BYTES)

    monkeypatch.setattr(speeds, "_disk_speed", read)
    assert open_tiny("step-video-t2v").memory.speeds.disk_gbps == 6.5


def test_what_would_fit_is_said_in_both_languages_on_the_page_and_in_english_elsewhere(model_dir, tmp_path):
    model = load_models()["step-video-t2v"]
    config = load_studio(model_dir=str(model_dir), output_dir=str(tmp_path), ram_gb=0.1)
    settings = GenerationSettings(model.name, "x").resolve(model)
    plan = page_estimate(settings, model, config, EngineOptions("cpu"), None)
    assert not plan["fits"] and plan["seconds_total"] is None
    assert "It would fit with" in plan["remedy"]["en"] and "改用" in plan["remedy"]["zh"]
    assert plan["reason"] == plan["remedy"]["en"]
    engine = open_engine(model, False, {}, config, EngineOptions("cpu"))
    with pytest.raises(StudioError) as refused:
        engine.memory.require(settings.video_shape)
    assert plan["remedy"]["en"] in str(refused.value)
    assert plan["remedy"]["zh"] in message(refused.value.code, refused.value.values, "zh")


@pytest.fixture
def made(model_dir, tmp_path, monkeypatch):
    """made(settings...) -> the page's estimate for step-video-t2v, from assumed speeds."""
    for name in ("known_speeds", "machine_speeds"):
        monkeypatch.setattr(estimate, name, lambda *_: ASSUMED["cpu"])
    model = load_models()["step-video-t2v"]
    config = load_studio(model_dir=str(model_dir), output_dir=str(tmp_path), ram_gb=4)

    def estimate_of(*, first: bool = True, **values) -> float:
        settings = GenerationSettings(model.name, "x", **values).resolve(model)
        return page_estimate(settings, model, config, EngineOptions("cpu"), None, first=first)["seconds_total"]

    def learned(seconds, *, first: bool, **values) -> None:
        settings = GenerationSettings(model.name, "x", **values).resolve(model)
        learn(settings, model, config, EngineOptions("cpu"), seconds, first=first)

    estimate_of.learned = learned
    return estimate_of


SMALL = {"num_frames": 17, "height": 64, "width": 96, "infer_steps": 2}


def test_a_first_job_is_told_what_loading_and_starting_take(made):
    """Networks of a few hundred kilobytes: a formula of bytes and products alone would say nothing of it."""
    assert 3 < made(**SMALL) < 12
    assert made(first=False, **SMALL) < made(**SMALL) / 2


def test_finished_jobs_correct_the_next_estimate(made):
    took = {"load": 2.0, "encode_text": 9.0, "encode_image": 0.0, "denoise": 0.3, "decode": 4.0, "write": 0.1}
    for _ in range(2):
        made.learned(took, first=True, **SMALL)
    assert made(**SMALL) == pytest.approx(sum(took.values()), rel=0.1)
    warm = {"load": 0.0, "encode_text": 0.5, "encode_image": 0.0, "denoise": 0.3, "decode": 2.0, "write": 0.1}
    for _ in range(6):
        made.learned(warm, first=False, **SMALL)
    assert made(first=False, **SMALL) == pytest.approx(sum(warm.values()), rel=0.2)
    assert made(**SMALL) == pytest.approx(sum(took.values()), rel=0.1), "the first of a process is another matter"


def test_a_known_prompt_teaches_nothing_about_reading_prompts(made):
    before = made(**SMALL)
    made.learned({"encode_text": 0.01}, first=True, **SMALL)
    assert made(**SMALL) == pytest.approx(before, abs=0.1)  # nothing but the colours of previews, which are there now


@pytest.mark.parametrize(
    "content", ["", "[]", '{"cpu step-video-t2v": 3}', '{"cpu step-video-t2v": {"first": {"load": "x"}}}']
)
def test_a_damaged_file_is_no_knowledge(made, tmp_path, content):
    before = made(**SMALL)
    cache = tmp_path / CACHE_FOLDER
    cache.mkdir(exist_ok=True)
    (cache / FILE_NAME).write_text(content)
    assert made(**SMALL) == before


@pytest.mark.slow
def test_nano_takes_what_was_said_within_a_factor_of_two(tmp_path):
    """As a user does it, from the first job on: each in a process of its own, by the clock on the wall.

    A second try, on a machine that knows nothing again: shared ones stall for seconds.
    """
    if not all(within_a_factor_of_two(tmp_path / "first")):
        assert all(within_a_factor_of_two(tmp_path / "second"))


def within_a_factor_of_two(folder):
    flags = ["--model", "nano", "--output-dir", str(folder)]
    for number in range(3):
        asked = subprocess.run(APP + ["plan", *flags, "--json"], capture_output=True, text=True, check=True)
        said = json.loads(asked.stdout)["seconds_total"]
        words = ["--prompt", f"a red circle, {number}", "--seed", "1"]
        made = subprocess.run(APP + ["generate", *flags, *words], capture_output=True, text=True, check=True)
        took = sum(float(seconds) for seconds in re.findall(r" ([\d.]+) s", made.stdout.splitlines()[-1]))
        print(f"job {number}: {said:.1f} s were foretold, it took {took:.1f} s")
        yield said / 2 < took < said * 2
