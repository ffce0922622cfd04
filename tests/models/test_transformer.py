"""The video transformer: the recorded outputs, the ways of running it that must agree, and its memory."""

import copy
import itertools
from dataclasses import replace

import pytest
import torch

from models.layers import FeedForward, GELULinear, RMSNorm, sinusoid
from models.rope import rope_split, rope_tables, rotate
from models.scheduler import FlowMatchScheduler
from models.transformer import Block, Hidden, Transformer, TransformerParams
from tests.golden.rule import PARITY, golden, normal, relative_error
from tests.models.cases import LATENT_SHAPE, peak_bytes, transformer_case

NAMES = ("dit_t2v", "dit_ti2v")
LOOPS = {"denoised_steps6_cfg9_shift13": (6, 9.0, 13.0), "denoised_steps4_cfg5_shift17": (4, 5.0, 17.0)}
ROUNDING = {torch.float64: 1e-12, torch.float32: 5e-6}  # what another order of summation may change
TINY = TransformerParams(heads=2, head_dim=16, layers=2, in_channels=4, out_channels=4, llm_width=12, clip_width=8)


def _walk(case, i, **chunk):
    """Sample i alone, block by block: the hidden tokens after each, and the velocity."""
    hidden = case.network.embed(*case.sample(i), **case.conditions_of(i))
    after = []
    for block in case.network.transformer_blocks:
        block(hidden, **chunk)
        after.append(hidden.tokens.clone())
    return *after, case.network.head(hidden, **chunk)


@torch.no_grad()
def test_every_recorded_tensor_is_reproduced():
    for name in NAMES:
        case, recorded = transformer_case(name), golden(name)
        assert relative_error(case.batch(), recorded["output"]) <= 1e-5, name
        alone = [_walk(case, i) for i in range(2)]
        *blocks, velocity = (torch.cat(pair) for pair in zip(*alone, strict=True))
        assert relative_error(velocity, recorded.pop("output")) <= 1e-5, name
        for i, tokens in enumerate(blocks):
            assert relative_error(tokens, recorded.pop(f"block_{i}")) <= 1e-5, (name, i)
        for loop in LOOPS:
            assert relative_error(_denoise(case, *LOOPS[loop]), recorded.pop(loop)) <= 1e-4, (name, loop)
        assert not recorded, name


def _denoise(case, steps, cfg_scale, time_shift):
    """The official loop, with a pass of its own for each text, cut to what is valid."""
    scheduler = FlowMatchScheduler(steps, time_shift)
    latents = normal(f"noise_{steps}", (1, *LATENT_SHAPE))
    for step in range(steps):
        velocities = []
        for i in range(2):
            hidden = case.network.embed(
                latents, scheduler.times[step : step + 1], *case.sample(i)[2:], **case.conditions_of(0)
            )
            for block in case.network.transformer_blocks:
                block(hidden)
            velocities.append(case.network.head(hidden))
        conditional, unconditional = velocities
        latents = scheduler.step(unconditional + cfg_scale * (conditional - unconditional), latents, step)
    return latents


@torch.no_grad()
def test_separate_cut_texts_equal_the_masked_batch():
    for name, dtype in itertools.product(NAMES, ROUNDING):
        case = transformer_case(name, dtype)
        separate = torch.cat([_walk(case, i)[-1] for i in range(2)])
        assert relative_error(separate, case.batch()) <= ROUNDING[dtype], (name, dtype)


@torch.no_grad()
def test_what_the_mask_hides_changes_nothing():
    for dtype in ROUNDING:
        case = transformer_case("dit_t2v", dtype)
        before = case.batch()
        case.prompt[1, 5:] = 100.0
        assert torch.equal(case.batch(), before), dtype
        case.prompt[1, 4] += 1
        assert not torch.equal(case.batch(), before), dtype


