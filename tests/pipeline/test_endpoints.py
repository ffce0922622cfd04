"""Endpoints of plans: the recipe's own bits, each computed once, and nothing of another model or program."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch

from studio.errors import Cancelled
from studio.media import crop_image
from studio.pipeline.endpoints import Endpoints, distance
from studio.pipeline.evaluation_plan import Rule, plan_of
from tests.pipeline.test_generate import PICTURE, final_latents, make_request, run

PLAN = Rule(5, 13.0, 0.8).plan(9.0)


@dataclasses.dataclass
class Passes:
    """Counts passes: computed and known."""

    computed: int = 0
    known: int = 0

    def __call__(self, count, known):
        self.known += count * known
        self.computed += count * (not known)


def test_an_endpoint_has_the_bits_of_a_video_and_is_computed_once(open_tiny, tmp_path):
    engine = open_tiny("step-video-ti2v")
    request = make_request(engine, tmp_path, infer_steps=3)
    run(request, engine)
    picture = crop_image(PICTURE, request.settings.height, request.settings.width)
    plan = plan_of(request.settings)
    for computed, known in ((6, 0), (0, 6)):
        passes = Passes()
        subject = Endpoints(engine, tmp_path / "ends", on_passes=passes).of(request.settings, picture)
        assert torch.equal(subject.end(plan).latents, final_latents(request))
        assert (passes.computed, passes.known) == (computed, known)


def test_a_stopped_plan_goes_on_from_its_last_step_with_the_same_bits(open_tiny, tmp_path):
    engine = open_tiny("step-video-t2v")
    settings = make_request(engine, tmp_path).settings
    whole = Endpoints(engine, tmp_path / "whole").of(settings).end(PLAN)
    passes = Passes()
    stopped = Endpoints(engine, tmp_path / "stopped", lambda: passes.computed >= 4, passes)
    with pytest.raises(Cancelled):
        stopped.of(settings).end(PLAN)
    rest = Passes()
    again = Endpoints(engine, tmp_path / "stopped", on_passes=rest).of(settings).end(PLAN)
    assert torch.equal(again.latents, whole.latents)
    assert (rest.known, rest.computed) == (4, 6)


def test_another_model_program_or_damaged_file_counts_for_nothing(open_tiny, tmp_path):
    engine = open_tiny("step-video-t2v")
    settings = make_request(engine, tmp_path).settings
    plan = Rule(2, 13.0, 0.8).plan(1.0)

    def passes_of(engine, settings=settings):
        passes = Passes()
        Endpoints(engine, tmp_path / "ends", on_passes=passes).of(settings).end(plan)
        return passes.computed

    assert [passes_of(engine), passes_of(engine)] == [2, 0]
    assert passes_of(engine, dataclasses.replace(settings, seed=6)) == 2
    for name in ("model_fingerprint", "version", "dtype"):
        other = dataclasses.replace(engine, provenance={**engine.provenance, name: "another"})
        assert passes_of(other) == 2
    for file in (tmp_path / "ends").glob("*/latents.safetensors"):
        file.write_bytes(b"damaged")
    assert passes_of(engine) == 2
    shutil.rmtree(tmp_path / "ends")
    assert passes_of(engine) == 2


def test_distance_is_relative_to_the_references_spread():
    reference = torch.from_numpy(np.random.default_rng(1).standard_normal((1, 3, 4, 4, 4)).astype(np.float32)) * 5
    assert distance(reference, reference) == 0
    assert distance(reference + 0.5 * reference.std(), reference) == pytest.approx(0.5, rel=1e-5)
