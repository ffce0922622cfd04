"""Proves on this machine's device what the program relies on, with random weights: no model is needed.

Each proof compares two ways of computing the same, so that it can fail, and gives a Finding. On a CPU the operators of
the CUDA path and its plans have nothing to prove; what they share with the CPU's is proven there.
"""

import copy
import json
import platform
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.attention import sdpa_kernel

from models.attention import (
    CHOSEN_WIDTH,
    KERNELS,
    REFUSED,
    attention,
    attention_kernel,
    installed_packages,
    run_kernel,
)
from models.checkpoint import network
from models.geometry import VideoShape
from models.layout import LAYOUT
from models.quantized import dequantize_rows, int8_compute_available, int8_product, quantize_rows
from models.transformer import Transformer, TransformerParams
from models.vae import VAE, VAEParams
from models.vae_convs import Keep
from studio import __version__
from studio.errors import StudioError
from studio.memory.manager import Condition, MemoryManager
from studio.memory.plan import Budgets, ComponentPlan, Plan, RuntimeConfig
from studio.memory.usage import peak_vram, release_cached_memory, reset_peaks
from studio.units import GB

OK, LOOK, SKIPPED = "ok", "look", "skipped"
SMALL = TransformerParams(heads=4, layers=2, in_channels=4, out_channels=4, llm_width=64, clip_width=32)
SMALL_VAE = VAEParams(8, (32, 32, 64, 64), (32, 32, 64, 64), encoder_base=32, norm_groups=8)
TOKEN_CHUNK = 32  # fewer than the small video's tokens, so that the operators of a long video run
VIDEO = VideoShape(17, 64, 96)
# Relative error of bfloat16 against float32: 0.65 % and 1.2 % on a CPU (tests/memory/test_check.py).
BLOCK_BOUND, VAE_BOUND = 0.015, 0.03
INT8_BOUND = 0.03
OLDEST_CUDNN = 91500  # before it 3D convolutions in bfloat16 take 17 times the memory (pytorch issue 166643)
BLOCKS = 4  # of the random transformer that is streamed: 1.2 GB each at full width
HEADS = {"cuda": 48, "cpu": 1}
ATTENTION_SHAPES = ((8192, 128, False), (18972, 128, False), (37944, 128, False), (4216, 512, True))  # tokens, width


@dataclass(frozen=True)
class Finding:
    """What a check found. code: of the sentence in studio.messages, with its values."""

    name: str
    state: str
    code: str
    values: dict[str, Any] = field(default_factory=dict)


Check = Callable[[], Iterator[Finding]]


def findings(name: str, check: Check) -> Iterator[Finding]:
    """What a check yields; where the device, the files or memory fail it, that is a finding too."""
    try:
        yield from check()
    except (RuntimeError, OSError, ValueError, StudioError) as error:
        yield Finding(name, LOOK, "check_failed", {"reason": str(error) or type(error).__name__})


def versions(device: torch.device) -> Iterator[Finding]:
    """The program's, PyTorch's, the card's."""
    values = {"version": __version__, "python": platform.python_version(), "torch": torch.__version__}
    yield Finding("versions", OK, "check_versions", values | {"system": f"{platform.system()} {platform.machine()}"})
    if device.type != "cuda":
        yield Finding("GPU", SKIPPED, "check_no_gpu")
        return
    card, cudnn = torch.cuda.get_device_properties(device), torch.backends.cudnn.version() or 0
    capability = f"{card.major}.{card.minor}"
    known = {"device": card.name, "total_gb": card.total_memory / GB, "capability": capability}
    yield Finding("GPU", OK, "check_gpu", known | {"cuda": torch.version.cuda, "cudnn": cudnn})
    if cudnn < OLDEST_CUDNN:
        yield Finding("GPU", LOOK, "check_old_cudnn", {"cudnn": cudnn})


def make_current(device: torch.device) -> None:
    """Triton starts its kernels on the current device, wherever the tensors lie."""
    if device.type == "cuda":
        torch.cuda.set_device(device)


def block_agrees(device: torch.device, dtype: torch.dtype) -> Iterator[Finding]:
    """Two blocks and the head: on the device in its dtype, in chunks of tokens, against float32 on the CPU."""
    exact = _random(lambda: Transformer(SMALL))
    given = _inputs(exact)
    with torch.no_grad():
        velocities = []
        for tested, chunk in ((exact, VIDEO.tokens), (copy.deepcopy(exact).to(device, dtype), TOKEN_CHUNK)):
            hidden = tested.embed(*(x.to(tested.scale_shift_table.device) for x in given))
            for block in tested.transformer_blocks:
                block(hidden, token_chunk=chunk)
            velocities.append(tested.head(hidden, token_chunk=chunk))
    yield _agreement("blocks", relative_error(*reversed(velocities)), BLOCK_BOUND, device)


