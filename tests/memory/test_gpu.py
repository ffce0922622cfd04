"""What only a CUDA device can show of the memory room."""

import random

import pytest
import torch

from studio.memory.account import ON_DEVICE, Account, Kind, Machine
from studio.memory.manager import Condition, MemoryManager
from studio.memory.plan import GB, Budgets
from tests.memory.tiny_model import BLOCKS, LAYERS, PARTS, VIDEO, denoise, generate, noise, with_sources, write_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]
SOURCES = ("resident", "pinned", "cached", "direct")
ROUNDING = 512  # PyTorch's CUDA allocator rounds sizes up to these


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"), torch.bfloat16)


def open_on_gpu(folder, machine: Machine | None = None) -> MemoryManager:
    return MemoryManager(
        dict.fromkeys(PARTS, folder),
        device=torch.device("cuda"),
        dtype=torch.bfloat16,
        budgets=Budgets(vram_bytes=8 * GB, ram_bytes=8 * GB),
        machine=machine,
    )


def test_every_plan_gives_the_bits_of_all_resident(folder):
    manager = open_on_gpu(folder)
    base = manager.plan(VIDEO)
    manager.use_plan(with_sources(base, ["resident"] * BLOCKS, ["resident"] * LAYERS, 0))
    wanted = denoise(manager, steps=3)
    for seed in range(20):
        chance = random.Random(seed)
        blocks, layers = ([chance.choice(SOURCES) for _ in range(count)] for count in (BLOCKS, LAYERS))
        manager.use_plan(with_sources(base, blocks, layers, chance.randint(1, 3)))
        assert torch.equal(denoise(manager, steps=3), wanted), (blocks, layers)
    manager.release()


def test_refused_registration_gives_the_same_bits(folder):
    class NeverRegisters(Machine):
        def register(self, memory):
            return False

    wanted = denoise(open_on_gpu(folder))
    manager = open_on_gpu(folder, NeverRegisters(torch.device("cuda")))
    manager.use_plan(with_sources(manager.plan(VIDEO), ["pinned"] * BLOCKS, ["direct"] * LAYERS, 2))
    assert torch.equal(denoise(manager), wanted)
    manager.release()


def test_registered_memory_is_page_locked_and_returned():
    account = Account(Machine(torch.device("cuda")))
    lease = account.take(Kind.ARENAS, 3 << 20, register=True)
    assert lease.registered and lease.memory.is_pinned()
    lease.release()
    account.check()


def test_the_account_is_what_the_allocator_counts_and_steps_take_no_new_segment(folder):
    manager = open_on_gpu(folder)
    manager.use_plan(with_sources(manager.plan(VIDEO), ["resident", *["pinned"] * 4], ["direct"] * LAYERS, 2))
    before = torch.cuda.memory_allocated()
    denoise(manager, steps=2)
    torch.cuda.synchronize()
    leases = [nbytes for lease, nbytes in manager._account._leases.items() if lease.kind in ON_DEVICE]
    assert torch.cuda.memory_allocated() - before == sum(-(-nbytes // ROUNDING) * ROUNDING for nbytes in leases)
    with manager.transformer(VIDEO) as transformer:
        conditions = [Condition(torch.zeros(1, 2, 64), torch.zeros(1, 77, 32))]
        reserved = []
        for _ in range(4):
            transformer.velocities(noise(), 0.0, conditions, image_latents=noise(), motion_score=5.0)
            reserved.append(torch.cuda.memory_stats()["reserved_bytes.all.allocated"])  # ever, not now
    assert reserved[1:] == reserved[:1] * 3
    manager.release()
    assert torch.cuda.memory_allocated() == before


def test_a_budget_too_small_for_the_plan_steps_it_down_with_the_same_bits(folder):
    manager = open_on_gpu(folder)
    wanted, _ = generate(manager)
    refusals = iter([0, 0, 1, 0, 0, 1])

    def refuse() -> bool:
        if next(refusals, 0):
            torch.empty(1 << 50, dtype=torch.uint8, device="cuda")
        return False

    assert torch.equal(denoise(manager, cancelled=refuse), wanted)
    manager.release()
