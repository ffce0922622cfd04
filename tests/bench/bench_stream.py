"""Streaming on a GPU: the full-size transformer with random weights, each variant in a process of its own.

    python tests/bench/bench_stream.py [--frames 17 51 102 204] [--variants ...] [--minutes 9] [--folder DIR]

Prints the floor first: bytes over link speed and FLOP over matrix speed, both measured here. Then one row per variant
and length, each appended to tests/bench/results/stream.jsonl as soon as it is measured, so that calls may be short:
what the file has for this commit is not measured again. Seconds per block are of 12 blocks in steady state, two
conditions; peaks are of one step through 48. Variants: ours resident, from pinned RAM, from disk past the page cache,
int8 from pinned RAM; under a named budget (budget_80, _24, _16), and ti2v_24: two steps and the decoding within 24 GB;
diffusers' group offloading with streams, accelerate's cpu offload, mmgp, which run both conditions as one batch.
`--rehearse` runs everything tiny on the CPU. Without a GPU it says so.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from models.transformer import Transformer, TransformerParams  # noqa: E402
from studio.memory import budget  # noqa: E402
from studio.memory.manager import Condition, MemoryManager  # noqa: E402
from studio.memory.plan import GB, Budgets, ComponentPlan, Plan, VideoShape  # noqa: E402
from tests.bench.bench_networks import machine  # noqa: E402
from tests.memory.big_model import forget, write_component  # noqa: E402

RESULTS = ROOT / "tests" / "bench" / "results" / "stream.jsonl"
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
        """A checkpoint folder of the transformer with so many layers; those above 12 share the bytes of the first."""
        folder = self.folder / f"{layers}{'-int8' if int8 else ''}"
        if not folder.exists():
            config = {**self.config, "num_layers": layers}
            write_component(folder, "transformer", config, torch.bfloat16, int8=int8, distinct=self.layers[0])
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


def ours(setting: Setting, frames: int, kind: str, *, int8: bool = False) -> dict[str, Any]:
    """Our runtime with every block of one kind: resident, pinned or direct."""
    row: dict[str, Any] = {}
    for layers in setting.layers:
        memory, plan = open_ours(setting, frames, layers, int8=int8, budgets=Budgets(1 << 40, 1 << 40))
        memory.use_plan(replace(plan, transformer=all_of(plan.transformer, kind)))
        row |= run_ours(setting, memory, frames, layers)
        memory.release()
    return row


def under_budget(setting: Setting, frames: int, vram_gb: int) -> dict[str, Any]:
    """The planner's own plan for a budget, through all blocks: what it promised and what happened."""
    layers, budgets = setting.layers[1], Budgets(vram_gb * GB, budget.free_ram())
    memory, plan = open_ours(setting, frames, layers, int8=False, budgets=budgets)
    row = run_ours(setting, memory, frames, layers)
    took = budget.peak_vram(setting.device)
    memory.release()
    return row | {
        "budget_gb": vram_gb,
        "kept": took <= budgets.vram_bytes,
        "vram_gb": round(took / GB, 2),
        "predicted_vram_gb": plan.summary()["vram_peak_gb"],
        "resident": len(plan.transformer.resident),
    }


def ti2v(setting: Setting, frames: int, vram_gb: int) -> dict[str, Any]:
    """Two steps and the decoding through the whole model, given embeddings, within a budget."""
    folder, video = setting.files(setting.layers[1]), setting.video(frames)
    if not (folder / "vae").exists():
        write_component(folder, "vae", setting.vae, torch.float32)
    budgets = Budgets(vram_gb * GB, budget.free_ram())
    memory = MemoryManager(
        {"transformer": folder, "vae": folder}, device=setting.device, dtype=torch.bfloat16, budgets=budgets
    )
    budget.reset_peaks(setting.device)
    began = time.perf_counter()
    latents, *embeds = setting.inputs(video)
    with memory.transformer(video) as transformer:
        for step in range(2):
            conditions = [Condition(*embeds)] * 2
            velocities = transformer.velocities(latents, step / 2, conditions, image_latents=latents, motion_score=5.0)
            latents = latents + sum(velocities) / 4
    stepped = time.perf_counter()
    with memory.vae(video) as vae:
        count = sum(len(piece) for piece in vae.decode_chunks(latents))
    took = budget.peak_vram(setting.device)
    return {
        "steps_seconds": round(stepped - began, 2),
        "decode_seconds": round(time.perf_counter() - stepped, 2),
        "decoded_frames": count,
        "budget_gb": vram_gb,
        "kept": took <= budgets.vram_bytes or setting.device.type == "cpu",
        "vram_gb": round(took / GB, 2),
    }


def open_ours(
    setting: Setting, frames: int, layers: int, *, int8: bool, budgets: Budgets
) -> tuple[MemoryManager, Plan]:
    memory = MemoryManager(
        {"transformer": setting.files(layers, int8=int8)},
        device=setting.device,
        dtype=torch.bfloat16,
        budgets=budgets,
        quantize="int8" if int8 else "none",
    )
    return memory, memory.plan(setting.video(frames))


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

        return measure(setting, step, layers, pinned=lambda: memory.usage().arena_bytes + memory.usage().staging_bytes)


