"""What only a CUDA device can show of the memory room."""

import random
from dataclasses import replace

import pytest
import torch

from models.attention import attention
from studio.memory.allocator import ON_DEVICE, Allocator, BufferKind, Machine
from studio.memory.manager import Condition, MemoryManager
from studio.memory.plan import Budgets, RuntimeConfig, Sharing
from studio.memory.usage import CUDA_CONTEXT_BYTES, cap_vram
from studio.units import GB
from tests.memory.tiny_model import (
    BLOCKS,
    LAYERS,
    PARTS,
    VIDEO,
    denoise,
    encode,
    generate,
    noise,
    open_manager,
    with_sources,
    with_texts_kept,
    write_model,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]
SOURCES = ("resident", "pinned", "cached", "direct")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"), torch.bfloat16)


def open_on_gpu(folder, machine: Machine | None = None, sharing: Sharing | None = None) -> MemoryManager:
    budgets = Budgets(vram_bytes=8 * GB, ram_bytes=8 * GB)
    config = RuntimeConfig(torch.device("cuda"), torch.bfloat16, budgets, sharing=sharing)
    return MemoryManager(dict.fromkeys(PARTS, folder), config, machine=machine)


def test_every_plan_gives_the_bits_of_all_resident(folder):
    manager = open_on_gpu(folder)
    base = manager.plan(VIDEO)
    manager.set_plan(with_sources(base, ["resident"] * BLOCKS, ["resident"] * LAYERS, 0))
    wanted = denoise(manager, steps=3)
    for seed in range(20):
        chance = random.Random(seed)
        blocks, layers = ([chance.choice(SOURCES) for _ in range(count)] for count in (BLOCKS, LAYERS))
        plan = with_sources(base, blocks, layers, chance.randint(1, 3))
        manager.set_plan(with_texts_kept(manager, plan) if seed % 2 else plan)
        assert torch.equal(denoise(manager, steps=3), wanted), (blocks, layers)
    manager.release()


def test_refused_registration_gives_the_same_bits(folder):
    class NeverRegisters(Machine):
        def register(self, memory):
            return False

    wanted = denoise(open_on_gpu(folder))
    manager = open_on_gpu(folder, NeverRegisters(torch.device("cuda")))
    manager.set_plan(with_sources(manager.plan(VIDEO), ["pinned"] * BLOCKS, ["direct"] * LAYERS, 2))
    assert torch.equal(denoise(manager), wanted)
    manager.release()


def test_two_managers_register_the_one_copy_and_have_the_bits_of_one(folder):
    wanted = denoise(open_on_gpu(folder))
    first, second = (open_on_gpu(folder, sharing=Sharing(2)) for _ in range(2))
    first.set_plan(with_sources(first.plan(VIDEO), ["pinned"] * BLOCKS, ["direct"] * LAYERS, 2))
    second.follow(first.lead(VIDEO, [second.budgets]))
    for manager in (first, second, first):
        assert torch.equal(denoise(manager), wanted)
    copies = [manager._streamed["transformer"]._pinned.registered(0) for manager in (first, second)]
    assert all(copy.is_pinned() for copy in copies) and copies[0].data_ptr() != copies[1].data_ptr()
    copies[0][:8] = 7
    assert copies[1][:8].tolist() == [7] * 8, "one memory"
    del copies
    for manager in (first, second):
        manager.release()


def test_registered_memory_is_page_locked_and_returned():
    allocator = Allocator(Machine(torch.device("cuda")))
    buffer = allocator.allocate(BufferKind.PINNED, 3 << 20, register=True)
    assert buffer.registered and buffer.memory.is_pinned()
    buffer.release()
    allocator.check()


def requested() -> int:
    """Bytes that were asked of PyTorch's allocator and not given back; what it counts as allocated is rounded up."""
    return torch.cuda.memory_stats()["requested_bytes.all.current"]


