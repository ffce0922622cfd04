"""int8 weights: bitsandbytes' codes, small errors, and a scratch that never serves a stale weight."""

import itertools
from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from models import quantized
from models.quantized import (
    Int8Linear,
    dequantize_rows,
    int8_block,
    int8_layers,
    int8_product,
    quantize_rows,
    scratch_elements,
)
from models.rope import rope_tables
from models.step_llm import Layer, StepLLMParams
from models.transformer import Block, Hidden, TransformerParams
from tests.models.cases import scratch_for

SMALL = TransformerParams(heads=4, head_dim=64, layers=1)
GRID = (3, 6, 8)


def normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator) / shape[-1] ** 0.5


def heavy(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Student's t with 4 degrees of freedom: rows whose largest weight is 10 to 30 times the usual one."""
    chi = sum(torch.randn(shape, generator=generator).square() for _ in range(4)) / 4
    return normal(shape, generator) / chi.sqrt()


def filled_block(draw, params: TransformerParams = SMALL, dtype: torch.dtype = torch.float32) -> Block:
    generator = torch.Generator().manual_seed(3)
    block = Block(params).requires_grad_(False)
    for name, weight in block.named_parameters():
        if weight.dim() == 2 and name != "scale_shift_table":
            weight.copy_(draw(tuple(weight.shape), generator))
    return block.to(dtype)


def hidden_for(params: TransformerParams, dtype: torch.dtype = torch.float32, seed: int = 5) -> Hidden:
    generator = torch.Generator().manual_seed(seed)
    count, width = GRID[0] * GRID[1] * GRID[2], params.width

    def make(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    rope = rope_tables(GRID, params.head_dim)
    return Hidden(make(1, count, width), make(1, width), make(1, 6, width), make(1, 20, width), rope, GRID)


@torch.no_grad()
def update(block: nn.Module, params: TransformerParams = SMALL, dtype: torch.dtype = torch.float32, **chunk) -> Tensor:
    """What the block adds to its tokens."""
    hidden = hidden_for(params, dtype)
    before = hidden.tokens.clone()
    block(hidden, **chunk)
    return (hidden.tokens - before).double()


def reference_quant(weight: Tensor) -> tuple[Tensor, Tensor]:
    """bitsandbytes' codes and absmax per row. Imported here: it takes seconds, and collecting tests would pay them."""
    bitsandbytes = pytest.importorskip("bitsandbytes", reason="bitsandbytes is the reference for the codes")
    return bitsandbytes.functional.int8_vectorwise_quant(weight)[:2]


def relative(error: Tensor, reference: Tensor) -> float:
    return (error.norm() / reference.norm()).item()


def test_codes_and_scales_are_bitsandbytes():
    for draw, dtype in itertools.product((normal, heavy), (torch.float32, torch.bfloat16, torch.float16)):
        weight = draw((96, 512), torch.Generator().manual_seed(1)).to(dtype)
        codes, scale = quantize_rows(weight)
        reference, absmax = reference_quant(weight.half())
        assert torch.equal(codes, reference), (draw.__name__, dtype)
        assert torch.equal(scale, absmax / 127), (draw.__name__, dtype)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.floats(-65504, 65504, width=16), min_size=7, max_size=7), min_size=1, max_size=6))
def test_any_finite_float16_keeps_within_half_a_step(rows):
    weight = torch.tensor(rows, dtype=torch.float16)
    codes, scale = quantize_rows(weight)
    back = dequantize_rows(codes, scale, torch.empty(weight.shape))
    assert codes.abs().max() <= 127
    assert ((back - weight.float()).abs() <= scale[:, None] * 0.5001 + 1e-12).all()
    filled = weight.abs().amax(dim=1) > 0
    reference = reference_quant(weight[filled])[0] if filled.any() else codes[:0]
    assert torch.equal(codes[filled], reference)
    assert not codes[~filled].any() and not scale[~filled].any()


def test_a_weight_that_float16_cannot_hold_is_refused():
    for bad in (float("nan"), float("inf"), 70000.0):
        with pytest.raises(ValueError, match="float16"):
            quantize_rows(torch.tensor([[1.0, bad]]))


def test_dequantised_weights_are_rounded_once():
    codes, scale = quantize_rows(heavy((64, 128), torch.Generator().manual_seed(2)))
    for dtype in (torch.float32, torch.bfloat16):
        exact = (codes.double() * scale.double()[:, None]).float().to(dtype)  # their product in float32, then dtype
        assert torch.equal(dequantize_rows(codes, scale, torch.empty(64, 128, dtype=dtype)), exact), dtype