def vae_agrees(device: torch.device, dtype: torch.dtype) -> Iterator[Finding]:
    """A decode frame by frame on the device against the whole clip in float32 on the CPU."""
    exact = _random(lambda: VAE(SMALL_VAE))
    latents = torch.randn(1, 3, SMALL_VAE.z_channels, 4, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = exact.decode(latents)
        tested = copy.deepcopy(exact).to(device, dtype)
        found = torch.cat(list(tested.decode_chunks(latents.to(device, dtype), keep=Keep.WINDOWS)), dim=1)
    yield _agreement("decoder", relative_error(found, wanted), VAE_BOUND, device)


def int8_agrees(device: torch.device, dtype: torch.dtype) -> Iterator[Finding]:
    """A product with int8 weights; in int8 too where bitsandbytes is there."""
    draw = torch.Generator().manual_seed(2)
    weight, x = torch.randn(512, 256, generator=draw), torch.randn(64, 256, generator=draw)
    codes, scale = (part.to(device) for part in quantize_rows(weight))
    given, wanted = x.to(device, dtype), x @ weight.T
    plain = torch.nn.functional.linear(given, dequantize_rows(codes, scale, given.new_empty(codes.shape)))
    yield _agreement("int8 weights", relative_error(plain, wanted), INT8_BOUND, device)
    if int8_compute_available():
        yield _agreement("int8 products", relative_error(int8_product(given, codes, scale), wanted), INT8_BOUND, device)
    else:
        yield Finding("int8 products", SKIPPED, "check_needs_bitsandbytes")


def plans_agree(
    device: torch.device, dtype: torch.dtype, budgets: Budgets, work: Path, params: TransformerParams
) -> Iterator[Finding]:
    """A transformer of `write_transformer`: resident, from RAM, from disk and mixed; and its peak against the plan.

    work: its folder; params: what that function returned.
    """
    memory = MemoryManager({"transformer": work}, RuntimeConfig(device, dtype, budgets))
    try:
        base = memory.plan(VIDEO)
        release_cached_memory(device)
        reset_peaks(device)
        states = {"planned": _steps(memory, params)}
        yield peak_finding(device, base)
        for kinds in (["resident"], ["pinned"], ["direct"], ["resident", "direct", "pinned", "direct"]):
            plan = replace(base, transformer=with_sources(base.transformer, kinds))
            memory.set_plan(plan)
            states[" ".join(kinds)] = _steps(memory, params)
        first, *others = states.values()
        wrong = [name for name, state in zip([*states][1:], others, strict=True) if not torch.equal(first, state)]
        if wrong:
            yield Finding("streaming", LOOK, "check_other_bits", {"plans": "; ".join(wrong)})
        else:
            yield Finding("streaming", OK, "check_same_bits", {"plans": len(states), "blocks": BLOCKS})
    finally:
        memory.release()


def attention_speeds(device: torch.device, dtype: torch.dtype) -> Iterator[Finding]:
    """Every kernel that runs the shapes of a video, and which of them PyTorch takes. On a GPU alone."""
    kernel = attention_kernel(device, dtype, 128)
    if device.type != "cuda":
        yield Finding("attention", OK, "check_kernel", {"kernel": kernel})
        return
    names = [name for name in KERNELS if name != "math"]  # which builds the whole square
    for tokens, width, causal in ATTENTION_SHAPES:
        heads, others = (48, installed_packages()) if width == CHOSEN_WIDTH else (1, [])
        speeds = {
            name: _attention_speed(device, dtype, name, (tokens, heads, width, causal)) for name in names + others
        }
        speeds = {name: speed for name, speed in speeds.items() if speed}
        taken = _attention_speed(device, dtype, None, (tokens, heads, width, causal))
        fastest = max(speeds, key=lambda name: speeds[name])
        kernel = attention_kernel(device, dtype, width)
        values = {
            "kernel": kernel, "tokens": tokens, "width": width, "tflops": taken,
            "speeds": ", ".join(f"{name} {speed:.0f}" for name, speed in speeds.items()), "fastest": fastest,
        }  # fmt: skip
        # The same kernel timed twice differs by 13 % on an H200 that has just woken up.
        slower = taken < 0.9 * speeds[fastest] and not kernel.startswith(fastest)
        state, code = (LOOK, "check_kernel_slow") if slower else (OK, "check_kernel_speed")
        yield Finding("attention", state, code, values)


def relative_error(found: Tensor, wanted: Tensor) -> float:
    """|found - wanted| / |wanted|, in float64; infinite where a number is not finite."""
    found, wanted = found.double().cpu(), wanted.double().cpu()
    error = float((found - wanted).norm() / wanted.norm())
    return error if error == error else float("inf")


def write_transformer(folder: Path, device: torch.device, dtype: torch.dtype) -> TransformerParams:
    """BLOCKS random blocks in the public layout, of full width for a GPU (4.8 GB), of one head for a CPU."""
    heads = HEADS[device.type]
    config = {
        "attention_head_dim": 128, "num_attention_heads": heads, "num_layers": BLOCKS, "norm_eps": 1e-6,
        "in_channels": 4, "out_channels": 4, "caption_channels": [64, 32], "use_additional_conditions": False,
    }  # fmt: skip
    with torch.device("meta"):
        module = network("transformer", config)
    module.to(dtype).to_empty(device=device)
    draw = torch.Generator(device).manual_seed(3)
    with torch.no_grad():
        for tensor in module.parameters():
            tensor.normal_(0, tensor[0].numel() ** -0.5 if tensor.ndim > 1 else 0.1, generator=draw)
    place = folder / LAYOUT["transformer"].folder
    place.mkdir(parents=True, exist_ok=True)
    (place / "config.json").write_text(json.dumps(config))
    save_file({name: x.cpu() for name, x in module.state_dict().items()}, place / LAYOUT["transformer"].weights[0])
    return TransformerParams(heads=heads, layers=BLOCKS, in_channels=4, out_channels=4, llm_width=64, clip_width=32)


def _steps(memory: MemoryManager, params: TransformerParams) -> Tensor:
    draw = torch.Generator().manual_seed(4)
    latents = torch.randn(VIDEO.latent_shape(params.in_channels), generator=draw)
    conditions = random_conditions(params)
    with memory.transformer(VIDEO) as transformer:
        for step in range(3):
            first, second = transformer.velocities(latents, step / 3, conditions)
            latents = latents + (first + second) / 6
    return latents


def random_conditions(params: TransformerParams) -> list[Condition]:
    """Two texts, the same on every machine."""
    draw = torch.Generator().manual_seed(5)
    prompt = torch.randn(1, 9, params.llm_width, generator=draw)
    clip = torch.randn(1, 77, params.clip_width, generator=draw)
    return [Condition(prompt, clip), Condition(prompt[:, :4], clip)]


def with_sources(plan: ComponentPlan, kinds: list[str]) -> ComponentPlan:
    """The plan with these sources of its units, over and over."""
    source = tuple(kinds[unit % len(kinds)] for unit in range(plan.units))
    resident = tuple(unit for unit, kind in enumerate(source) if kind == "resident")
    return replace(plan, resident=resident, source=source, slots=0 if len(resident) == plan.units else 2)


def peak_finding(device: torch.device, plan: Plan) -> Finding:
    """Whether the VRAM since `reset_peaks` stayed within what a plan promises."""
    if device.type != "cuda":
        return Finding("peak", SKIPPED, "check_needs_gpu")
    promised = plan.summary()["vram_peak_gb"]
    values = {"peak_gb": peak_vram(device) / GB, "promised_gb": promised}
    kept = values["peak_gb"] <= promised
    return Finding("peak", OK if kept else LOOK, "check_peak" if kept else "check_peak_over", values)


def _attention_speed(
    device: torch.device, dtype: torch.dtype, kernel: str | None, shape: tuple[int, int, int, bool]
) -> float:
    """TFLOP/s of a kernel by the GPU's events, best of three; None: of the one that `attention` takes; 0.0: refused."""
    tokens, heads, width, causal = shape
    q = torch.randn(1, tokens, heads, width, device=device, dtype=dtype)
    swapped = q.transpose(1, 2)

    def run() -> None:
        if kernel is None:
            attention(q, q, q, causal=causal)
            return
        if kernel not in KERNELS:
            run_kernel(kernel, q, q, q)
            return
        with sdpa_kernel(KERNELS[kernel]):
            torch.nn.functional.scaled_dot_product_attention(swapped, swapped, swapped, is_causal=causal)

    try:
        with warnings.catch_warnings(action="ignore"):  # PyTorch's reasons for a refusal
            run()
    except REFUSED:
        return 0.0
    seconds = []
    for _ in range(3):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        end.synchronize()
        seconds.append(begin.elapsed_time(end) / 1e3)
    return 4 * tokens**2 * heads * width / (2 if causal else 1) / min(seconds) / 1e12


def _agreement(name: str, error: float, bound: float, device: torch.device) -> Finding:
    good = error <= bound
    values = {"part": name, "percent": 100 * error, "bound": 100 * bound, "device": str(device)}
    return Finding(name, OK if good else LOOK, "check_agrees" if good else "check_disagrees", values)


def _random(build: Callable[[], nn.Module]) -> Any:
    """A network with random weights, the same on every machine; norms near 1."""
    with torch.device("meta"):
        module = build()
    module.to_empty(device="cpu").requires_grad_(False)
    draw = torch.Generator().manual_seed(0)
    for name, tensor in module.named_parameters():
        if tensor.ndim > 1:
            tensor.normal_(0, tensor[0].numel() ** -0.5, generator=draw)
        else:
            tensor.normal_(float(name.endswith("weight")), 0.1, generator=draw)
    return module


def _inputs(transformer: Transformer) -> tuple[Tensor, ...]:
    """latents, timestep, prompt and CLIP embeddings."""
    draw, params = torch.Generator().manual_seed(1), transformer.params
    latents = torch.randn(VIDEO.latent_shape(params.in_channels), generator=draw)
    prompt = torch.randn(1, 9, params.llm_width, generator=draw)
    return latents, torch.full((1,), 0.4), prompt, torch.randn(1, 77, params.clip_width, generator=draw)