@torch.no_grad()
def test_chunks_of_tokens_equal_all_at_once():
    for dtype, rounding in ROUNDING.items():
        case = transformer_case("dit_ti2v", dtype)
        at_once = _walk(case, 0)
        for chunk in (1, 5, 18, 4096):
            for chunked, whole in zip(_walk(case, 0, token_chunk=chunk), at_once, strict=True):
                assert relative_error(chunked, whole) <= rounding, (dtype, chunk)


def test_the_differentiable_path_computes_the_same():
    for dtype, rounding in ROUNDING.items():
        case = transformer_case("dit_ti2v", dtype)
        with torch.no_grad():
            inference = case.batch()
        trained = case.batch()
        assert trained.requires_grad and relative_error(trained.detach(), inference) <= rounding, dtype


def test_gradients_reach_everything_and_are_right():
    case = transformer_case("dit_ti2v", torch.float64)
    direction = torch.randn(case.latents.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    case.latents.requires_grad_()
    case.batch().square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in case.network.parameters())

    def loss(offset):
        with torch.no_grad():
            return replace(case, latents=case.latents + offset * direction).batch().square().sum()

    slope = (loss(1e-5) - loss(-1e-5)) / 2e-5
    torch.testing.assert_close((case.latents.grad * direction).sum(), slope, rtol=1e-6, atol=0)


@torch.no_grad()
def test_inputs_are_left_as_they_were():
    case = transformer_case("dit_ti2v")
    before = [x.clone() for x in (case.latents, case.prompt, case.clip, case.conditions["image_latents"])]
    case.batch()
    after = (case.latents, case.prompt, case.clip, case.conditions["image_latents"])
    assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))


@torch.no_grad()
def test_bfloat16_keeps_positions_in_float32_and_stays_close():
    case = transformer_case("dit_t2v", torch.bfloat16)
    hidden = case.network.embed(*case.sample(0))
    assert hidden.tokens.dtype == torch.bfloat16 and {table.dtype for table in hidden.rope} == {torch.float32}
    velocity = case.batch()
    assert velocity.dtype == torch.bfloat16
    assert relative_error(velocity, golden("dit_t2v")["output"]) <= 1.5e-2  # 0.7e-2 measured


@torch.no_grad()
def test_norm_and_rotation_are_rounded_once():
    """Officially the norm is rounded before it is multiplied by its weight: 1.5 times the error."""
    x, rope = normal("queries", (1, 24, 3, 128)).bfloat16(), rope_tables((2, 3, 4), 128)
    norm = RMSNorm(128, 1e-6)
    assert norm.weight.requires_grad  # which must not change the bits
    norm.weight.copy_(1 + 0.2 * normal("weight", (128,)))
    norm.bfloat16()
    exact = norm.weight.double() * x.double() / (x.double().square().mean(-1, keepdim=True) + 1e-6).sqrt()
    assert relative_error(norm(x), exact) <= 1.01 * relative_error(exact.bfloat16(), exact)
    exact = rotate(x.double(), rope)
    assert relative_error(rotate(x, rope), exact) <= 1.01 * relative_error(exact.bfloat16(), exact)
    assert torch.equal(rotate(x, rope, torch.empty_like(x)), rotate(x, rope))


@torch.no_grad()
def test_the_activation_has_its_tanh_form_on_every_device():
    layer, x = GELULinear(8, 32).double(), 3 * normal("input", (2, 5, 8)).double()
    exact = torch.nn.functional.gelu(x @ layer.proj.weight.T, approximate="tanh")
    assert relative_error(layer(x), exact) <= 1e-14
    # PyTorch's operator for both computes the erf form here; the difference is larger than what parity allows
    other = torch._addmm_activation(x.new_zeros(32), x.flatten(0, 1), layer.proj.weight.T, use_gelu=True)
    assert relative_error(other.view_as(exact), exact) > 1e-5


