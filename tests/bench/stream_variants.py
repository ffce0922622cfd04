"""What bench_stream.py measures, one function per kind of variant: each yields parts of one row as they are known."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.geometry import VideoShape
from models.transformer import Transformer, TransformerParams
from studio.host_memory import free_ram
from studio.memory import usage as budget
from studio.memory.manager import Condition, MemoryManager
from studio.memory.plan import Budgets, ComponentPlan, Plan, RuntimeConfig, WeightMode
from studio.memory.planning import planner
from studio.memory.planning.plan_cache import PlanCache, SizeCache
from studio.memory.planning.speeds import load_speeds
from studio.units import GB
from tests.memory.big_model import write_component

PUBLIC = {
    "attention_head_dim": 128, "caption_channels": [6144, 1024], "in_channels": 64, "norm_eps": 1e-6,
    "num_attention_heads": 48, "out_channels": 64, "use_additional_conditions": True,
}  # fmt: skip
TINY = {**PUBLIC, "num_attention_heads": 1, "caption_channels": [64, 32], "in_channels": 4, "out_channels": 4}
TINY_PART = {"ch": 8, "ch_mult": [1, 1, 2, 2]}
TINY_VAE = {"encoder": TINY_PART, "decoder": TINY_PART, "z_channels": 4, "num_res_blocks": 1, "norm_groups": 4}
TIMED_LAYERS, ALL_LAYERS = 12, 48
PROMPT_TOKENS = 120
WARM_STEPS, TIMED_STEPS = 2, 3
PINNED_COPY = 2.8  # bytes that a rival's pinned copy of a module takes with it, in those of the module
Rows = Iterator[dict[str, Any]]  # parts of one row, each as soon as it is known


class Setting:
    """What a run is about: device, sizes, where the files lie."""

    def __init__(self, folder: Path, rehearse: bool) -> None:
        self.device = torch.device("cpu" if rehearse else "cuda")
        self.config = TINY if rehearse else PUBLIC
        self.vae = TINY_VAE if rehearse else {}
        self.size = (64, 96) if rehearse else (544, 992)
        self.layers = (3, 6) if rehearse else (TIMED_LAYERS, ALL_LAYERS)
        self.folder = folder

    def files(self, layers: int, *, int8: bool = False) -> Path:
        """A checkpoint folder of the transformer with so many layers; where peaks are measured, all but 6 are zeros."""
        folder = self.folder / f"{layers}{'-int8' if int8 else ''}"
        written = layers if layers == self.layers[0] else max(self.layers[0] // 2, 1)
        return self._written(folder, "transformer", {**self.config, "num_layers": layers}, int8=int8, written=written)

    def vae_files(self) -> Path:
        """A checkpoint folder of the VAE."""
        return self._written(self.folder / "vae", "vae", self.vae)

    def _written(self, folder: Path, component: str, config: dict[str, Any], **options: Any) -> Path:
        if not folder.exists():
            unfinished = folder.with_name(f"{folder.name}.tmp")  # left where the time was up
            write_component(unfinished, component, config, torch.bfloat16, **options)
            unfinished.rename(folder)
        return folder

    def video(self, frames: int) -> VideoShape:
        return VideoShape(frames, *self.size)

    def inputs(self, video: VideoShape) -> tuple[Tensor, Tensor, Tensor]:
        """Latents, prompt and CLIP embeddings."""
        llm_width, clip_width = self.config["caption_channels"]
        shape = (1, video.latent_frames, self.config["in_channels"], video.latent_height, video.latent_width)
        embeds = torch.randn(1, PROMPT_TOKENS, llm_width), torch.randn(1, 77, clip_width)
        return torch.randn(shape, device=self.device), *(each.to(self.device, torch.bfloat16) for each in embeds)

    def finish(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def ours(setting: Setting, frames: int, kind: str, *, int8: bool = False) -> Rows:
    """Our runtime with every block of one kind: resident, pinned or direct."""
    for layers in setting.layers:
        memory, plan = open_ours(setting, frames, layers, int8=int8, budgets=Budgets(1 << 40, 1 << 40))
        plan = replace(plan, transformer=all_of(plan.transformer, kind))
        memory.set_plan(plan)
        yield predicted(setting, plan, layers, int8=int8) | run_ours(setting, memory, frames, layers)
        memory.release()


def under_budget(setting: Setting, frames: int, vram_gb: int) -> Rows:
    """The planner's own plan for a budget, through all blocks: what it promised and what happened."""
    layers, budgets = setting.layers[1], Budgets(vram_gb * GB, free_ram())
    memory, plan = open_ours(setting, frames, layers, int8=False, budgets=budgets)
    yield {
        "budget_gb": vram_gb,
        "predicted_vram_gb": plan.summary()["vram_peak_gb"],
        "resident": len(plan.transformer.resident),
    }
    notices: list[str] = []
    memory.notify = lambda code, **values: notices.append(code)  # a plan that is stepped down promised too much
    row = run_ours(setting, memory, frames, layers)
    took = budget.peak_vram(setting.device)
    yield row | {"kept": took <= budgets.vram_bytes, "vram_gb": round(took / GB, 2), "notices": notices}
    memory.release()


