"""Estimates: the speeds they follow from, what they say where nothing fits, and what they learn from jobs."""

import pytest

from studio.config import load_models, load_studio
from studio.engine import EngineOptions, open_engine
from studio.errors import StudioError, say
from studio.estimate import page_estimate
from studio.memory import speeds
from studio.memory.speeds import DiskSpeed
from studio.pipeline import video_shape
from studio.settings import GenerationSettings


def test_an_engine_plans_with_the_disk_of_its_weights(open_tiny, model_dir, monkeypatch):
    monkeypatch.setattr(speeds, "PART_SECONDS", 0.01)

    def read(cache, weights):
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
        engine.memory.require(video_shape(settings))
    assert plan["remedy"]["en"] in str(refused.value)
    assert plan["remedy"]["zh"] in say(refused.value.code, refused.value.values, "zh")
