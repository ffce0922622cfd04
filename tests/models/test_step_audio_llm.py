"""The speech LLM: the recorded outputs, decoding with a cache against the whole at once, the public sizes."""

import itertools

import pytest
import torch

from models.quantized import int8_network
from models.step_audio_llm import QUERY_CHUNK, CachedAttention, KVCache, SpeechLayer, StepAudioLLM, StepAudioLLMParams
from models.step_llm import alibi_slopes
from tests.golden.audio.rule import PARITY, fill, golden, normal
from tests.golden.rule import relative_error

CASE = PARITY["step1_llm"]
PARAMS = StepAudioLLMParams.from_config(CASE["config"])
PREFILL = CASE["prefill"]
LAYER = {
    "input_layernorm.weight": (3072,),
    "mlp.down_proj.weight": (3072, 8192),
    "mlp.gate_proj.weight": (8192, 3072),
    "mlp.up_proj.weight": (8192, 3072),
    "post_attention_layernorm.weight": (3072,),
    "self_attn.k_proj.weight": (256, 3072),
    "self_attn.o_proj.weight": (3072, 3072),
    "self_attn.q_proj.weight": (3072, 3072),
    "self_attn.v_proj.weight": (256, 3072),
}


@pytest.fixture(scope="module")
def network():
    return fill(StepAudioLLM(PARAMS), CASE["keys"])


def _cache(capacity=64, batch=1, dtype=torch.float32):
    return KVCache(PARAMS, capacity, batch, dtype)


def _steps(network, ids, sizes, dtype=torch.float32):
    """Logits of ids (b, n), fed in pieces of these sizes."""
    cache = _cache(ids.shape[1], len(ids), dtype)
    return torch.cat([network(piece, cache) for piece in ids.split(sizes, dim=1)], dim=1)


@torch.no_grad()
def test_every_recorded_tensor_is_reproduced(network):
    recorded = golden("step1_llm")
    ids, found = recorded["input_ids"], {}
    cache = _cache(40, batch=2)
    x = network.embed(ids)
    for index, layer in enumerate(network.model.layers):
        x = layer(x, cache, index)
        found[f"layer_{index}"] = x
    found["norm"], found["logits"] = network.model.norm(x), network.head(x)
    one = _steps(network, ids[:1], [PREFILL, *[1] * 15])
    found["incremental_logits"] = one[:, PREFILL - 1 :]
    found["chunk_logits"] = _steps(network, ids[:1], [PREFILL, 15])[:, PREFILL:]
    found["slopes_48"] = torch.tensor(alibi_slopes(48))
    for name, tensor in found.items():
        assert relative_error(tensor, recorded[name]) <= 1e-5, name
    bias, wanted = _cache().bias(0, 12), recorded["bias_12x12_heads12"]
    assert torch.equal(bias.isinf(), wanted.isinf()) and relative_error(bias.tril(), wanted.tril()) <= 1e-6
    greedy = {"greedy", "greedy_repetition_aware"}  # one list, continued in test_speech_sampling.py
    assert set(recorded) == {"input_ids", "bias_12x12_heads12", *found, *greedy}


@torch.no_grad()
def test_greedy_continuation(network):
    recorded = golden("step1_llm")
    cache = _cache(PREFILL + 48)
    logits, said = network(recorded["input_ids"][:1, :PREFILL], cache, last=True), []
    for _ in range(48):
        said.append(int(logits[0, -1].argmax()))
        logits = network(torch.tensor([said[-1:]]), cache, last=True)
    assert said == recorded["greedy"].tolist()


@torch.no_grad()
def test_decoding_in_pieces_equals_the_whole(network, subtests):
    for sizes, (dtype, bound) in itertools.product(
        [[1] * 23, [22, 1], [5, 1, 1, 9, 7], [1, 22]], [(torch.float64, 1e-12), (torch.float32, 5e-6)]
    ):
        with subtests.test(sizes=sizes, dtype=dtype, bound=bound):
            network = fill(StepAudioLLM(PARAMS), CASE["keys"], seed=77).to(dtype)
            ids = normal("pieces", (2, 23)).mul(50).long() % PARAMS.vocabulary
            assert relative_error(_steps(network, ids, sizes, dtype), _steps(network, ids, [23], dtype)) <= bound