def ti2v(setting: Setting, frames: int, vram_gb: int) -> Rows:
    """Two steps and the decoding through the whole model, given embeddings, within a budget."""
    video, budgets = setting.video(frames), Budgets(vram_gb * GB, free_ram())
    parts = {"transformer": setting.files(setting.layers[1]), "vae": setting.vae_files()}
    memory = MemoryManager(parts, RuntimeConfig(setting.device, torch.bfloat16, budgets))
    budget.reset_peaks(setting.device)
    began = time.perf_counter()
    latents, *embeds = setting.inputs(video)
    with memory.transformer(video) as transformer:
        for step in range(2):
            conditions = [Condition(*embeds)] * 2
            velocities = transformer.velocities(latents, step / 2, conditions, image_latents=latents, motion_score=5.0)
            latents = latents + sum(velocities) / 4
        setting.finish()
    stepped = time.perf_counter()
    yield {"budget_gb": vram_gb, "steps_seconds": round(stepped - began, 2)} | device_peaks(setting)
    with memory.vae(video) as vae:
        count = sum(len(piece) for piece in vae.decode_chunks(latents))
    took = budget.peak_vram(setting.device)
    yield {
        "decode_seconds": round(time.perf_counter() - stepped, 2),
        "decoded_frames": count,
        "kept": took <= budgets.vram_bytes or setting.device.type == "cpu",
        "vram_gb": round(took / GB, 2),
    } | device_peaks(setting)


def open_ours(
    setting: Setting, frames: int, layers: int, *, int8: bool, budgets: Budgets
) -> tuple[MemoryManager, Plan]:
    weights = WeightMode.INT8 if int8 else WeightMode.NONE
    runtime = RuntimeConfig(setting.device, torch.bfloat16, budgets, weights=weights)
    memory = MemoryManager({"transformer": setting.files(layers, int8=int8)}, runtime)
    return memory, memory.plan(setting.video(frames))


def predicted(setting: Setting, plan: Plan, layers: int, *, int8: bool) -> dict[str, Any]:
    """What the planner says of the same stage, with speeds measured here."""
    runtime = RuntimeConfig(
        device=setting.device,
        dtype=torch.bfloat16,
        budgets=Budgets(1 << 40, 1 << 40),
        weights=WeightMode.INT8 if int8 else WeightMode.NONE,
        speeds=load_speeds(setting.folder, setting.device),
    )
    sizes = SizeCache({"transformer": setting.files(layers, int8=int8)}, runtime.dtype)
    request = PlanCache(sizes, runtime).request(plan.video)
    if layers == setting.layers[1]:
        return {"predicted_gb": round(planner.phase_bytes(request, plan)["denoise"] / GB, 2)}
    return {"predicted_block_seconds": round(planner.step_seconds(request, plan) / layers, 5)}


def all_of(plan: ComponentPlan, kind: str) -> ComponentPlan:
    units = plan.units
    resident = tuple(range(units)) if kind == "resident" else ()
    return replace(plan, resident=resident, slots=0 if resident else 2, source=(kind,) * units)


def run_ours(setting: Setting, memory: MemoryManager, frames: int, layers: int) -> dict[str, Any]:
    video = setting.video(frames)
    latents, *embeds = setting.inputs(video)
    conditions = [Condition(*embeds)] * 2
    with memory.transformer(video) as transformer:

        def step() -> None:
            transformer.velocities(latents, 0.5, conditions, image_latents=latents, motion_score=5.0)

        return measure(setting, step, layers, pinned=lambda: memory.usage().pinned_bytes + memory.usage().staging_bytes)


def measure(setting: Setting, step: Callable[[], object], layers: int, pinned: Callable[[], int]) -> dict[str, Any]:
    """Timed where the network is shallow; peaks, of which those of the whole network come last and count."""
    budget.reset_peaks(setting.device)
    row: dict[str, Any] = {"peaks_of_blocks": layers}
    if layers == setting.layers[1]:
        step()
        setting.finish()
    else:
        for _ in range(WARM_STEPS):
            step()
        reserved, seconds = ever_reserved(setting), []
        for _ in range(TIMED_STEPS):
            setting.finish()
            began = time.perf_counter()
            step()
            setting.finish()
            seconds.append((time.perf_counter() - began) / layers)
        row |= {"block_seconds": round(min(seconds), 5), "reserved_later": ever_reserved(setting) - reserved}
    return row | device_peaks(setting) | {"pinned_gb": round(pinned() / GB, 2)}


def device_peaks(setting: Setting) -> dict[str, Any]:
    """outside_gb: what of the device is used beside this process's allocator."""
    row = {"ram_gb": round(budget.peak_ram() / GB, 2), "peak_vram_gb": 0.0}
    if setting.device.type == "cuda":
        free, total = torch.cuda.mem_get_info()
        row["peak_vram_gb"] = round(torch.cuda.max_memory_reserved() / GB, 2)
        row["outside_gb"] = round((total - free - torch.cuda.memory_reserved()) / GB, 2)
    return row