def test_update_of_a_block_with_normal_weights_is_off_by_two_percent_at_most():
    block = filled_block(normal)
    reference = update(block)
    assert relative(update(int8_block(block)) - reference, reference) <= 0.02


def test_update_with_heavy_tails_has_row_wise_int8s_own_error():
    """Own error: the same rounding of the weights (bitsandbytes' round trip), everything else in float64.

    Numbers at the public width are recorded by tests/bench/bench_int8_error.py.
    """
    block = filled_block(heavy)
    exact = deepcopy(block).double()
    reference = update(exact, dtype=torch.float64)
    for layer in exact.modules():
        if isinstance(layer, nn.Linear):
            codes, absmax = reference_quant(layer.weight.half())
            layer.weight.copy_(codes * (absmax.double() / 127)[:, None])
    own = relative(update(exact, dtype=torch.float64) - reference, reference)
    ours = relative(update(int8_block(block)) - reference, reference)
    assert 0.005 < own < 0.1
    assert ours <= 1.1 * own


def test_scratch_gives_the_bits_of_weights_in_memory_of_their_own():
    for dtype in (torch.float32, torch.bfloat16):
        block = int8_block(filled_block(normal, dtype=dtype))
        alone = update(block, dtype=dtype, token_chunk=40)
        scratch = scratch_for(block, dtype)
        int8_block(block, scratch)
        assert torch.equal(update(block, dtype=dtype, token_chunk=40), alone), dtype
        with scratch.unit():
            assert torch.equal(update(block, dtype=dtype, token_chunk=40), alone), dtype
            assert torch.equal(update(block, dtype=dtype, token_chunk=40), alone), dtype


def test_inside_a_unit_each_layer_is_dequantised_once_however_many_chunks_and_conditions(monkeypatch):
    calls = []

    def counting(*arguments: Tensor) -> Tensor:
        calls.append(arguments)
        return dequantize_rows(*arguments)

    monkeypatch.setattr(quantized, "dequantize_rows", counting)
    block = int8_block(filled_block(normal))
    scratch = scratch_for(block)
    int8_block(block, scratch)
    with scratch.unit():
        update(block, token_chunk=40)
    assert len(calls) == len(int8_layers(block)) == 7
    calls.clear()
    with scratch.unit(), torch.no_grad():
        block(hidden_for(SMALL), hidden_for(SMALL, seed=6), token_chunk=40)
    assert len(calls) == 7
    calls.clear()
    text = block.attn2.split_text()  # an uneven number of layers stays: neighbours still differ in their turns
    int8_block(block, scratch)
    with scratch.unit(), torch.no_grad():
        given = hidden_for(SMALL), hidden_for(SMALL, seed=6)
        kept = [text.kv(hidden.context) for hidden in given]
        calls.clear()
        block(*given, texts=kept, token_chunk=40)
    assert len(calls) == 6
    block = int8_block(filled_block(normal), scratch)
    calls.clear()
    update(block, token_chunk=40)
    assert len(calls) > 7  # without the caller's word nothing is remembered


def test_weights_that_change_in_place_between_units_are_seen():
    """A slot's views keep their addresses while their content changes; also when a unit was left by an error."""
    block = int8_block(filled_block(normal))
    scratch = scratch_for(block)
    int8_block(block, scratch)
    layer = block.attn1.wqkv
    x = torch.randn(2, SMALL.width)
    with pytest.raises(RuntimeError), scratch.unit():
        before = layer(x)
        raise RuntimeError("out of memory, say")
    layer.weight.data.neg_()
    with scratch.unit():
        assert torch.equal(layer(x), -before)
    layer.weight.data.neg_()
    assert torch.equal(layer(x), before)


def test_scratch_is_not_reallocated_and_holds_the_largest_of_each_turn():
    block = int8_block(filled_block(normal))
    scratch = scratch_for(block)
    int8_block(block, scratch)
    places = {scratch.weight(layer).data_ptr() for layer in int8_layers(block)}
    assert len(places) == 2
    assert scratch.nbytes == 4 * sum(scratch_elements(block))
    assert scratch_elements(block) == (4 * SMALL.width**2, 4 * SMALL.width**2)


