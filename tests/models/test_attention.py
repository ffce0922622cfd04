"""Attention: against the formula written out, the choice of kernel, and memory without the square."""

import itertools
import math

import pytest
import torch

from models import attention as module
from models.attention import KERNELS, attention, attention_backend, attention_kernel
from tests.models.cases import peak_bytes


def _inputs(n, m, heads, head_dim, dtype=torch.float64, device="cpu"):
    draw = torch.Generator().manual_seed(n + m)
    shapes = ((2, n, heads, head_dim), (2, m, heads, head_dim), (2, m, heads, head_dim), (heads, n, m))
    return [torch.randn(shape, generator=draw, dtype=torch.float64).to(device, dtype) for shape in shapes]


def _formula(q, k, v, bias=None, causal=False):
    logits = torch.einsum("bnhd,bmhd->bhnm", q, k) / math.sqrt(q.shape[-1])
    if bias is not None:
        logits = logits + bias
    if causal:
        logits = logits.masked_fill(torch.ones_like(logits[0, 0]).triu(1).bool(), -math.inf)
    return torch.einsum("bhnm,bmhd->bnhd", logits.softmax(-1), v)


def test_attention_is_the_formula():
    sizes = [(False, 7, 7), (False, 7, 30), (True, 7, 7), (True, 200, 200)]
    for (causal, n, m), head_dim, biased in itertools.product(sizes, (8, 128, 512), (False, True)):
        q, k, v, bias = _inputs(n, m, 3, head_dim)
        bias = bias if biased else None
        got, wanted = attention(q, k, v, causal=causal, bias=bias), _formula(q, k, v, bias, causal)
        assert torch.allclose(got, wanted, rtol=1e-10, atol=1e-12), (causal, n, m, head_dim, biased)


def test_a_float32_bias_is_not_rounded_to_bfloat16():
    q, k, v, _ = _inputs(64, 64, 2, 16, torch.bfloat16)
    bias = torch.full((2, 64, 64), 100.0) + torch.linspace(0, 0.2, 64)  # all of it lost in bfloat16
    result = attention(q, k, v, bias=bias)
    assert result.dtype == torch.bfloat16
    exact = _formula(q.double(), k.double(), v.double(), bias.double())
    torch.testing.assert_close(result.double(), exact, rtol=0.01, atol=1e-3)
    blurred = attention(q, k, v, bias=bias.bfloat16())
    assert (blurred.double() - exact).norm() > 5 * (result.double() - exact).norm()


@torch.no_grad()
def test_wide_causal_attention_never_builds_the_square():
    n = 2048
    q, k, v, _ = _inputs(n, 1, 1, 512, torch.float32)
    k = v = q
    assert peak_bytes(lambda: attention(q, k, v, causal=True)) < q.nbytes + n * n  # the square takes 4 n^2 a sample


def test_choice_of_kernel(monkeypatch):
    cases = {
        ("cuda", torch.bfloat16, 128, True): "flash-attn",
        ("cuda:1", torch.float16, 256, True): "flash-attn",
        ("cuda:2", torch.bfloat16, 128, True): "sdpa",  # Hopper
        ("cuda", torch.bfloat16, 512, True): "sdpa",
        ("cuda", torch.float32, 128, True): "sdpa",
        ("cuda", torch.bfloat16, 128, False): "sdpa",
        ("cpu", torch.bfloat16, 128, True): "sdpa",
    }
    monkeypatch.setattr(module, "_capability", lambda device: (9, 0) if device.index == 2 else (8, 6))
    chosen = {}
    for device, dtype, head_dim, installed in cases:
        monkeypatch.setattr(module, "_FLASH_INSTALLED", installed)
        chosen[device, dtype, head_dim, installed] = attention_backend(torch.device(device), dtype, head_dim)
    assert chosen == cases


def test_the_kernel_of_the_record_is_what_pytorch_runs():
    q, k, v, _ = _inputs(64, 64, 2, 128, torch.float32)
    operators = {"math": "aten::_scaled_dot_product_attention_math", "flash": "_flash_attention_for_cpu"}
    name = attention_kernel("cpu", torch.float32, 128)
    assert name in KERNELS
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        attention(q, k, v)
    assert any(operators[name] in event.key for event in profile.key_averages())


def test_a_chosen_kernel_serves_the_transformer_alone_and_is_in_the_record(monkeypatch):
    """On a CPU, whose kernel without a square is "flash" where nothing is chosen."""
    monkeypatch.setattr(module, "_CHOSEN", {})
    q, k, v, _ = _inputs(64, 40, 2, 128, torch.bfloat16)
    own = attention(q, k, v)
    module.choose_kernel(torch.device("cpu"), "math")
    assert attention_kernel("cpu", torch.bfloat16, 128) == "math"
    assert attention_kernel("cpu", torch.float32, 128) != "math" != attention_kernel("cpu", torch.bfloat16, 64)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        chosen = attention(q, k, v)
    assert any("attention_math" in event.key for event in profile.key_averages())
    torch.testing.assert_close(chosen, own, rtol=0.02, atol=0.01)
    module.choose_kernel(torch.device("cpu"), module.OWN)
    assert torch.equal(attention(q, k, v), own)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("head_dim, causal", [(128, False), (128, True), (512, True)])
def test_half_precision_kernels_are_close_to_the_formula(head_dim, causal):
    q, k, v, _ = _inputs(1000, 1000, 2, head_dim, torch.bfloat16, "cuda")
    exact = _formula(q.double(), k.double(), v.double(), causal=causal)
    error = (attention(q, k, v, causal=causal).double() - exact).norm() / exact.norm()
    assert error < 1e-2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_the_largest_middle_of_the_vae_fits():
    q = torch.randn(1, 42160, 1, 512, dtype=torch.bfloat16, device="cuda")
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    attention(q, q, q, causal=True)
    assert torch.cuda.max_memory_allocated() - before < 16 * q.nbytes  # the square would take 82 times as much