@torch.no_grad()
def test_a_block_built_alone_is_that_block():
    case = transformer_case("dit_t2v")
    with torch.device("meta"):
        slot = Block(case.network.params)
    slot.load_state_dict(case.network.transformer_blocks[1].state_dict(), assign=True)
    hiddens = [case.network.embed(*case.sample(0)) for _ in range(2)]
    case.network.transformer_blocks[1](hiddens[0])
    assert slot(hiddens[1]) is None
    assert torch.equal(hiddens[0].tokens, hiddens[1].tokens)


@torch.no_grad()
def test_conditions_together_have_the_bits_of_each_alone():
    """Also from keys and values that were computed before, by layers that left the block."""
    for name in ("dit_t2v", "dit_ti2v"):
        case = transformer_case(name)
        network, given = case.network, case.conditions_of(0)
        alone = [network.embed(*case.sample(0)[:2], *case.sample(i)[2:], **given) for i in range(2)]
        for hidden in alone:
            network.transformer_blocks[0](hidden)
        latents, moment, *_ = case.sample(0)
        contexts = [network.embed_text(*case.sample(i)[2:]) for i in range(2)]
        together = network.embed_video(latents, moment, contexts, network.rope(latents), **given)
        network.transformer_blocks[0](*together)
        without = network.embed_video(latents, moment, [None, None], network.rope(latents), **given)
        block = copy.deepcopy(network.transformer_blocks[0])
        text = block.attn2.split_text()
        block(*without, texts=[text.kv(context) for context in contexts])
        for wanted, found, kept in zip(alone, together, without, strict=True):
            assert torch.equal(wanted.tokens, found.tokens) and torch.equal(wanted.tokens, kept.tokens), name
        with pytest.raises(ValueError, match="context"):
            block(*without)
        names = {*dict(block.named_parameters()), *(f"attn2.{key}" for key in dict(text.named_parameters()))}
        assert names == set(dict(network.transformer_blocks[0].named_parameters())), name


@torch.no_grad()
def test_a_block_updates_in_place_and_holds_four_times_the_tokens_beside_them():
    params = TransformerParams(heads=4, head_dim=64, layers=1)
    block, width, n, chunk = Block(params), params.width, 4096, 128
    hidden = Hidden(
        tokens=torch.randn(1, n, width),
        timestep_emb=torch.randn(1, width),
        modulation=torch.randn(1, 6, width),
        context=torch.randn(1, 9, width),
        rope=rope_tables((4, 32, 32), params.head_dim),
        grid=(4, 32, 32),
    )
    address, unit = hidden.tokens.data_ptr(), hidden.tokens.nbytes
    peak = peak_bytes(lambda: block(hidden, token_chunk=chunk))
    assert hidden.tokens.data_ptr() == address
    # q, k, v and what attention returns beside the tokens; one chunk of the feed-forward is 8 widths of 128 tokens
    assert peak <= 4 * unit + 12 * unit * chunk / n
    assert peak_bytes(lambda: block(hidden, token_chunk=n)) > 8 * unit  # the measure sees what the chunks save


def test_epsilons_which_parity_is_too_coarse_to_see():
    network = transformer_case("dit_ti2v").network
    block = network.transformer_blocks[0]
    assert (block.norm1.eps, block.norm2.eps) == (1e-5, 1e-5)  # the block's default, not the config's norm_eps
    assert {norm.eps for attn in (block.attn1, block.attn2) for norm in (attn.q_norm, attn.k_norm)} == {1e-6}
    assert (network.norm_out.eps, network.caption_norm.eps) == (1e-6, 1e-6)


def test_rotation_is_orthogonal_relative_and_split_by_axis():
    for head_dim in (8, 16, 64, 128):
        _check_rotation(head_dim)