def ever_reserved(setting: Setting) -> int:
    """Bytes that PyTorch's allocator ever took from the driver; constant where steps need no new segment."""
    return torch.cuda.memory_stats()["reserved_bytes.all.allocated"] if setting.device.type == "cuda" else 0


def rival(setting: Setting, frames: int, offload: Callable[[Setting, Transformer], None]) -> Rows:
    """A library's offloading of the same blocks, both conditions as one batch; of all blocks where RAM suffices."""
    for layers in setting.layers:
        params = TransformerParams.from_config({**setting.config, "num_layers": layers})
        with torch.device("meta"):
            module = Transformer(params)
        if PINNED_COPY * 2 * sum(parameter.numel() for parameter in module.parameters()) > free_ram():
            yield {"all_blocks": "too little RAM for a pinned copy of them"}
            return
        module = module.to(torch.bfloat16).to_empty(device="cpu").requires_grad_(False).eval()
        for parameter in module.parameters():
            parameter.view(-1)[: 1 << 20].normal_(std=0.02)
            parameter.view(-1)[1 << 20 :].zero_()
        latents, prompt, clip = (each.expand(2, *each.shape[1:]) for each in setting.inputs(setting.video(frames)))
        mask = torch.ones(2, 77 + PROMPT_TOKENS, dtype=torch.bool, device=setting.device)
        offload(setting, module)
        moment = torch.full((2,), 0.5, device=setting.device)
        step = partial(module, latents, moment, prompt, clip, mask, latents, 5.0)
        yield measure(setting, step, layers, pinned=partial(pinned_bytes, setting))
        del module, step


def pinned_bytes(setting: Setting) -> int:
    """What PyTorch's pinned allocator holds."""
    return torch.cuda.host_memory_stats()["allocated_bytes.current"] if setting.device.type == "cuda" else 0


def with_diffusers(setting: Setting, module: Transformer) -> None:
    from diffusers.hooks import apply_group_offloading

    apply_group_offloading(
        module,
        onload_device=setting.device,
        offload_device=torch.device("cpu"),
        offload_type="block_level",
        num_blocks_per_group=1,
        use_stream=setting.device.type == "cuda",
    )


def with_accelerate(setting: Setting, module: Transformer) -> None:
    from accelerate import cpu_offload

    blocks, module.transformer_blocks = module.transformer_blocks, nn.ModuleList()
    module.to(setting.device)
    module.transformer_blocks = blocks
    for block in blocks:
        cpu_offload(block, execution_device=setting.device)


def with_mmgp(setting: Setting, module: Transformer) -> None:
    from mmgp import offload

    offload.profile({"transformer": module}, profile_no=2, quantizeTransformer=False, budgets={"transformer": 1200})


VARIANTS: dict[str, Callable[[Setting, int], Rows]] = {
    "ours_resident": partial(ours, kind="resident"),
    "ours_pinned": partial(ours, kind="pinned"),
    "ours_disk": partial(ours, kind="direct"),
    "ours_int8_pinned": partial(ours, kind="pinned", int8=True),
    **{f"budget_{gb}": partial(under_budget, vram_gb=gb) for gb in (80, 24, 16)},
    "ti2v_24": partial(ti2v, vram_gb=24),
    "diffusers_stream": partial(rival, offload=with_diffusers),
    "accelerate_cpu": partial(rival, offload=with_accelerate),
    "mmgp": partial(rival, offload=with_mmgp),
}
LIBRARIES = {"diffusers_stream": "diffusers", "accelerate_cpu": "accelerate", "mmgp": "mmgp"}


def floor(setting: Setting, frames: int) -> Rows:
    """What no runtime can beat on this machine."""
    device, on_gpu = setting.device, setting.device.type == "cuda"
    source = torch.zeros(1 << 30 if on_gpu else 1 << 24, dtype=torch.uint8, pin_memory=on_gpu)
    target = torch.empty_like(source, device=device)
    link = source.nbytes / fastest(setting, lambda: target.copy_(source, non_blocking=True))
    side = 8192 if on_gpu else 256
    left, right = torch.randn(2, side, side, device=device).to(torch.bfloat16)
    speed = 2 * side**3 / fastest(setting, lambda: left @ right)
    width, tokens = setting.config["num_attention_heads"] * 128, setting.video(17).tokens
    block_bytes = 16 * width**2 * 2
    rows = {}
    for chunks in (1, 3, 6, 12, frames // 17):
        n = tokens * chunks
        flop = 2 * (28 * width**2 * n + 4 * n**2 * width + 4 * n * (77 + PROMPT_TOKENS) * width)
        rows[17 * chunks] = {"compute_seconds": round(flop / speed, 5), "link_seconds": round(block_bytes / link, 5)}
    yield {"link_gbps": round(link / 1e9, 2), "tflops": round(speed / 1e12, 1), "per_block": rows} | device_peaks(
        setting
    )


def fastest(setting: Setting, work: Callable[[], object], times: int = 6) -> float:
    seconds = []
    for _ in range(times):
        setting.finish()
        began = time.perf_counter()
        work()
        setting.finish()
        seconds.append(time.perf_counter() - began)
    return min(seconds)
