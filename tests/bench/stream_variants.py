"""What bench_stream.py measures, one function per kind of variant: each yields parts of one row as they are known."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.attention import attention
from models.checkpoint import ComponentFiles
from models.geometry import VideoShape
from models.quantized import UNITS, int8_block
from models.transformer import Block, Transformer, TransformerParams
from studio.host_memory import free_ram
from studio.memory import usage as budget
from studio.memory.allocator import Machine
from studio.memory.manager import Condition, MemoryManager
from studio.memory.plan import Budgets, ComponentPlan, Plan, RuntimeConfig, WeightMode
from studio.memory.planning import planner
from studio.memory.planning.plan_cache import PlanCache, SizeCache
from studio.memory.planning.speeds import load_speeds
from studio.units import GB
from tests.bench.gpu_facts import best_of, bits_of, clocks, device_peaks, ever_reserved, kernels, seconds_of
from tests.memory.big_model import write_component

PUBLIC = {
    "attention_head_dim": 128, "caption_channels": [6144, 1024], "in_channels": 64, "norm_eps": 1e-6,
    "num_attention_heads": 48, "out_channels": 64, "use_additional_conditions": True,
}  # fmt: skip
TINY = {**PUBLIC, "num_attention_heads": 1, "caption_channels": [64, 32], "in_channels": 4, "out_channels": 4}
TINY_PART = {"ch": 8, "ch_mult": [1, 1, 2, 2]}
TINY_VAE = {"encoder": TINY_PART, "decoder": TINY_PART, "z_channels": 4, "num_res_blocks": 1, "norm_groups": 4}
RIVAL_LAYERS, ALL_LAYERS = 12, 48
PROMPT_TOKENS = 120
TIMED_STEPS = 3
ALIGNMENT = 4096  # bytes, of reads past the page cache
PINNED_COPY = 2.8  # bytes that a rival's pinned copy of a module takes with it, in those of the module
Rows = Iterator[dict[str, Any]]  # parts of one row, each as soon as it is known


class RepeatingMachine(Machine):
    """Reads a file in which only a few blocks are written, all with the same bytes: a block that is a hole has those of
    one that is not, so that blocks come from the disk in turn and take little of it."""

    def __init__(self, device: torch.device, blocks: range, distinct: int) -> None:
        """blocks: the file's bytes from the first block to the start of the last, in steps of a block.

        distinct: so many blocks are written, one more, and the last. As many blocks have a multiple of the alignment of
        reads past the page cache, so that such reads stay possible.
        """
        super().__init__(device)
        self._blocks, self._distinct = blocks, distinct

    def read(self, file: int, buffers: Sequence[memoryview], offset: int) -> int:
        """As Machine.read."""
        if self._blocks.start <= offset < self._blocks.stop:
            rounds = (offset - self._blocks.start) // self._blocks.step // self._distinct
            offset -= rounds * self._distinct * self._blocks.step
        return super().read(file, buffers, offset)


class Setting:
    """What a run is about: device, sizes, where the files lie."""

    def __init__(self, folder: Path, rehearse: bool) -> None:
        self.device = torch.device("cpu" if rehearse else "cuda")
        self.config = TINY if rehearse else PUBLIC
        self.vae = TINY_VAE if rehearse else {}
        self.size = (64, 96) if rehearse else (544, 992)
        self.layers = 6 if rehearse else ALL_LAYERS
        self.rival_layers = 3 if rehearse else RIVAL_LAYERS
        self.folder = folder

    def files(self, *, int8: bool = False) -> tuple[Path, Machine]:
        """A checkpoint folder of the transformer, and the machine that reads all its blocks from the few written."""
        config = {**self.config, "num_layers": self.layers}
        folder = self.folder / f"transformer{'-int8' if int8 else ''}"
        stride = unit_bytes(config, int8=int8)
        distinct = next((n for n in range(2, self.layers) if n * stride % ALIGNMENT == 0), self.layers)
        written = {*range(distinct + 1), self.layers - 1}
        self._written(folder, "transformer", config, int8=int8, written=written)
        entries = ComponentFiles(folder, "transformer").entries
        first = min(entry.offset for name, entry in entries.items() if name.startswith(f"{UNITS['transformer']}.0."))
        blocks = range(first, first + (self.layers - 1) * stride, stride)
        return folder, RepeatingMachine(self.device, blocks, distinct)

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
        """Latents, prompt and CLIP embeddings: the same in every process."""
        llm_width, clip_width = self.config["caption_channels"]
        chance = torch.Generator().manual_seed(7)
        latents = torch.randn(video.latent_shape(self.config["in_channels"]), generator=chance)
        embeds = (
            torch.randn(1, n, width, generator=chance) for n, width in ((PROMPT_TOKENS, llm_width), (77, clip_width))
        )
        return latents.to(self.device), *(each.to(torch.bfloat16) for each in embeds)

    def finish(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def unit_bytes(config: dict[str, Any], *, int8: bool) -> int:
    """Bytes of one block in the file."""
    params = TransformerParams.from_config({**config, "num_layers": 1})
    with torch.device("meta"):
        block = Block(params).to(torch.bfloat16)
    return sum(tensor.nbytes for tensor in (int8_block(block) if int8 else block).state_dict().values())


def ours(setting: Setting, frames: int, kinds: Sequence[str], *, int8: bool = False) -> Rows:
    """Our runtime with blocks of these kinds in turn: resident, pinned, direct."""
    memory, plan = open_ours(setting, frames, int8=int8, budgets=Budgets(1 << 40, 1 << 40))
    plan = replace(plan, transformer=in_turn(plan.transformer, kinds))
    memory.set_plan(plan)
    yield predicted(setting, plan, int8=int8)
    yield run_ours(setting, memory, frames)
    memory.release()


def under_budget(setting: Setting, frames: int, vram_gb: int) -> Rows:
    """The planner's own plan for a budget: what it promised and what happened."""
    budgets = Budgets(vram_gb * GB, free_ram())
    memory, plan = open_ours(setting, frames, int8=False, budgets=budgets)
    yield {
        "budget_gb": vram_gb,
        "predicted_vram_gb": plan.summary()["vram_peak_gb"],
        "resident": len(plan.transformer.resident),
        "texts_kept_gb": plan.summary()["texts_kept_gb"],
    }
    notices: list[str] = []
    memory.notify = lambda code, **values: notices.append(code)  # a plan that is stepped down promised too much
    row = run_ours(setting, memory, frames)
    took = budget.peak_vram(setting.device)
    yield row | {"kept": took <= budgets.vram_bytes, "vram_gb": round(took / GB, 2), "notices": notices}
    memory.release()