def _check_rotation(head_dim):
    grid = (3, 4, 5)
    cos, sin = (table.double() for table in rope_tables(grid, head_dim))
    x = torch.randn(2, 1, 1, head_dim, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    q, k = (rotate(row.expand(1, 60, 1, head_dim), (cos, sin)).view(*grid, head_dim) for row in x)
    torch.testing.assert_close(q.norm(dim=-1), x[0].norm().expand(grid), rtol=1e-6, atol=0)
    near, far = q[0, 1, 2] @ k[1, 0, 4], q[1, 3, 0] @ k[2, 2, 2]  # both one frame on, one row up, two columns right
    torch.testing.assert_close(near, far, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(q[0, 0, 0], x[0, 0, 0])
    frame, row, _ = rope_split(head_dim)
    moved = [q[place] != q[0, 0, 0] for place in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]
    for turned, part in zip(moved, (slice(0, frame), slice(frame, frame + row), slice(frame + row, None)), strict=True):
        assert turned[part].all() and turned.sum() == turned[part].numel()


def test_rope_is_neox_inside_each_part():
    cos, sin = rope_tables((2, 1, 1), 128)
    x = torch.zeros(1, 2, 1, 128)
    x[..., 3] = 1  # the fourth frequency of the frame part, paired with channel 3 + 32
    turned = rotate(x, (cos, sin))[0, 1, 0]
    angle = torch.tensor(10000.0 ** (-6 / 64))
    assert turned.nonzero().flatten().tolist() == [3, 35]
    torch.testing.assert_close(turned[[3, 35]], torch.stack([angle.cos(), angle.sin()]))


def test_a_head_that_cannot_be_split_is_refused():
    with pytest.raises(ValueError, match="divisible by 8"):
        rope_split(20)


def test_sinusoid_is_cosines_then_sines_from_fast_to_slow():
    wave = sinusoid(torch.tensor([0.0, 370.0]))
    assert wave.shape == (2, 256) and wave.dtype == torch.float32
    assert wave[0].tolist() == [1.0] * 128 + [0.0] * 128
    torch.testing.assert_close(wave[1, [0, 128]], torch.tensor([370.0, 370.0 - torch.pi / 2]).cos(), rtol=0, atol=3e-5)
    torch.testing.assert_close(wave[1, 255], torch.tensor(370 * 1e4 ** (-127 / 128)).sin())


def test_condition_inputs_must_fit_the_network():
    for name, needs in (("dit_t2v", "does not take"), ("dit_ti2v", "needs")):
        case, other = transformer_case(name), transformer_case(NAMES[name == NAMES[0]])
        with pytest.raises(ValueError, match=f"{needs} image_latents"):
            case.network.embed(*case.sample(0), **other.conditions_of(0))
    with pytest.raises(ValueError, match="needs motion_score"):
        case.network.embed(*case.sample(0), image_latents=case.latents[:1])


def test_a_mask_with_holes_is_refused():
    case = transformer_case("dit_t2v")
    case.mask[0, 3] = False
    with pytest.raises(ValueError, match="first positions"):
        case.batch()


@torch.no_grad()
def test_motion_scores_may_differ_within_a_batch():
    case = transformer_case("dit_ti2v")
    both = replace(case, conditions=case.conditions | {"motion_score": torch.tensor([5.0, 20.0])}).batch()
    assert relative_error(both[0], case.batch()[0]) <= 5e-6
    assert relative_error(both[1], case.batch()[1]) > 1e-2


def test_configs_of_another_architecture_are_refused():
    for key, value in {"patch_size": 2, "norm_type": "layer_norm"}.items():
        with pytest.raises(ValueError, match=key):
            TransformerParams.from_config(PARITY["dit_t2v"] | {key: value})
    config = dict(PARITY["dit_t2v"])
    del config["caption_channels"]
    with pytest.raises(ValueError, match="caption_channels"):
        TransformerParams.from_config(config)


def test_dimensions_may_be_any():
    network = Transformer(TINY)
    mask = torch.ones(1, 5, dtype=torch.bool)
    velocity = network(torch.randn(1, 1, 4, 3, 2), torch.rand(1), torch.randn(1, 2, 12), torch.randn(1, 3, 8), mask)
    assert velocity.shape == (1, 1, 4, 3, 2)
    assert FeedForward(8)(torch.randn(2, 8)).shape == (2, 8)
