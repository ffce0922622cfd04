"""Scaled dot-product attention for every network here, and the one place that picks the kernel."""

import math
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

FLASH_HEAD_DIM = 256  # the widest head that flash-attn's kernels take
# From this compute capability on (Hopper) PyTorch's own choice is cuDNN's kernels, which use instructions that
# flash-attn 2 does not; published benchmarks have it at about 1.5 times the speed.
BEYOND_FLASH = (9, 0)
OWN = "own"  # what is taken where no kernel was chosen
# Packages of kernels: where their function lies. Each takes (b, n, heads, d) and `causal`.
PACKAGES = {"flash-attn": "flash_attn", "flash-attn-3": "flash_attn_interface", "flash-attn-4": "flash_attn.cute"}
# Multiplies queries and keys in int8, values in float8 or float16: not exact, so it serves only where asked for.
SAGE = "sageattention"
# What a kernel or its package raises where it does not serve a card, a dtype or a shape.
REFUSED = (RuntimeError, ImportError, ValueError, AssertionError)
CHOSEN_WIDTH = 128  # of a head: a chosen kernel serves the video transformer's attention alone
_CHOSEN: dict[torch.device, str] = {}  # by `choose_kernel`, once per process and device
# PyTorch's kernels under the names of PyTorch's own settings, and the number of tokens that stands for a long video
# when it is asked which of them it would take.
KERNELS = {
    "math": SDPBackend.MATH,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}
ASKED_TOKENS = 2048


def _installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


_FLASH_INSTALLED = _installed("flash-attn")  # flash-attn-4 has a folder of the same name


def installed_kernels() -> tuple[str, ...]:
    """What can be chosen on a GPU beside OWN: PyTorch's kernels that build no square, and installed packages."""
    return (*(name for name in KERNELS if name != "math"), *installed_packages())


def installed_packages() -> list[str]:
    """The packages of exact kernels that are installed."""
    return [name for name in PACKAGES if _installed(name)]


def is_installed(name: str) -> bool:
    """Whether a kernel of KERNELS, of PACKAGES or SAGE is there, on whatever card."""
    return name in KERNELS or _installed(name)


def choose_kernel(device: torch.device, name: str) -> None:
    """From now on `name`, of `installed_kernels`, OWN or SAGE, serves heads of CHOSEN_WIDTH in half precision there."""
    _CHOSEN[device] = name


def _chosen(device: torch.device, dtype: torch.dtype, head_dim: int) -> str:
    half = dtype in (torch.float16, torch.bfloat16)
    return _CHOSEN.get(device, OWN) if half and head_dim == CHOSEN_WIDTH else OWN


def run_kernel(name: str, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """`attention` without causal and bias by one kernel. Raises one of REFUSED where it does not serve."""
    if name == SAGE:
        return import_module(SAGE).sageattn(q, k, v, tensor_layout="NHD", is_causal=False)
    if name in PACKAGES:
        result = import_module(PACKAGES[name]).flash_attn_func(q, k, v, causal=False)
        return result[0] if isinstance(result, tuple) else result  # some versions add the sums of the softmax
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    with sdpa_kernel(KERNELS[name]):
        return scaled_dot_product_attention(q, k, v).transpose(1, 2)


def attention_backend(device: torch.device | str, dtype: torch.dtype, head_dim: int) -> str:
    """The kernel family that serves attention without a bias: "flash-attn" or "sdpa" (PyTorch's own)."""
    half = dtype in (torch.float16, torch.bfloat16)
    fits = torch.device(device).type == "cuda" and half and head_dim <= FLASH_HEAD_DIM
    return "flash-attn" if _FLASH_INSTALLED and fits and _capability(torch.device(device)) < BEYOND_FLASH else "sdpa"


def attention_kernel(device: torch.device | str, dtype: torch.dtype, head_dim: int) -> str:
    """The kernel that serves attention without a bias on a device that is here, with its version where it has its own.

    "flash-attn 2.8.3", or one of KERNELS, as PyTorch chooses for such a card, dtype and width: "cudnn 91900", "flash".
    The bits of a result depend on it.
    """
    if (name := _chosen(torch.device(device), dtype, head_dim)) in (SAGE, *PACKAGES):
        return f"{name} {version(name)}"
    if name != OWN:
        return f"cudnn {torch.backends.cudnn.version()}" if name == "cudnn" else name
    if attention_backend(device, dtype, head_dim) == "flash-attn":
        return f"flash-attn {version('flash-attn')}"
    q = torch.empty(1, ASKED_TOKENS, 1, head_dim, dtype=dtype, device=device).transpose(1, 2)
    chosen = torch._fused_sdp_choice(q, q, q)
    name = next((name for name, kernel in KERNELS.items() if kernel.value == chosen), f"kernel {chosen}")
    return f"cudnn {torch.backends.cudnn.version()}" if name == "cudnn" else name


@cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)


def attention(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False, bias: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v, with the token dimension before the head dimension.

    q (b, n, heads, d); k, v (b, m, heads, d); all of one dtype. `causal` lets query i see keys 0..i and needs n == m.
    bias (heads, n, m), float: added to the logits in its own precision; a bfloat16 bias would already blur ALiBi.
    Returns (b, n, heads, d) in q's dtype. Without a bias no n x m matrix is ever built, for any head width: PyTorch
    serves widths beyond flash (the VAE's 512) with its memory-efficient kernel, and on a CPU with its blocked one.
    """
    if bias is not None:
        return _biased(q, k, v, causal=causal, bias=bias)
    if not causal and (name := _chosen(q.device, q.dtype, q.shape[-1])) != OWN:
        return run_kernel(name, q, k, v)
    if attention_backend(q.device, q.dtype, q.shape[-1]) == "flash-attn":
        from flash_attn import flash_attn_func  # slow to import, and absent on most machines

        return flash_attn_func(q, k, v, causal=causal)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2)


def _biased(q: Tensor, k: Tensor, v: Tensor, *, causal: bool, bias: Tensor) -> Tensor:
    if causal:
        bias = bias + torch.full_like(bias[0], -math.inf).triu(1)
    dtype, wide = q.dtype, torch.promote_types(q.dtype, bias.dtype)
    q, k, v = (x.transpose(1, 2).to(wide) for x in (q, k, v))
    return scaled_dot_product_attention(q, k, v, attn_mask=bias.to(wide)).transpose(1, 2).to(dtype)