def test_the_account_is_what_the_allocator_counts_and_steps_take_no_new_segment(folder):
    manager = open_on_gpu(folder)
    denoise(manager)
    manager.release()
    before = requested()  # the workspaces of cuBLAS, which stay
    manager.set_plan(with_sources(manager.plan(VIDEO), ["resident", *["pinned"] * 4], ["direct"] * LAYERS, 2))
    denoise(manager, steps=2)
    torch.cuda.synchronize()
    assert requested() - before == manager._allocator.allocated(*ON_DEVICE)
    with manager.transformer(VIDEO) as transformer:
        conditions = [Condition(torch.zeros(1, 2, 64), torch.zeros(1, 77, 32))]
        reserved = []
        for _ in range(4):
            transformer.velocities(noise(), 0.0, conditions, image_latents=noise(), motion_score=5.0)
            reserved.append(torch.cuda.memory_stats()["reserved_bytes.all.allocated"])  # ever, not now
    del transformer  # a session holds its rotary tables and contexts of texts
    assert reserved[1:] == reserved[:1] * 3
    manager.release()
    assert requested() == before


def test_a_step_never_waits_for_a_copy_from_ram(folder):
    """From its second pass on, latents on the device: PyTorch raises where an operator would wait for the GPU."""
    manager = open_on_gpu(folder)
    base = manager.plan(VIDEO)
    streamed = with_sources(base, ["resident", *["pinned"] * 4], ["direct"] * LAYERS, 2)
    for plan in (streamed, with_texts_kept(manager, streamed)):
        manager.set_plan(plan)
        conditions, latents = encode(manager), noise().cuda()
        with manager.transformer(VIDEO) as transformer:
            image = noise()
            given = {"image_latents": image, "motion_score": 5.0}
            wanted = transformer.velocities(latents, 0.5, conditions, **given)
            torch.cuda.set_sync_debug_mode("error")
            try:
                found = transformer.velocities(latents, 0.5, conditions, **given)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        assert all(torch.equal(*pair) for pair in zip(found, wanted, strict=True))
    manager.release()


def test_the_budget_is_a_cap_and_what_is_over_it_is_refused(folder):
    manager = open_on_gpu(folder)
    with pytest.raises(torch.OutOfMemoryError):
        torch.empty(8 * GB, dtype=torch.uint8, device="cuda")  # less than the card has, but the context counts too
    del manager
    cap_vram(torch.device("cuda"), torch.cuda.get_device_properties(0).total_memory + CUDA_CONTEXT_BYTES)


def test_decoded_frames_are_those_of_the_cpu_and_of_every_plan(folder):
    """bfloat16 keeps 8 bits: frames in -1..1 may differ by a few of their 256 steps, on average by less than one."""
    latents = noise()
    with open_manager(folder, dtype=torch.bfloat16).vae(VIDEO) as vae:
        wanted = torch.cat(list(vae.decode_chunks(latents))).float()
    found = []
    for compact in (False, True):
        manager = open_on_gpu(folder)
        manager.set_plan(replace(manager.plan(VIDEO), compact_decode=compact))
        with manager.vae(VIDEO) as vae:
            found.append(torch.cat(list(vae.decode_chunks(latents))).float())
        assert found[-1].shape == wanted.shape and (found[-1] - wanted).abs().mean() < 2 / 256
        manager.release()
    assert torch.equal(*found)


def test_attention_with_heads_of_512_builds_no_square():
    tokens = 16384
    q, k, v = torch.randn(3, 1, tokens, 1, 512, device="cuda", dtype=torch.bfloat16)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    seen = attention(q, k, v, causal=True)
    assert torch.cuda.max_memory_allocated() - before < tokens**2 / 2
    assert torch.allclose(
        seen[0, :2].float(), attention(q[:, :2], k[:, :2], v[:, :2], causal=True)[0].float(), atol=1e-2
    )


def test_a_budget_too_small_for_the_plan_steps_it_down_with_the_same_bits(folder):
    manager = open_on_gpu(folder)
    wanted, _ = generate(manager)
    refusals = iter([0, 0, 1, 0, 0, 1])

    def refuse() -> bool:
        if next(refusals, 0):
            torch.empty(1 << 50, dtype=torch.uint8, device="cuda")  # 1 PiB
        return False

    assert torch.equal(denoise(manager, cancelled=refuse), wanted)
    manager.release()