@torch.no_grad()
def test_attention_is_its_formula_for_other_heads(subtests):
    """Head h reads group h // (heads / groups); query i sees keys j <= i with -slope * sqrt(i - j)."""
    for heads, groups in [(10, 5), (8, 1), (3, 3), (48, 4)]:
        with subtests.test(heads=heads, groups=groups):
            params = StepAudioLLMParams(
                width=4 * heads, layers=1, heads=heads, groups=groups, ffn_width=8, vocabulary=9
            )
            shapes = {name: list(tensor.shape) for name, tensor in CachedAttention(params).state_dict().items()}
            attention = fill(CachedAttention(params), shapes).double()
            x, wanted = normal("formula", (1, 7, 4 * heads)).double(), torch.zeros(7, heads, 4, dtype=torch.float64)
            q = attention.q_proj(x).view(7, heads, 4)
            k, v = (project(x).view(7, groups, 4) for project in (attention.k_proj, attention.v_proj))
            for head in range(heads):
                group = head // (heads // groups)
                for i in range(7):
                    logits = torch.stack(
                        [
                            q[i, head] @ k[j, group] / 2 - alibi_slopes(heads)[head] * (i - j) ** 0.5
                            for j in range(i + 1)
                        ]
                    )
                    wanted[i, head] = logits.softmax(0) @ v[: i + 1, group]
            found = attention(x, KVCache(params, 7, dtype=torch.float64), 0)
            assert (
                relative_error(found, attention.o_proj(wanted.flatten(1))[None]) <= 1e-7
            )  # the bias itself is float32


@torch.no_grad()
def test_a_prompt_longer_than_a_chunk_of_queries(network):
    """Queries in two chunks; the last row is what one position alone sees."""
    length = QUERY_CHUNK + 9
    ids = normal("long", (1, length)).mul(50).long() % PARAMS.vocabulary
    whole, apart = _steps(network, ids, [length]), _steps(network, ids, [100, length - 101, 1])
    assert relative_error(apart, whole) <= 5e-6


@torch.no_grad()
def test_a_token_changes_itself_and_what_follows_only(network):
    ids = golden("step1_llm")["input_ids"][:1, :20].clone()
    before = _steps(network, ids, [20])
    ids[0, 7] = (ids[0, 7] + 1) % PARAMS.vocabulary
    changed = (_steps(network, ids, [20]) != before).any(-1)[0]
    assert changed.tolist() == [i >= 7 for i in range(20)]


@torch.no_grad()
def test_takes_in_one_batch_are_those_alone(network):
    ids = golden("step1_llm")["input_ids"]
    together = _steps(network, ids, [30, *[1] * 10])
    for row in range(2):
        alone = _steps(network, ids[row : row + 1], [30, *[1] * 10])
        assert relative_error(together[row : row + 1], alone) <= 5e-6


@torch.no_grad()
def test_a_pass_that_was_broken_off_leaves_the_cache_as_it_was(network):
    ids, cache = golden("step1_llm")["input_ids"][:1], _cache(40)
    network(ids[:, :10], cache)
    network.model.layers[0](network.embed(ids[:, 20:30]), cache, 0)  # and no further
    assert cache.length == 10
    again = network(ids[:, 10:], cache)
    assert torch.equal(again, _steps(network, ids, [10, 30])[:, 10:])


