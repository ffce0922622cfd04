"""The flow: every recorded intermediate, what depends on what, the public sizes."""

import math
from dataclasses import replace

import pytest
import torch

from models import conformer
from models.conformer import EncoderParams
from models.flow import STEPS, Condition, Flow, FlowParams, flow_noise, times
from models.flow_unet import UNetParams
from tests.golden.audio.rule import PARITY, fill, golden, normal
from tests.golden.rule import relative_error

CONFIG, CASES = PARITY["flow"]["config"], PARITY["flow"]["cases"]
ENCODER, UNET = CONFIG["encoder"], CONFIG["estimator"]
PARAMS = FlowParams(
    width=CONFIG["input_size"],
    mel_channels=CONFIG["output_size"],
    speaker_width=CONFIG["spk_embed_dim"],
    vocabulary=CONFIG["vocab_size"],
    codes_per_second=CONFIG["input_frame_rate"],
    guidance=CONFIG["cfm"]["inference_cfg_rate"],
    encoder=EncoderParams(
        width=ENCODER["output_size"],
        heads=ENCODER["attention_heads"],
        ffn_width=ENCODER["linear_units"],
        layers=ENCODER["num_blocks"],
    ),
    unet=UNetParams(
        in_channels=UNET["in_channels"],
        out_channels=UNET["out_channels"],
        channels=tuple(UNET["channels"]),
        heads=UNET["num_heads"],
        head_dim=UNET["attention_head_dim"],
        blocks=UNET["n_blocks"],
        mid_blocks=UNET["num_mid_blocks"],
    ),
)


@pytest.fixture(scope="module")
def flow():
    return fill(Flow(PARAMS), PARITY["flow"]["keys"])


def _inputs(flow, name):
    """codes, prompt codes, prompt mel, embedding, noise of a recorded case."""
    recorded, case = golden("flow"), CASES[name]
    prompt_frames = flow.frames(case["prompt_tokens"]) + (name == "clone_odd")
    frames = prompt_frames + flow.frames(case["tokens"])
    return (
        recorded[f"{name}.token"],
        recorded.get(f"{name}.prompt_token", torch.zeros(1, 0, dtype=torch.int64)),
        normal(f"{name}.prompt_feat", (1, prompt_frames, 16)),
        normal(f"{name}.embedding", (1, 24)),
        normal(f"{name}.noise", (1, 16, frames)),
    )


class Watched(Flow):
    """A flow that keeps what its velocity was asked and answered."""

    def velocity(self, x, time, condition):
        self.asked = [*getattr(self, "asked", []), (time, super().velocity(x, time, condition))]
        return self.asked[-1][1]


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_every_recorded_tensor_is_reproduced(name):
    flow = fill(Watched(PARAMS), PARITY["flow"]["keys"])
    recorded = {
        key.removeprefix(f"{name}."): value for key, value in golden("flow").items() if key.startswith(f"{name}.")
    }
    codes, prompt_codes, prompt_mel, embedding, noise = _inputs(flow, name)
    condition = flow.condition(codes, prompt_codes, prompt_mel, embedding)
    found = {
        "encoder": flow.encode(torch.cat((prompt_codes, codes), dim=1)),
        "mu": condition.mu,
        "speaker": condition.speaker,
        "mel": flow(codes, prompt_codes, prompt_mel, embedding, noise),
    }
    assert len(flow.asked) == STEPS == 10
    found["times"] = torch.tensor([time for time, _ in flow.asked])
    found["velocity_0"], found["velocity_9"] = flow.asked[0][1], flow.asked[9][1]
    for key, tensor in found.items():
        assert relative_error(tensor, recorded[key]) <= 1e-5, key
    assert set(recorded) - {"token", "prompt_token"} == set(found)


def test_the_recorded_cases_are_all():
    assert {name.split(".")[0] for name in golden("flow")} == set(CASES)


def test_times_linger_near_the_noise():
    grid = times()
    assert grid[0] == 0 and grid[-1] == pytest.approx(1) and len(grid) == STEPS + 1
    assert all(later - earlier > 0 for earlier, later in zip(grid, grid[1:], strict=False))
    assert grid[1] == pytest.approx(1 - math.cos(math.pi / 20), abs=1e-7)


def test_frames_of_codes(flow, subtests):
    """0.12 s for five codes, 22,050 / 256 frames a second, rounded down."""
    for codes, frames in [(5, 10), (340, 702), (8000, 16537)]:
        with subtests.test(codes=codes, frames=frames):
            assert flow.frames(codes) == frames == int(codes / 5 * 0.12 * 22050 / 256 + 1e-9)


