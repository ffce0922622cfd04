"""The manager: every plan gives the same bits; counts agree after success, cancel and failure; nothing is left over."""

import os
import random
from itertools import product

import pytest
import torch

from studio.checkpoints.quantize import int8_folders, quantize
from studio.errors import Cancelled, StudioError
from studio.memory.allocator import BufferKind, Machine
from studio.memory.manager import Condition, MemoryManager
from studio.memory.plan import WeightMode
from studio.memory.streaming.backends import CpuBackend
from tests.memory.tiny_model import (
    BLOCKS,
    CLIP_TEXTS,
    CPU,
    LAYERS,
    PARTS,
    TEXTS,
    VIDEO,
    denoise,
    encode,
    generate,
    noise,
    open_manager,
    slow_twin,
    with_sources,
    with_texts_kept,
    write_model,
)

SOURCES = ("resident", "pinned", "cached", "direct")
DTYPES = (torch.float32, torch.bfloat16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"), torch.bfloat16)


@pytest.fixture(scope="module")
def twins(folder):
    return {dtype: slow_twin(folder, dtype) for dtype in DTYPES}


@pytest.fixture(scope="module")
def int8_parts(folder):
    parts = dict.fromkeys(PARTS, folder)
    quantize(parts, lambda text: None)
    return int8_folders(parts)


@pytest.fixture(scope="module")
def int8_twins(int8_parts):
    return {dtype: slow_twin(int8_parts, dtype)[0] for dtype in DTYPES}


def often(few: int, many: int):
    """`seeds` of a few random plans in the default run, and of many in the slow one."""
    return pytest.mark.parametrize("seeds", [range(few), pytest.param(range(many), marks=pytest.mark.slow)], ids=str)


def draw_sources(chance: random.Random, count: int) -> list[str]:
    return [chance.choice(SOURCES) for _ in range(count)]


@often(few=6, many=60)
def test_every_plan_gives_the_bits_of_the_slow_twin(folder, twins, seeds):
    for seed in seeds:
        chance = random.Random(seed)
        blocks, layers = draw_sources(chance, BLOCKS), draw_sources(chance, LAYERS)
        slots, dtype = chance.randint(1, 3), chance.choice(DTYPES)
        manager = open_manager(folder, dtype=dtype)
        manager.set_plan(with_sources(manager.plan(VIDEO), blocks, layers, slots))
        assert torch.equal(denoise(manager), twins[dtype][0]), (blocks, layers, slots, dtype)
        manager.release()
        assert manager.usage().pinned_bytes == 0


@often(few=4, many=40)
def test_every_int8_plan_gives_the_bits_of_the_int8_twin(int8_parts, int8_twins, seeds):
    for seed in seeds:
        chance = random.Random(seed)
        blocks, slots, dtype = draw_sources(chance, BLOCKS), chance.randint(1, 3), chance.choice(DTYPES)
        manager = open_manager(int8_parts, dtype=dtype, weights=WeightMode.INT8)
        plan = manager.plan(VIDEO)
        manager.set_plan(with_sources(plan, blocks, ["direct"] * LAYERS, slots))
        assert torch.equal(denoise(manager), int8_twins[dtype]), (blocks, slots, dtype)
        if "resident" in blocks:
            assert manager.usage().scratch_bytes == plan.transformer.scratch_bytes > 0
        manager.release()
        assert manager.usage().scratch_bytes == 0


@often(few=3, many=30)
def test_every_plan_that_computes_in_int8_gives_the_bits_of_one_that_is_resident(int8_parts, seeds):
    def made(dtype: torch.dtype, blocks: list[str], slots: int) -> torch.Tensor:
        manager = open_manager(int8_parts, dtype=dtype, weights=WeightMode.INT8_COMPUTE)
        plan = with_sources(manager.plan(VIDEO), blocks, ["direct"] * LAYERS, slots)
        manager.set_plan(plan)
        latents = denoise(manager)
        assert plan.transformer.scratch_bytes == manager.usage().scratch_bytes == 0
        manager.release()
        return latents

    wanted = {dtype: made(dtype, ["resident"] * BLOCKS, 1) for dtype in DTYPES}
    for seed in seeds:
        chance = random.Random(seed)
        blocks, slots, dtype = draw_sources(chance, BLOCKS), chance.randint(1, 3), chance.choice(DTYPES)
        assert torch.equal(made(dtype, blocks, slots), wanted[dtype]), (blocks, slots, dtype)


def test_computing_in_int8_is_the_slow_twins_and_near_but_not_the_other_modes(int8_parts, int8_twins, twins):
    manager = open_manager(int8_parts, weights=WeightMode.INT8_COMPUTE)
    made = denoise(manager)
    with torch.inference_mode():
        assert torch.equal(made, slow_twin(int8_parts, torch.float32, compute="int8")[0])
    for other in (int8_twins[torch.float32], twins[torch.float32][0]):
        assert not torch.equal(made, other)
        assert (made - other).norm() < 0.1 * other.norm()


def test_every_mode_gives_the_bits_of_the_slow_twin(folder, twins):
    for offload, sources in (
        ("auto", set(SOURCES)),
        ("none", {"resident"}),
        ("blocks", {"pinned", "cached"}),
        ("disk", {"cached", "direct"}),
    ):
        manager = open_manager(folder, offload=offload)
        plan = manager.plan(VIDEO).transformer
        latents, frames = generate(manager)
        assert torch.equal(latents, twins[torch.float32][0]), offload
        # Slices of another size round otherwise; the VAE's own tests bound that.
        assert torch.allclose(frames, twins[torch.float32][1], atol=5e-6), offload
        assert set(plan.source) <= sources, offload
        manager.release()


def with_drawn_texts_kept(manager: MemoryManager, chance: random.Random, slots: int):
    blocks = draw_sources(chance, BLOCKS)
    plan = with_sources(manager.plan(VIDEO), blocks, ["direct"] * LAYERS, slots)
    return with_texts_kept(manager, plan, chance.choice(("cached", "direct")))


@often(few=1, many=20)
def test_kept_texts_give_the_bits_of_texts_projected_in_every_pass(
    tmp_path, folder, twins, int8_parts, int8_twins, seeds
):
    t2v = write_model(tmp_path, torch.bfloat16, takes_image=False)
    cases = [
        (folder, {}, {dtype: twins[dtype][0] for dtype in DTYPES}),
        (int8_parts, {"weights": WeightMode.INT8}, int8_twins),
    ]
    cases.append((t2v, {}, {dtype: slow_twin(t2v, dtype)[0] for dtype in DTYPES}))
    for seed in seeds:
        for (parts, options, wanted), dtype in product(cases, DTYPES):
            chance = random.Random(seed)
            manager = open_manager(parts, dtype=dtype, **options)
            manager.set_plan(plan := with_drawn_texts_kept(manager, chance, chance.randint(1, 3)))
            assert torch.equal(denoise(manager), wanted[dtype]), (plan.transformer, dtype, options)
            assert manager.usage().text_bytes > 0
            manager.release()
            assert manager.usage().text_bytes == 0


def test_a_text_is_projected_once_and_the_last_two_are_kept(folder, twins):
    reads: list[int] = []

    class CountingMachine(Machine):
        def read(self, file, buffers, offset):
            reads.append(offset)
            return super().read(file, buffers, offset)

    def keeping(texts: list[Condition]) -> int:
        before = len(reads)
        manager.keep_texts(VIDEO, texts)
        return len(reads) - before

    manager = open_manager(folder, machine=CountingMachine(CPU))
    manager.set_plan(with_texts_kept(manager, manager.plan(VIDEO)))
    one, two = encode(manager)
    again = Condition(one.prompt_embeds.clone(), one.clip_embeds.clone())
    other = Condition(one.prompt_embeds + 1, one.clip_embeds)
    assert keeping([one, two]) > 0 == keeping([two]) == keeping([again, two])
    kept = manager.usage().text_bytes
    assert keeping([other, two]) > 0 and manager.usage().text_bytes == kept
    assert keeping([one]) > 0 == keeping([one, two]), "the other one left"
    assert manager.usage().slot_bytes == manager.usage().staging_bytes == 0
    assert torch.equal(denoise(manager), twins[torch.float32][0])
    manager.release()


def test_a_plan_without_kept_texts_replaces_the_network_with_the_same_bits(folder, twins):
    manager = open_manager(folder)
    base = manager.plan(VIDEO)
    for plan in (with_texts_kept(manager, base), base, with_texts_kept(manager, base)):
        manager.set_plan(plan)
        assert torch.equal(denoise(manager), twins[torch.float32][0])
        assert (manager.usage().text_bytes > 0) == (plan.transformer.texts is not None)
    manager.release()


def test_keeping_texts_can_be_cancelled_and_leaves_nothing(folder):
    manager = open_manager(folder)
    manager.set_plan(with_texts_kept(manager, manager.plan(VIDEO)))
    texts, looks = encode(manager), iter([False, True])
    with pytest.raises(Cancelled):
        manager.keep_texts(VIDEO, texts, cancelled=lambda: next(looks))
    manager.check_integrity()
    assert manager.usage().text_bytes == 0
    manager.release()


def test_the_counts_follow_the_plan(folder):
    manager = open_manager(folder)
    plan = with_sources(manager.plan(VIDEO), ["resident", "pinned", "direct", "pinned", "cached"], ["direct"] * 3, 2)
    manager.set_plan(plan)
    prompts, clips = manager.step_llm(TEXTS), manager.clip(CLIP_TEXTS)
    assert manager.usage().slot_bytes == 0, "the encoders are gone"
    conditions = [Condition(prompt, clip) for prompt, clip in zip(prompts, clips, strict=True)]
    with manager.transformer(VIDEO) as transformer:
        transformer.velocities(noise(), 0.5, conditions, image_latents=noise(), motion_score=5.0)
        usage, unit = manager.usage(), plan.transformer.unit_bytes
        assert usage.resident_bytes == unit + plan.transformer.rest_bytes
        assert usage.slot_bytes == 2 * unit
        assert usage.pinned_bytes == 2 * unit
        manager.check_integrity()
    manager.release()
    usage = manager.usage()
    assert usage.resident_bytes == usage.slot_bytes == usage.pinned_bytes == usage.staging_bytes == 0


def test_between_two_phases_no_staging_buffers_are_held(folder, twins, monkeypatch):
    """The plan's RAM is the most of one phase: the transformer's buffers and Step-LLM's are not there together."""

    class CopyingBackend(CpuBackend):
        fills_slots = False  # as on a GPU: units from disk pass through staging buffers

    monkeypatch.setattr("studio.memory.manager.device_backend", lambda device: CopyingBackend())
    manager = open_manager(folder)
    manager.set_plan(with_sources(manager.plan(VIDEO), ["resident", *["direct"] * 4], ["direct"] * 3, 2))
    conditions = encode(manager)
    for _ in range(2):  # the second time, the transformer is on the device already
        with manager.transformer(VIDEO) as transformer:
            transformer.velocities(noise(), 0.5, conditions, image_latents=noise(), motion_score=5.0)
            streamer = manager._streamed["transformer"]._streamer
            assert streamer.staging_buffers == 2
        assert (streamer.staging_buffers, streamer.slots, streamer.resident_units) == (0, 2, (0,))
    assert torch.equal(denoise(manager), twins[torch.float32][0]) and streamer.staging_buffers == 0
    manager.release()


def test_a_network_stays_for_the_next_job_and_leaves_when_another_needs_the_room(folder):
    manager = open_manager(folder, offload="none")
    generate(manager)
    with manager.transformer(VIDEO) as transformer:
        conditions = [Condition(torch.zeros(1, 2, 64), torch.zeros(1, 77, 32))]
        transformer.velocities(noise(), 0.0, conditions, image_latents=noise(), motion_score=5.0)
    kept = manager.usage().resident_bytes
    assert kept > 0
    manager.release()
    assert manager.usage().resident_bytes == 0


def test_cancel_takes_effect_within_a_block_and_the_next_job_is_right(folder, twins):
    manager = open_manager(folder)
    manager.set_plan(with_sources(manager.plan(VIDEO), ["direct", "resident", "pinned", "direct", "cached"],
                                  ["direct"] * LAYERS, 2))  # fmt: skip
    calls: list[int] = []
    conditions = [Condition(torch.zeros(1, 2, 64), torch.zeros(1, 77, 32))]
    for after in (0, 1, BLOCKS - 1, BLOCKS + 2):

        def cancelled(after: int = after) -> bool:
            calls.append(1)
            return len(calls) > after

        calls.clear()
        with pytest.raises(Cancelled), manager.transformer(VIDEO) as transformer:
            for _ in range(3):
                transformer.velocities(
                    noise(), 0.0, conditions, image_latents=noise(), motion_score=5.0, cancelled=cancelled
                )
        assert len(calls) == after + 1
        manager.check_integrity()
        assert torch.equal(denoise(manager), twins[torch.float32][0]), after
    manager.release()


def test_cancel_while_text_is_encoded(folder):
    manager = open_manager(folder)
    with pytest.raises(Cancelled):
        manager.step_llm(TEXTS, cancelled=lambda: True)
    manager.release()


def test_a_failure_in_the_recipe_leaves_nothing(folder):
    manager = open_manager(folder)
    with pytest.raises(ZeroDivisionError), manager.transformer(VIDEO) as transformer:
        transformer.velocities(
            noise(), 0.0, [Condition(torch.zeros(1, 2, 64), torch.zeros(1, 77, 32))],
            image_latents=noise(), motion_score=5.0, cancelled=lambda: bool(1 // 0),
        )  # fmt: skip
    manager.check_integrity()
    assert manager.usage().resident_bytes == manager.usage().slot_bytes == 0


def test_a_model_replaced_between_jobs_is_opened_anew(tmp_path):
    write_model(tmp_path, torch.bfloat16)
    manager = open_manager(tmp_path)
    first = denoise(manager)
    for path in (tmp_path / "transformer").glob("*.safetensors"):
        os.utime(path)
    assert torch.equal(denoise(manager), first)
    manager.release()


def test_a_model_replaced_during_a_job_is_an_error_and_the_next_job_runs(tmp_path):
    write_model(tmp_path, torch.bfloat16)
    manager = open_manager(tmp_path, offload="disk")
    with pytest.raises(StudioError, match="changed while it was in use"), manager.transformer(VIDEO) as transformer:
        conditions = [Condition(torch.zeros(1, 2, 64), torch.zeros(1, 77, 32))]
        for _ in range(3):
            transformer.velocities(noise(), 0.0, conditions, image_latents=noise(), motion_score=5.0)
            for path in (tmp_path / "transformer").glob("*.safetensors"):
                os.utime(path)
    manager.check_integrity()
    generate(manager)
    manager.release()


def test_bf16_vae_and_pictures(folder):
    manager = open_manager(folder, dtype=torch.bfloat16)
    with manager.vae(VIDEO) as vae:
        picture = torch.rand(1, 1, 3, 32, 48) * 2 - 1
        mean = vae.encode_image(picture)
        moments = vae.encode_moments(picture)
    assert mean.shape == (1, 1, 4, 2, 3) and mean.dtype == torch.float32
    assert torch.equal(mean, moments[:, :, :4])
    assert manager.usage().resident_bytes == 0
    manager.release()


def test_nothing_is_read_before_it_is_needed(folder):
    before = len(os.listdir("/proc/self/fd"))
    manager = open_manager(folder)
    assert len(os.listdir("/proc/self/fd")) == before
    manager.plan(VIDEO)
    assert manager.usage().resident_bytes == 0
    manager.release()
    assert len(os.listdir("/proc/self/fd")) == before


def test_no_buffer_is_taken_during_later_steps(folder):
    manager: MemoryManager = open_manager(folder, offload="disk")
    conditions = [Condition(torch.zeros(1, 2, 64), torch.zeros(1, 77, 32))]
    held = []
    with manager.transformer(VIDEO) as transformer:
        for _ in range(4):
            transformer.velocities(noise(), 0.0, conditions, image_latents=noise(), motion_score=5.0)
            held.append(manager._allocator.allocated(*BufferKind))
    assert len(set(held)) == 1
    manager.release()