@torch.no_grad()
def test_a_layer_stands_alone_and_last_is_the_last_row(network):
    ids, cache = golden("step1_llm")["input_ids"], _cache(40, batch=2)
    x = network.embed(ids)
    for index, layer in enumerate(network.model.layers):
        with torch.device("meta"):
            slot = SpeechLayer(PARAMS)
        slot.load_state_dict(layer.state_dict(), assign=True)
        x = slot(x, cache, index)
    whole = network.head(x)
    assert torch.equal(whole, _steps(network, ids, [40]))
    # Another number of rows may go through another kernel, so the last row alone is equal to rounding.
    assert relative_error(network(ids, _cache(40, batch=2), last=True), whole[:, -1:]) <= 1e-6


@torch.no_grad()
def test_bfloat16_stays_close_and_its_bias_stays_float32(network):
    half = fill(StepAudioLLM(PARAMS), CASE["keys"]).bfloat16()
    recorded = golden("step1_llm")
    logits = _steps(half, recorded["input_ids"], [25, *[1] * 15], torch.bfloat16)
    assert logits.dtype == torch.bfloat16
    assert relative_error(logits, recorded["logits"]) <= 3e-2  # 1.8e-2 measured
    cache = _cache(1200, dtype=torch.bfloat16)
    # At distance 1000 bfloat16 would round the steepest head's bias by up to 0.06.
    assert cache.bias(1000, 1)[0, 0, 0].item() == pytest.approx(-alibi_slopes(12)[0] * 1000**0.5, rel=1e-6)


@torch.no_grad()
def test_int8_layers_stay_close(network):
    codes = int8_network(fill(StepAudioLLM(PARAMS), CASE["keys"]), "step_audio_llm")
    recorded = golden("step1_llm")
    error = relative_error(_steps(codes, recorded["input_ids"], [40]), recorded["logits"])
    assert 1e-4 < error <= 6e-2  # 4.1e-2 measured; 0 would mean that nothing is int8


def test_public_sizes():
    """Names, shapes and count of the public index: 291 tensors, 7,059,412,992 bytes of bfloat16."""
    with torch.device("meta"):
        state = StepAudioLLM(StepAudioLLMParams()).state_dict()
    wanted = {f"model.layers.{i}.{name}": shape for i in range(32) for name, shape in LAYER.items()}
    wanted |= {
        "model.embed_tokens.weight": (74752, 3072),
        "lm_head.weight": (74752, 3072),
        "model.norm.weight": (3072,),
    }
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == wanted and len(wanted) == 291
    assert sum(tensor.numel() for tensor in state.values()) == 3_529_706_496
    assert StepAudioLLMParams().cache_bytes(1, torch.bfloat16) == 32 << 10
    assert _cache(100, dtype=torch.bfloat16)._memory.nbytes == PARAMS.cache_bytes(100, torch.bfloat16)


def test_the_public_config_gives_the_default_sizes():
    public = {
        "model_type": "step1",
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_attention_heads": 48,
        "num_attention_groups": 4,
        "num_hidden_layers": 32,
        "max_seq_len": 32768,
        "vocab_size": 74752,
        "rms_norm_eps": 1e-05,
    }
    assert StepAudioLLMParams.from_config(public) == StepAudioLLMParams()


def test_configs_of_other_models_are_refused(subtests):
    for change, word in [
        ({"num_attention_groups": 5}, "divide"),
        ({"hidden_size": 97}, "divide"),
        ({"model_type": "llama"}, "llama"),
    ]:
        with subtests.test(change=change, word=word):
            with pytest.raises(ValueError, match=word):
                StepAudioLLMParams.from_config(CASE["config"] | change)


def test_an_incomplete_config_is_refused():
    config = dict(CASE["config"])
    del config["max_seq_len"]
    with pytest.raises(ValueError, match="max_seq_len"):
        StepAudioLLMParams.from_config(config)


@torch.no_grad()
def test_a_full_cache_is_an_error_not_a_wrong_answer(network):
    cache = _cache(4)
    network(torch.tensor([[1, 2, 3]]), cache)
    with pytest.raises(ValueError, match="4 positions, 5 are asked for"):
        network(torch.tensor([[1, 2]]), cache)
    with pytest.raises(ValueError, match="32769 positions are more"):
        _cache(32769)