def ti2v(setting: Setting, frames: int, vram_gb: int) -> Rows:
    """Two steps and the decoding through the whole model, given embeddings, within a budget."""
    video, budgets = setting.video(frames), Budgets(vram_gb * GB, free_ram())
    folder, machine = setting.files()
    parts = {"transformer": folder, "vae": setting.vae_files()}
    memory = MemoryManager(parts, RuntimeConfig(setting.device, torch.bfloat16, budgets), machine=machine)
    budget.reset_peaks(setting.device)
    began = time.perf_counter()
    latents, *embeds = setting.inputs(video)
    conditions = [Condition(*embeds)] * 2
    with memory.transformer(video) as transformer:
        for step in range(2):
            velocities = transformer.velocities(latents, step / 2, conditions, image_latents=latents, motion_score=5.0)
            latents = latents + sum(velocities) / 4
        setting.finish()
    stepped = time.perf_counter()
    yield {"budget_gb": vram_gb, "steps_seconds": round(stepped - began, 2)} | device_peaks(setting.device)
    with memory.vae(video) as vae:
        count = sum(len(piece) for piece in vae.decode_chunks(latents))
    took = budget.peak_vram(setting.device)
    yield {
        "decode_seconds": round(time.perf_counter() - stepped, 2),
        "decoded_frames": count,
        "kept": took <= budgets.vram_bytes or setting.device.type == "cpu",
        "vram_gb": round(took / GB, 2),
    } | device_peaks(setting.device)


def open_ours(setting: Setting, frames: int, *, int8: bool, budgets: Budgets) -> tuple[MemoryManager, Plan]:
    weights = WeightMode.INT8 if int8 else WeightMode.NONE
    runtime = RuntimeConfig(setting.device, torch.bfloat16, budgets, weights=weights)
    folder, machine = setting.files(int8=int8)
    memory = MemoryManager({"transformer": folder}, runtime, machine=machine)
    return memory, memory.plan(setting.video(frames))


def predicted(setting: Setting, plan: Plan, *, int8: bool) -> dict[str, Any]:
    """What the planner says of the same plan, with speeds measured here."""
    runtime = RuntimeConfig(
        device=setting.device,
        dtype=torch.bfloat16,
        budgets=Budgets(1 << 40, 1 << 40),
        weights=WeightMode.INT8 if int8 else WeightMode.NONE,
        speeds=load_speeds(setting.folder, setting.device),
    )
    folder, _ = setting.files(int8=int8)
    request = PlanCache(SizeCache({"transformer": folder}, runtime.dtype), runtime).request(plan.video)
    return {
        "predicted_gb": round(planner.phase_bytes(request, plan)["denoise"] / GB, 2),
        "predicted_block_seconds": round(planner.step_seconds(request, plan) / setting.layers, 5),
    }


def in_turn(plan: ComponentPlan, kinds: Sequence[str]) -> ComponentPlan:
    """The plan with units of these sources in turn."""
    source = tuple(kinds[unit % len(kinds)] for unit in range(plan.units))
    resident = tuple(unit for unit in range(plan.units) if source[unit] == "resident")
    return replace(plan, resident=resident, slots=0 if len(resident) == plan.units else 2, source=source)