def measure(setting: Setting, step: Callable[[], object], layers: int, pinned: Callable[[], int]) -> dict[str, Any]:
    """Timed where the network is shallow, peaks where it is whole."""
    budget.reset_peaks(setting.device)
    if layers == setting.layers[1]:
        step()
        setting.finish()
        on_gpu = setting.device.type == "cuda"
        return {
            "peak_vram_gb": round(torch.cuda.max_memory_reserved() / GB, 2) if on_gpu else 0,
            "pinned_gb": round(pinned() / GB, 2),
            "ram_gb": round(budget.peak_ram() / GB, 2),
        }
    for _ in range(WARM_STEPS):
        step()
    reserved = ever_reserved(setting)
    seconds = []
    for _ in range(TIMED_STEPS):
        setting.finish()
        began = time.perf_counter()
        step()
        setting.finish()
        seconds.append((time.perf_counter() - began) / layers)
    return {"block_seconds": round(min(seconds), 5), "reserved_later": ever_reserved(setting) - reserved}


def ever_reserved(setting: Setting) -> int:
    """Bytes that PyTorch's allocator ever took from the driver; constant where steps need no new segment."""
    return torch.cuda.memory_stats()["reserved_bytes.all.allocated"] if setting.device.type == "cuda" else 0


def rival(setting: Setting, frames: int, offload: Callable[[Setting, Transformer], None]) -> dict[str, Any]:
    """A library's offloading of the same blocks, both conditions as one batch."""
    row: dict[str, Any] = {}
    for layers in setting.layers:
        params = TransformerParams.from_config({**setting.config, "num_layers": layers})
        with torch.device("meta"):
            module = Transformer(params)
        module = module.to(torch.bfloat16).to_empty(device="cpu").requires_grad_(False).eval()
        for parameter in module.parameters():
            parameter.view(-1)[: 1 << 20].normal_(std=0.02)
            parameter.view(-1)[1 << 20 :].zero_()
        latents, prompt, clip = (each.expand(2, *each.shape[1:]) for each in setting.inputs(setting.video(frames)))
        mask = torch.ones(2, 77 + PROMPT_TOKENS, dtype=torch.bool, device=setting.device)
        offload(setting, module)
        moment = torch.full((2,), 0.5, device=setting.device)
        step = partial(module, latents, moment, prompt, clip, mask, latents, 5.0)
        row |= measure(setting, step, layers, pinned=partial(pinned_bytes, setting))
        del module, step
    return row


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


VARIANTS: dict[str, Callable[[Setting, int], dict[str, Any]]] = {
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


def floor(setting: Setting) -> dict[str, Any]:
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
    for chunks in (1, 3, 6, 12):
        n = tokens * chunks
        flop = 2 * (28 * width**2 * n + 4 * n**2 * width + 4 * n * (77 + PROMPT_TOKENS) * width)
        rows[17 * chunks] = {"compute_seconds": round(flop / speed, 5), "link_seconds": round(block_bytes / link, 5)}
    return {"link_gbps": round(link / 1e9, 2), "tflops": round(speed / 1e12, 1), "per_block": rows}


def fastest(setting: Setting, work: Callable[[], object], times: int = 6) -> float:
    seconds = []
    for _ in range(times):
        setting.finish()
        began = time.perf_counter()
        work()
        setting.finish()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def known(commit: str) -> set[tuple[str, int]]:
    """Rows of this commit that earlier calls measured."""
    lines = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    return {(line["variant"], line["frames"]) for line in lines if line["commit"] == commit}


def run_apart(setting: Setting, name: str, frames: int, seconds: float, rehearse: bool) -> dict[str, Any]:
    """One row, in a process of its own that is ended when the time is up."""
    if name == "ours_disk":
        forget(setting.folder)
    command = [sys.executable, __file__, "--child", name, "--frames", str(frames), "--folder", str(setting.folder)]
    try:
        done = subprocess.run(
            [*command, *(["--rehearse"] if rehearse else [])], capture_output=True, text=True, timeout=seconds, cwd=ROOT
        )
    except subprocess.TimeoutExpired:
        return {"failed": "the time was up"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:300]}
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", nargs="+", type=int, default=[17, 51, 102, 204])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "bench-stream")
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--child", choices=VARIANTS)
    options = parser.parse_args()
    if not options.rehearse and not torch.cuda.is_available():
        print("There is no GPU here: nothing was measured.")
        return
    setting = Setting(options.folder / ("tiny" if options.rehearse else "full"), options.rehearse)
    if options.child:
        with torch.inference_mode():
            print(json.dumps(VARIANTS[options.child](setting, options.frames[0])))
        return
    end = time.monotonic() + options.minutes * 60
    facts = machine() | {"gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None}
    print("floor", json.dumps(floor(setting)), flush=True)
    done = set() if options.rehearse else known(facts["commit"])
    for frames in options.frames:
        for name in options.variants:
            left = end - time.monotonic()
            if (name, frames) in done or left < 10:
                continue
            row = run_apart(setting, name, frames, left, options.rehearse)
            print(f"{frames} frames {name}: {json.dumps(row)}", flush=True)
            if not options.rehearse and row.get("failed") != "the time was up":
                with open(RESULTS, "a") as file:
                    file.write(json.dumps(facts | {"variant": name, "frames": frames} | row) + "\n")


if __name__ == "__main__":
    main()