def test_public_shapes_take_052_of_bfloat16():
    with torch.device("meta"):
        units = {Block(TransformerParams()): 604_041_728, Layer(StepLLMParams()): 399_519_744}
    for unit, stored in units.items():
        assert sum(parameter.numel() for parameter in unit.parameters()) == stored
        unit = int8_block(unit.to(torch.bfloat16))
        assert all(parameter.is_meta for parameter in unit.parameters())
        assert sum(parameter.nbytes for parameter in unit.parameters()) / (2 * stored) <= 0.52


def test_keys_are_weight_and_weight_scale_and_norms_stay():
    with torch.device("meta"):
        block = int8_block(Block(SMALL))
    state = block.state_dict()
    assert state["attn1.wqkv.weight"].dtype == torch.int8
    assert state["attn1.wqkv.weight_scale"].shape == (3 * SMALL.width,)
    layers = {"attn1.wo", "attn1.wqkv", "attn2.wo", "attn2.wq", "attn2.wkv", "ff.net.0.proj", "ff.net.2"}
    assert {name for name, tensor in state.items() if tensor.dtype == torch.int8} == {f"{n}.weight" for n in layers}
    assert state["norm1.weight"].dtype == state["scale_shift_table"].dtype == torch.float32


def test_a_layer_with_a_bias_is_refused():
    with pytest.raises(ValueError, match="bias"):
        int8_block(nn.Sequential(nn.Linear(4, 4)))


def test_int8_products_in_pieces_equal_one_product_and_are_close():
    generator = torch.Generator().manual_seed(7)
    weight, x = normal((96, 256), generator), torch.randn(2, 50, 256, generator=generator)
    codes, scale = quantize_rows(weight)
    whole = int8_product(x, codes, scale)
    assert whole.shape == (2, 50, 96) and whole.dtype == x.dtype
    assert torch.equal(int8_product(x, codes, scale, limit=256 * 7 + 1), whole)
    exact = x @ weight.T
    assert 0 < relative(whole - exact, exact) <= 0.02


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 70), limit=st.integers(1, 256 * 80), dtype=st.sampled_from([torch.float32, torch.bfloat16]))
def test_any_pieces_give_the_bits_of_one_product(rows, limit, dtype):
    generator = torch.Generator().manual_seed(rows)
    codes, scale = quantize_rows(heavy((64, 256), generator))
    x = heavy((rows, 256), generator).to(dtype)
    whole = int8_product(x, codes, scale)
    assert whole.dtype == dtype and torch.equal(int8_product(x, codes, scale, limit=limit), whole)


def test_int8_compute_of_a_whole_block_is_close():
    block = filled_block(normal)
    reference = update(block)
    assert 0 < relative(update(int8_block(block, compute="int8")) - reference, reference) <= 0.03


def test_layer_of_the_llm_keeps_its_output():
    params = StepLLMParams(width=128, layers=1, heads=4, groups=2, ffn_width=256, vocabulary=16)
    torch.manual_seed(0)
    layer = Layer(params).requires_grad_(False)
    x = torch.randn(1, 9, params.width)
    reference = layer(x) - x
    int8_block(layer)
    assert [type(module) for module in int8_layers(layer)] == [Int8Linear] * 4
    assert 0 < relative(layer(x) - x - reference, reference) <= 0.02


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("draw", [normal, heavy])
def test_a_gpu_gives_the_codes_of_the_cpu(draw):
    weight = draw((512, 6144), torch.Generator().manual_seed(1)).to(torch.bfloat16)
    codes, scale = quantize_rows(weight)
    on_gpu, gpu_scale = quantize_rows(weight.cuda())
    assert torch.equal(on_gpu.cpu(), codes) and torch.equal(gpu_scale.cpu(), scale)
    theirs, absmax = reference_quant(weight.half().cuda())
    apart = (theirs.cpu().int() - codes.int()).abs()
    assert torch.equal(absmax.cpu() / 127, scale)
    # Its CUDA kernel divides approximately (two units in the last place), which moves codes that are almost ties.
    assert apart.max() <= 1 and apart.float().mean() < 1e-3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_on_a_gpu_dequantising_allocates_nothing_and_has_the_bits_of_the_cpu():
    codes, scale = quantize_rows(normal((4096, 6144), torch.Generator().manual_seed(1)))
    exact = dequantize_rows(codes, scale, torch.empty(4096, 6144, dtype=torch.bfloat16))
    codes, scale = codes.cuda(), scale.cuda()
    out = torch.empty(4096, 6144, dtype=torch.bfloat16, device="cuda")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    dequantize_rows(codes, scale, out)
    assert torch.cuda.max_memory_allocated() == before
    assert torch.equal(out.cpu(), exact)