def run_ours(setting: Setting, memory: MemoryManager, frames: int) -> dict[str, Any]:
    video = setting.video(frames)
    latents, *embeds = setting.inputs(video)
    conditions = [Condition(*embeds)] * 2
    velocities: list[Tensor] = []
    with memory.transformer(video) as transformer:

        def step() -> None:
            velocities[:] = transformer.velocities(latents, 0.5, conditions, image_latents=latents, motion_score=5.0)

        row = measure(setting, step, setting.layers)
        used = memory.usage()
    return row | {
        "pinned_gb": round((used.pinned_bytes + used.staging_bytes) / GB, 2),
        "bits": bits_of(velocities),  # of every plan and number of frames the same
    }


def measure(setting: Setting, step: Callable[[], object], layers: int) -> dict[str, Any]:
    """Seconds per block of steps back to back, after those that load; peaks of all of them.

    Between the device's events around several steps no copy for the next step is left over that the last one waits for.
    """
    device = setting.device
    budget.reset_peaks(device)
    began = time.perf_counter()
    step()
    setting.finish()
    first = time.perf_counter() - began
    step()
    setting.finish()
    reserved = ever_reserved(device)
    seconds = seconds_of(device, step, TIMED_STEPS) / layers
    row = {"block_seconds": round(seconds, 5), "first_step_seconds": round(first, 2), "layers": layers}
    row |= {"reserved_later": ever_reserved(device) - reserved, "clocks": clocks(device)}
    return row | device_peaks(device)


def rival(setting: Setting, frames: int, offload: Callable[[Setting, Transformer], None]) -> Rows:
    """A library's offloading of some of the same blocks, both conditions as one batch."""
    layers = setting.rival_layers
    params = TransformerParams.from_config({**setting.config, "num_layers": layers})
    with torch.device("meta"):
        module = Transformer(params)
    if PINNED_COPY * 2 * sum(parameter.numel() for parameter in module.parameters()) > free_ram():
        yield {"failed": "too little RAM for a pinned copy of the blocks"}
        return
    module = module.to(torch.bfloat16).to_empty(device="cpu").requires_grad_(False).eval()
    for parameter in module.parameters():
        parameter.normal_(std=0.02)
    given = setting.inputs(setting.video(frames))
    latents, prompt, clip = (each.to(setting.device).expand(2, *each.shape[1:]) for each in given)
    mask = torch.ones(2, 77 + PROMPT_TOKENS, dtype=torch.bool, device=setting.device)
    offload(setting, module)
    moment = torch.full((2,), 0.5, device=setting.device)
    step = partial(module, latents, moment, prompt, clip, mask, latents, 5.0)
    yield measure(setting, step, layers) | {"pinned_gb": round(pinned_bytes(setting) / GB, 2)}


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
    "ours_resident": partial(ours, kinds=["resident"]),
    "ours_pinned": partial(ours, kinds=["pinned"]),
    "ours_mixed": partial(ours, kinds=["pinned", "direct"]),
    "ours_disk": partial(ours, kinds=["direct"]),
    "ours_int8_pinned": partial(ours, kinds=["pinned"], int8=True),
    **{f"budget_{gb}": partial(under_budget, vram_gb=gb) for gb in (80, 24, 16)},
    "ti2v_24": partial(ti2v, vram_gb=24),
    "diffusers_stream": partial(rival, offload=with_diffusers),
    "accelerate_cpu": partial(rival, offload=with_accelerate),
    "mmgp": partial(rival, offload=with_mmgp),
}
LIBRARIES = {"diffusers_stream": "diffusers", "accelerate_cpu": "accelerate", "mmgp": "mmgp"}


def floor(setting: Setting, frames: int) -> Rows:
    """What no runtime can beat on this machine; nothing in it depends on `frames`."""
    device, on_gpu = setting.device, setting.device.type == "cuda"
    nbytes, side = (1 << 30, 8192) if on_gpu else (1 << 24, 256)
    source = torch.zeros(nbytes, dtype=torch.uint8, pin_memory=on_gpu)
    target = torch.empty_like(source, device=device)
    link = nbytes / best_of(device, lambda: target.copy_(source, non_blocking=True))
    left, right = torch.randn(2, side, side, device=device).to(torch.bfloat16)
    speed = 2 * side**3 / best_of(device, lambda: left @ right)
    width, tokens = setting.config["num_attention_heads"] * 128, setting.video(17).tokens
    rows = {}
    for chunks in (1, 3, 6, 12):
        n = tokens * chunks
        flop = 2 * (28 * width**2 * n + 4 * n**2 * width + 4 * n * (77 + PROMPT_TOKENS) * width)
        rows[17 * chunks] = {"compute_seconds": round(flop / speed, 5), "link_seconds": round(32 * width**2 / link, 5)}
    heads = torch.randn(3, 1, tokens, width // 128, 128, device=device).to(torch.bfloat16)
    yield {
        "gpu": torch.cuda.get_device_name() if on_gpu else None,
        "link_gbps": round(link / 1e9, 2),
        "tflops": round(speed / 1e12, 1),
        "attention_kernel": kernels(device, lambda: attention(*heads))[0][0],
        "clocks": clocks(device),
        "per_block": rows,
    } | device_peaks(device)