@torch.no_grad()
def test_seeds_decide(flow):
    condition = flow.condition(*_inputs(flow, "no_prompt")[:4])
    noises = [flow_noise(torch.Generator().manual_seed(seed), condition) for seed in (1, 1, 2)]
    first, again, other = (list(flow.solve(condition, noise))[-1] for noise in noises)
    assert torch.equal(first, again) and relative_error(other, first) > 0.1


@torch.no_grad()
def test_guidance_is_away_from_the_unconditional_velocity():
    """One step by hand, and guidance 0 does not depend on the unconditional velocity at all."""
    flow = fill(Flow(replace(PARAMS, guidance=0.0)), PARITY["flow"]["keys"])
    *inputs, noise = _inputs(flow, "clone")
    condition = flow.condition(*inputs)
    conditional = flow.velocity(noise, 0.0, condition)[:1]
    assert relative_error(next(flow.solve(condition, noise)), noise + times()[1] * conditional) <= 1e-6


@torch.no_grad()
def test_the_unconditional_velocity_knows_nothing_of_the_voice(flow):
    *inputs, noise = _inputs(flow, "clone")
    one = flow.velocity(noise, 0.3, flow.condition(*inputs))
    other = flow.velocity(noise, 0.3, flow.condition(inputs[0].flip(1), *inputs[1:3], -inputs[3]))
    assert relative_error(other[1:], one[1:]) <= 1e-6 and relative_error(other[:1], one[:1]) > 1e-3


@torch.no_grad()
def test_the_prompts_mel_stands_in_its_frames_alone(flow):
    condition = Condition(torch.ones(1, 16, 9), torch.full((1, 16), 2.0), torch.full((1, 16, 4), 3.0))
    mu, speaker, prompt = condition.channels.split(16, dim=1)
    assert (mu == 1).all() and (speaker == 2).all() and (prompt[:, :, :4] == 3).all() and not prompt[:, :, 4:].any()


@torch.no_grad()
def test_only_the_direction_of_the_embedding_counts(flow):
    *inputs, embedding = _inputs(flow, "clone")[:4]
    one, other = flow.condition(*inputs, embedding), flow.condition(*inputs, 5 * embedding)
    assert relative_error(other.speaker, one.speaker) <= 1e-6


@torch.no_grad()
def test_long_texts_attend_in_chunks_to_the_same_result(flow, monkeypatch):
    codes = normal("chunked", (1, 60)).mul(30).long() % 61
    whole = flow.encode(codes)
    monkeypatch.setattr(conformer, "QUERY_CHUNK", 7)
    assert relative_error(flow.encode(codes), whole) <= 1e-6


@torch.no_grad()
def test_bfloat16_weights_keep_a_float32_state():
    half = fill(Flow(PARAMS), PARITY["flow"]["keys"]).bfloat16()
    *inputs, noise = _inputs(half, "clone")
    mel = half(*inputs, noise)
    assert mel.dtype == torch.float32
    assert relative_error(mel, golden("flow")["clone.mel"]) <= 1e-2


def test_parts_that_belong_together(flow, subtests):
    for n_codes, n_prompt, n_mel, word in [
        (0, 5, 10, "0 codes"),
        (5, 0, 10, "0 of the prompt"),
        (5, 5, 0, "0 of its mel"),
    ]:
        with subtests.test(n_codes=n_codes, n_prompt=n_prompt, n_mel=n_mel, word=word):
            codes = [torch.zeros(1, n, dtype=torch.int64) for n in (n_codes, n_prompt)]
            with pytest.raises(ValueError, match=word):
                flow.condition(*codes, torch.zeros(1, n_mel, 16), torch.ones(1, 24))


def test_codes_without_a_row_are_refused(flow, subtests):
    for code in [-1, 61]:
        with subtests.test(code=code):
            with pytest.raises(ValueError, match=f"0 to 60; there are .*{code}"):
                flow.encode(torch.tensor([[3, code]]))


def test_sizes_that_do_not_fit_together_are_refused():
    with pytest.raises(ValueError, match="input_frame_rate is 50"):
        replace(PARAMS, codes_per_second=50.0)
    with pytest.raises(ValueError, match="takes 64 .*have 20 each"):
        replace(PARAMS, mel_channels=20)
    with pytest.raises(ValueError, match="do not divide"):
        replace(PARAMS, encoder=EncoderParams(36, 8, 64, 2))


def test_public_sizes():
    """1,185 tensors; parts of the size that the public classes have at CosyVoice-300M's settings."""
    with torch.device("meta"):
        flow = Flow(FlowParams())
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in flow.named_children()}
    assert len(flow.state_dict()) == 1185 and sum(parts.values()) == 105_399_552
    assert parts["encoder"] == 20_758_016 and parts["length_regulator"] == 84_240
    assert parts["input_embedding"] == 5121 * 512 and parts["decoder"] == 81_878_864
