"""A tiny checkpoint with enough blocks for plans to differ, its slow twin, and managers for it.

GPU tests import this on a machine with torch, numpy, safetensors and psutil alone; random numbers stand for CLIP there.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.checkpoint import build as build_network
from models.checkpoint import read_into
from models.geometry import VideoShape
from models.quantized import int8_block, int8_network
from models.transformer import TransformerParams
from studio.memory.allocator import Machine
from studio.memory.manager import Condition, MemoryManager
from studio.memory.plan import Budgets, ComponentPlan, Plan, RuntimeConfig, TextPlan
from tests.memory.random_checkpoint import HAS_CLIP, Sizes, write_checkpoint

BLOCKS, LAYERS = 5, 3
CPU = torch.device("cpu")
VIDEO = VideoShape(17, 32, 48)
TEXTS = [torch.tensor([[1, 5, 9, 6, 2]]), torch.tensor([[1, 7, 2]])]
CLIP_TEXTS = [(torch.arange(77)[None] % 5, (torch.arange(77) < length).long()[None]) for length in (9, 4)]
PARTS = ("transformer", "step_llm", "clip", "vae")


def write_model(folder: Path, dtype: torch.dtype = torch.float32, *, takes_image: bool = True) -> Path:
    """A checkpoint in three shards per network: of TI2V, or of T2V."""
    sizes = Sizes(layers=BLOCKS, llm_layers=LAYERS, takes_image=takes_image)
    return write_checkpoint(folder, sizes, dtype, shards=3)


def open_manager(
    parts: Path | Mapping[str, Path],
    *,
    dtype: torch.dtype = torch.float32,
    machine: Machine | None = None,
    **options: Any,
) -> MemoryManager:
    """parts: one folder for all, or one each. options: further fields of RuntimeConfig."""
    budgets = Budgets(vram_bytes=0, ram_bytes=2 << 30)
    folders = parts if isinstance(parts, Mapping) else dict.fromkeys(PARTS, parts)
    return MemoryManager(folders, RuntimeConfig(CPU, dtype, budgets, **options), machine=machine)


def encode_clip(manager: MemoryManager) -> list[Tensor]:
    """The texts' CLIP embeddings (1, 77, d) each."""
    return manager.clip(CLIP_TEXTS) if HAS_CLIP else [_clip_stand_in(seed) for seed in range(len(CLIP_TEXTS))]


def _clip_stand_in(seed: int) -> Tensor:
    return torch.randn(1, 77, Sizes.clip_width, generator=torch.Generator().manual_seed(seed))


def noise(seed: int = 0) -> Tensor:
    return torch.randn(1, 3, 4, 2, 3, generator=torch.Generator().manual_seed(seed))


def with_sources(plan: Plan, transformer: list[str], step_llm: list[str], slots: int, *, compact: bool = True) -> Plan:
    """The plan with these sources per unit."""

    def component(base: ComponentPlan, sources: list[str]) -> ComponentPlan:
        resident = tuple(unit for unit, kind in enumerate(sources) if kind == "resident")
        return replace(base, resident=resident, source=tuple(sources), slots=slots)

    return replace(
        plan,
        transformer=component(plan.transformer, transformer),
        step_llm=component(plan.step_llm, step_llm),
        compact_decode=compact,
    )


def with_texts_kept(manager: MemoryManager, plan: Plan, source: str = "cached") -> Plan:
    """The plan, but keys and values of the texts are kept, which for so small a model the planner does not choose."""
    sizes = manager._plans.request(plan.video).sizes
    texts = TextPlan(sizes.kept_text_bytes(2), source)
    kept = replace(plan.transformer, unit_bytes=sizes.transformer_without_text.unit_bytes, texts=texts)
    return replace(plan, transformer=kept)


def generate(manager: MemoryManager, steps: int = 2) -> tuple[Tensor, Tensor]:
    """Text to latents to frames, as the recipe does it: (latents, frames)."""
    latents = denoise(manager, steps)
    with manager.vae(VIDEO) as vae:
        return latents, torch.cat(list(vae.decode_chunks(latents)))


def denoise(manager: MemoryManager, steps: int = 2, cancelled: Callable[[], bool] = lambda: False) -> Tensor:
    """Text to latents."""
    conditions = encode(manager)
    latents, given = noise(), image_inputs(manager._plans.request(VIDEO).sizes.architecture.transformer)
    with manager.transformer(VIDEO) as transformer:
        for step in range(steps):
            first, second = transformer.velocities(latents, step / steps, conditions, cancelled=cancelled, **given)
            latents = latents + (second + 4.0 * (first - second)) / steps
    return latents


def encode(manager: MemoryManager) -> list[Condition]:
    """Both texts."""
    prompts, clips = manager.step_llm(TEXTS), encode_clip(manager)
    return [Condition(prompt, clip) for prompt, clip in zip(prompts, clips, strict=True)]


def image_inputs(params: TransformerParams) -> dict[str, Any]:
    """What TI2V takes besides; nothing for T2V."""
    return {"image_latents": torch.zeros_like(noise()), "motion_score": 5.0} if params.takes_image else {}


@torch.inference_mode()
def slow_twin(
    parts: Path | Mapping[str, Path], dtype: torch.dtype, steps: int = 2, compute: str = "weight"
) -> tuple[Tensor, Tensor]:
    """The same with every network in ordinary memory. compute: how int8 blocks multiply."""
    folders = parts if isinstance(parts, Mapping) else dict.fromkeys(PARTS, parts)
    llm, transformer = load(folders["step_llm"], "step_llm", dtype), load(folders["transformer"], "transformer", dtype)
    clip = load(folders["clip"], "clip", torch.float32) if HAS_CLIP else None
    if compute == "int8":
        for block in transformer.transformer_blocks:
            int8_block(block, compute=compute)
    clips = [_clip_stand_in(seed) if clip is None else clip(*pair) for seed, pair in enumerate(CLIP_TEXTS)]
    conditions = list(zip([llm(ids) for ids in TEXTS], clips, strict=True))
    latents = noise()
    for step in range(steps):
        velocities = []
        for prompt, seen in conditions:
            moment = torch.tensor([step / steps])
            hidden = transformer.embed(latents, moment, prompt, seen, **image_inputs(transformer.params))
            for block in transformer.transformer_blocks:
                block(hidden)
            velocities.append(transformer.head(hidden).float())
        first, second = velocities
        latents = latents + (second + 4.0 * (first - second)) / steps
    vae = load(folders["vae"], "vae", dtype)
    return latents, torch.cat([piece[0] for piece in vae.decode_chunks(latents.to(dtype))])


def load(folder: Path, component: str, dtype: torch.dtype) -> Any:
    """A network with its tensors in memory of their own; int8 units keep their codes and scales."""
    module, files = build_network(folder, component)
    module.to(dtype)
    if files.is_int8:
        int8_network(module, component)
    tensors = {name: torch.empty(like.shape, dtype=like.dtype) for name, like in module.state_dict().items()}
    for name, tensor in tensors.items():
        read_into(files.entries[name], tensor)
    module.load_state_dict(tensors, assign=True)
    return module.eval().requires_grad_(False)
