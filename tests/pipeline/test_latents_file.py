"""Latents on disk: what was saved is read back, and nothing else is."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from studio.config import load_models
from studio.errors import InputError
from studio.filenames import LATENTS
from studio.pipeline.evaluation_plan import Rule
from studio.pipeline.latents_file import read_latents, resume_plan, resume_point, save_latents
from studio.pipeline.sampler import SamplerState
from studio.settings import GenerationSettings

SETTINGS = GenerationSettings("nano", "一只猫", num_frames=17, height=64, width=96, seed=1).resolve(
    load_models()["nano"]
)
SHAPE = SETTINGS.video_shape.latent_shape(4)
STATE = SamplerState(torch.randn(SHAPE), 3, velocity=torch.randn(SHAPE), growths=1)


def test_a_state_is_read_back_bit_for_bit(tmp_path):
    for state in (STATE, SamplerState(torch.randn(SHAPE), 5)):
        found = read_latents(save_latents(tmp_path, state, SETTINGS, {"torch": "2", "plan": [1, 2.5]}))
        assert torch.equal(found.state.latents, state.latents)
        assert (found.state.velocity is None) == (state.velocity is None)
        assert state.velocity is None or torch.equal(found.state.velocity, state.velocity)
        assert (found.state.step, found.state.growths) == (state.step, state.growths)
        assert found.settings == SETTINGS and found.provenance == {"torch": "2", "plan": [1, 2.5]}


def test_only_the_same_request_resumes(tmp_path):
    save_latents(tmp_path, STATE, SETTINGS, {"torch": "2"})
    assert resume_point(tmp_path, replace(SETTINGS, first_image="elsewhere.png"), {"torch": "2"}).step == 3
    assert resume_point(tmp_path, replace(SETTINGS, seed=2), {"torch": "2"}) is None
    assert resume_point(tmp_path, SETTINGS, {"torch": "3"}) is None
    assert resume_point(tmp_path / "absent", SETTINGS, {"torch": "2"}) is None


def test_a_plan_is_gone_on_with_on_the_same_model_alone(tmp_path):
    plan = Rule(14, 5.0, 0.8).plan(4.0, calibrated=True)
    told = {"plan": plan.to_dict(), "model_fingerprint": "ab"}
    save_latents(tmp_path, STATE, SETTINGS, told)
    assert resume_plan(tmp_path, replace(SETTINGS, first_image="elsewhere.png"), "ab") == plan
    assert resume_plan(tmp_path, SETTINGS, "cd") is None, "it was calibrated on other weights"
    assert resume_plan(tmp_path, replace(SETTINGS, seed=2), "ab") is None
    for wrong in ({"plan": told["plan"]}, {**told, "plan": 3}, {"model_fingerprint": "ab"}):
        save_latents(tmp_path, STATE, SETTINGS, wrong)
        assert resume_plan(tmp_path, SETTINGS, "ab") is None


def test_what_are_no_latents_is_a_sentence(tmp_path):
    path = tmp_path / LATENTS
    whole = save_latents(tmp_path, STATE, SETTINGS, {}).read_bytes()
    for content in (b"", b"{}", whole[:100], whole[:-10], b"\xff" * 100):
        path.write_bytes(content)
        with pytest.raises(InputError, match="holds no latents"):
            read_latents(path)
    metadata = {"settings": SETTINGS.to_json(), "step": "1", "provenance": "{}"}
    wrong = [{**metadata, "step": "one"}, {**metadata, "provenance": "{"}, {}, {"step": "1"}]
    wrong += [{**metadata, "provenance": "[]"}, {**metadata, "step": "-1"}, {**metadata, "growths": "x"}]
    tensors = [{"latents": STATE.latents[0]}, {"latents": STATE.latents[:, :1]}, {"other": STATE.latents}]
    tensors += [{"latents": STATE.latents.double()}, {"latents": torch.full(SHAPE, torch.inf)}]
    tensors += [{"latents": STATE.latents, "velocity": STATE.latents[:, :, :1]}]
    cases = [({"latents": STATE.latents.clone()}, notes) for notes in wrong]
    cases += [({name: tensor.clone() for name, tensor in found.items()}, metadata) for found in tensors]
    for found, notes in cases:
        save_file(found, path, notes)
        with pytest.raises(InputError, match="holds no latents"):
            read_latents(path)
