"""What `check` times: streamed against resident blocks, a decode at full size; and their peaks against the plan."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import torch

from models.geometry import VideoShape
from models.transformer import TransformerParams
from models.vae import VAE, VAEParams
from models.vae_convs import Keep
from studio.memory.check import (
    BLOCKS,
    LOOK,
    OK,
    SKIPPED,
    Finding,
    peak_finding,
    random_conditions,
    with_sources,
)
from studio.memory.manager import MemoryManager
from studio.memory.plan import Budgets, RuntimeConfig
from studio.memory.planning.peaks import CONVOLUTION_BYTES, DECODE_GAP, WORKSPACE_BYTES
from studio.memory.usage import CUDA_CONTEXT_BYTES, peak_vram, release_cached_memory, reset_peaks
from studio.units import GB

FRAMES = (51, 102)
SIZES = {"cuda": (544, 992), "cpu": (64, 96)}  # height, width
SOURCES = {"cuda": "pinned", "cpu": "cached"}  # of streamed blocks; on a CPU a pinned copy is no source of a plan
STEPS = 3  # back to back, so that the copy for a step's first block is hidden by the step before
SLACK = 1.1  # of the longer of computation and copies


def streaming_overhead(
    device: torch.device,
    dtype: torch.dtype,
    budgets: Budgets,
    folder: Path,
    params: TransformerParams,
    link_gbps: float,
) -> Iterator[Finding]:
    """A step of BLOCKS blocks, guided, resident and streamed; folder: of `check.write_transformer`, which gave params.

    On a GPU a step may take as long as the longer of its computation and its copies. On a CPU a copy is computation.
    """
    for frames in FRAMES:
        video = VideoShape(frames, *SIZES[device.type])
        memory = MemoryManager({"transformer": folder}, RuntimeConfig(device, dtype, budgets))
        try:
            plan = memory.plan(video)
            resident = replace(plan, transformer=with_sources(plan.transformer, ["resident"]))
            if device.type == "cuda" and plan.transformer.streamed:
                yield Finding("overhead", SKIPPED, "check_needs_room", {"frames": frames})
                continue
            memory.set_plan(resident)
            release_cached_memory(device)
            reset_peaks(device)
            held = _step_seconds(memory, video, params, device)
            if device.type == "cuda":
                yield peak_finding(device, plan)
            memory.set_plan(replace(plan, transformer=with_sources(plan.transformer, [SOURCES[device.type]])))
            streamed = _step_seconds(memory, video, params, device)
        finally:
            memory.release()
        copies = BLOCKS * plan.transformer.unit_bytes / link_gbps / 1e9
        values = {
            "frames": frames, "height": video.height, "width": video.width, "blocks": BLOCKS, "held": held,
            "streamed": streamed, "percent": 100 * (streamed / held - 1), "copies": copies,
        }  # fmt: skip
        if device.type == "cpu":
            yield Finding("overhead", OK, "check_overhead_cpu", values)
        elif streamed > SLACK * max(held, copies):
            yield Finding("overhead", LOOK, "check_overhead_high", values)
        else:
            yield Finding("overhead", OK, "check_overhead", values)


def full_decode(device: torch.device, dtype: torch.dtype, vram_bytes: int) -> Iterator[Finding]:
    """17 frames of 544x992 by a random VAE of public size, compact where vram_bytes ask for it. On a GPU alone."""
    if device.type != "cuda":
        yield Finding("decode", SKIPPED, "check_needs_gpu")
        return
    with torch.device("meta"):
        vae = VAE(VAEParams())
    vae = vae.to(dtype).to_empty(device=device).requires_grad_(False)
    for weight in vae.parameters():
        weight.normal_(std=0.02)
    height, width = SIZES["cuda"]
    held = sum(weight.nbytes for weight in vae.parameters()) + WORKSPACE_BYTES["cuda"] + CONVOLUTION_BYTES

    def promised(*, compact: bool) -> int:
        decoding = vae.peak_decode_bytes(height, width, dtype, compact=compact)
        return CUDA_CONTEXT_BYTES + held + int(decoding * (1 + DECODE_GAP))

    compact = promised(compact=False) > vram_bytes
    latents = torch.randn(VideoShape(17, height, width).latent_shape(64), device=device, dtype=dtype)
    release_cached_memory(device)
    reset_peaks(device)

    def decode() -> None:
        for _ in vae.decode_chunks(latents, keep=Keep.SHARED if compact else Keep.WINDOWS):
            pass

    decode()
    values = {"seconds": _seconds(decode, device), "peak_gb": peak_vram(device) / GB}
    values["promised_gb"] = promised(compact=compact) / GB
    over = values["peak_gb"] > values["promised_gb"]
    yield Finding("decode", LOOK if over else OK, "check_decode_over" if over else "check_decode", values)


def _step_seconds(memory: MemoryManager, video: VideoShape, params: TransformerParams, device: torch.device) -> float:
    latents = torch.randn(video.latent_shape(params.in_channels), generator=torch.Generator().manual_seed(4))
    latents, conditions = latents.to(device), random_conditions(params)
    with memory.transformer(video) as transformer:

        def steps(count: int) -> None:
            for step in range(count):
                transformer.velocities(latents, step / count, conditions)

        steps(2)
        return _seconds(lambda: steps(STEPS), device) / STEPS


def _seconds(run: Callable[[], None], device: torch.device) -> float:
    """By the GPU's events; on a CPU by the clock."""
    if device.type != "cuda":
        began = perf_counter()
        run()
        return perf_counter() - began
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3
