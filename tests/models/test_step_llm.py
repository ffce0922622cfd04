"""Step-LLM: the recorded output, causality, and what padding must not change."""

import pytest
import torch

from models.step_llm import Layer, StepLLM, StepLLMParams, alibi_slopes, slopes_on, sqrt_alibi
from tests.golden.rule import PARITY, fill, golden, relative_error

ROUNDING = {torch.float64: 1e-12, torch.float32: 5e-6}
PAD = 2


def _network(dtype=torch.float32):
    return fill(StepLLM(StepLLMParams.from_config(PARITY["step_llm"])), PARITY["step_llm_keys"]).to(dtype)


@torch.no_grad()
def test_every_recorded_tensor_is_reproduced():
    recorded = golden("step_llm")
    assert set(recorded) == {"input_ids", "output"}
    assert relative_error(_network()(recorded["input_ids"]), recorded["output"]) <= 1e-5


@torch.no_grad()
def test_valid_tokens_alone_equal_the_padded_text():
    for dtype, rounding in ROUNDING.items():
        network = _network(dtype)
        for valid in (1, 2, 13):
            ids = golden("step_llm")["input_ids"][:1].clone()
            ids[:, valid:] = PAD
            padded, alone = network(ids)[:, :valid], network(ids[:, :valid])
            assert relative_error(alone, padded) <= rounding, (dtype, valid)


@torch.no_grad()
def test_a_token_changes_itself_and_what_follows_only():
    network, ids = _network(torch.float64), golden("step_llm")["input_ids"][:1].clone()
    before = network(ids)
    ids[0, 7] = (ids[0, 7] + 1) % 128
    changed = (network(ids) != before).any(-1)[0]
    assert changed.tolist() == [i >= 7 for i in range(20)]


@torch.no_grad()
def test_layer_by_layer_is_the_network_and_a_layer_stands_alone():
    network, ids = _network(), golden("step_llm")["input_ids"]
    x = network.embed(ids)
    for layer in network.transformer.layers:
        with torch.device("meta"):
            slot = Layer(network.params)
        slot.load_state_dict(layer.state_dict(), assign=True)
        x = slot(x)
    assert torch.equal(x, network(ids))


@torch.no_grad()
def test_bfloat16_stays_close():
    output = _network(torch.bfloat16)(golden("step_llm")["input_ids"])
    assert output.dtype == torch.bfloat16
    assert relative_error(output, golden("step_llm")["output"]) <= 2e-2  # 1.4e-2 measured


def test_slopes_of_the_public_model():
    slopes = alibi_slopes(48)
    assert len(slopes) == 48
    assert slopes[:2] == pytest.approx([0.8409, 0.7071], abs=1e-4) and slopes[31] == 0.00390625
    assert slopes[32:34] == pytest.approx([0.9170, 0.7711], abs=1e-4) and slopes[47] == pytest.approx(0.0682, abs=1e-4)


def test_slopes_are_distinct_and_below_one_for_any_head_count():
    for heads in (1, 2, 3, 6, 8, 12):
        slopes = alibi_slopes(heads)
        assert len(set(slopes)) == heads and all(0 < slope < 1 for slope in slopes), heads


def test_slopes_on_a_device_are_the_same_numbers():
    for heads in range(1, 129):
        assert torch.equal(slopes_on(heads, None), torch.tensor(alibi_slopes(heads))), heads


def test_bias_is_the_root_of_the_distance_in_float32():
    bias = sqrt_alibi(2, 10)
    assert bias.dtype == torch.float32 and bias.shape == (2, 10, 10)
    assert bias[0, 9, 0] == -3 * alibi_slopes(2)[0] and bias[1, 5, 1] == -2 * alibi_slopes(2)[1]
    assert not bias.triu().any()


def test_impossible_configs_are_refused():
    for change in ({"num_attention_groups": 4}, {"hidden_size": 97}):
        with pytest.raises(ValueError, match="divide"):
            StepLLMParams.from_config(PARITY["step_llm"] | change)
    config = dict(PARITY["step_llm"])
    del config["ffn_hidden_size"]
    with pytest.raises(ValueError, match="ffn_hidden_size"):
        StepLLMParams.from_config(config)
