"""Whatever is refused, at whatever moment: a clear error or the right bits, and never a leak."""

import errno
import os
from dataclasses import replace

import pytest
import torch

from models.checkpoint import CheckpointError
from models.vae_convs import Keep
from studio.errors import StudioError
from studio.memory.allocator import Machine
from studio.memory.manager import MemoryManager
from studio.memory.oom import OOM_MESSAGES, is_out_of_memory, retry_on_oom
from studio.messages import message
from tests.memory.tiny_model import (
    CPU,
    LAYERS,
    VIDEO,
    denoise,
    generate,
    noise,
    open_manager,
    slow_twin,
    with_sources,
    with_texts_kept,
    write_model,
)

MIXED = ["resident", "pinned", "direct", "cached", "resident"]


class FaultyMachine(Machine):
    """Refuses the n-th allocation, or fails the n-th read, counted from 1; `times` in a row."""

    def __init__(self, *, allocation: int = 0, read: int = 0, times: int = 1) -> None:
        super().__init__(CPU)
        self.allocation, self.fails_read, self.times = allocation, read, times
        self.allocations = self.reads = 0

    def host_memory(self, nbytes):
        self.allocations += 1
        if self.allocation <= self.allocations < self.allocation + self.times and self.allocation:
            raise MemoryError("planted")
        return super().host_memory(nbytes)

    def read(self, file, buffers, offset):
        self.reads += 1
        if self.reads == self.fails_read:
            raise OSError(errno.EIO, "Input/output error")
        return super().read(file, buffers, offset)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def twin(folder):
    with torch.inference_mode():
        return slow_twin(folder, torch.float32)


def open_mixed(folder, machine: Machine | None = None) -> MemoryManager:
    manager = open_manager(folder, machine=machine)
    plan = with_sources(manager.plan(VIDEO), MIXED, ["direct", "resident", "pinned"][:LAYERS], 2, compact=False)
    manager.set_plan(with_texts_kept(manager, plan))
    return manager


def left_nothing(manager: MemoryManager) -> bool:
    manager.check_integrity()
    manager.release()
    usage = manager.usage()
    return usage.resident_bytes == usage.slot_bytes == usage.pinned_bytes == usage.staging_bytes == 0


def count(folder) -> FaultyMachine:
    machine = FaultyMachine()
    generate(open_mixed(folder, machine))
    return machine


@pytest.mark.parametrize("stride", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_one_refused_allocation_at_every_point_in_turn_is_survived(folder, twin, stride):
    total, notices = count(folder).allocations, []
    assert total > 10
    for point in range(1, total + 1, stride):
        manager = open_mixed(folder, FaultyMachine(allocation=point))
        manager.notify = lambda code, **values: notices.append((code, values))
        latents, frames = generate(manager)
        assert torch.equal(latents, twin[0]), point
        assert torch.equal(frames, twin[1]), point
        assert left_nothing(manager)
    smaller = [values for code, values in notices if code == "plan_smaller"]
    assert min(values["resident"] for values in smaller) == min(values["llm_slots"] for values in smaller) == 1
    assert all(message(code, values) != message(code, values, "zh") for code, values in notices)


def test_memory_that_stays_refused_is_an_error_at_every_point(folder, twin):
    total = count(folder).allocations
    for point in range(1, total + 1, 6):
        machine = FaultyMachine(allocation=point, times=10_000)
        manager = open_mixed(folder, machine)
        with pytest.raises(StudioError, match="[Mm]emory ran out"):
            generate(manager)
        manager.check_integrity()
        machine.allocation = 0
        assert torch.equal(denoise(manager), twin[0]), "the next job is right"
        assert left_nothing(manager)


def test_too_many_open_files_at_every_point_in_turn(folder, twin, monkeypatch):
    """The sentence tells it; no count of bytes that went wrong on the way hides it."""
    opened, fails_at, really_open = [], 0, os.open

    def counting(path, flags, *rest, **named):
        if str(path).endswith(".safetensors"):
            opened.append(path)
            if len(opened) == fails_at:
                raise OSError(errno.EMFILE, "Too many open files")
        return really_open(path, flags, *rest, **named)

    monkeypatch.setattr(os, "open", counting)
    generate(open_mixed(folder))
    total = len(opened)
    assert total > 10
    for fails_at in range(1, total + 1, 5):  # noqa: B007 - read by the function above
        opened.clear()
        manager = open_mixed(folder)
        with pytest.raises((StudioError, CheckpointError), match="Too many open files"):
            generate(manager)
        assert torch.equal(denoise(manager), twin[0]), "the next job is right"
        assert left_nothing(manager)


def test_a_read_error_at_every_point_in_turn(folder, twin):
    total, failed, stride = count(folder).reads, 0, 9
    for point in range(1, total + 1, stride):
        manager = open_mixed(folder, machine := FaultyMachine(read=point))
        try:
            assert torch.equal(generate(manager)[0], twin[0])  # what failed was read ahead and never needed
        except StudioError as error:
            assert "cannot be read: Input/output error" in str(error)
            failed += 1
        machine.fails_read = 0  # how far is read ahead varies: the next job is not to meet what this one did not
        manager.check_integrity()
        assert torch.equal(denoise(manager), twin[0]), "the next job is right"
        assert left_nothing(manager)
    assert failed > total / stride / 2


def test_a_step_that_runs_out_in_the_middle_is_repeated_with_the_same_bits(folder, twin):
    manager = open_mixed(folder)
    refusals = iter([0, 0, 1, 0, 1, 0, 0, 0, 1])

    def refuse() -> bool:  # called between blocks, where an activation would be refused
        if next(refusals, 0):
            raise torch.OutOfMemoryError("planted")
        return False

    assert torch.equal(denoise(manager, cancelled=refuse), twin[0])
    assert left_nothing(manager)


def test_every_way_of_saying_that_memory_ran_out_is_understood():
    errors = [torch.OutOfMemoryError("planted"), MemoryError()]
    errors += [RuntimeError(f"{text}: planted") for text in OOM_MESSAGES]
    for error in errors:
        messages: list[str] = []
        tries = iter([error, error, None])

        def work(tries=tries) -> str:
            if (failure := next(tries)) is not None:
                raise failure
            return "done"

        assert retry_on_oom(work, messages.append) == "done" and messages == [str(error)] * 2
    assert not is_out_of_memory(RuntimeError("shape mismatch")) and not is_out_of_memory(OSError(12, "no memory"))


def test_memory_that_stays_refused_without_a_word_is_an_error_too(folder):
    manager = open_mixed(folder)

    def refuse() -> bool:
        raise MemoryError  # as Python itself raises it

    with pytest.raises(StudioError, match="out of memory"):
        denoise(manager, cancelled=refuse)
    assert left_nothing(manager)


def test_other_errors_of_the_runtime_are_not_taken_for_memory(folder):
    manager = open_mixed(folder)

    def fail() -> bool:
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        denoise(manager, cancelled=fail)
    assert left_nothing(manager)


def test_decoding_goes_on_from_the_frame_it_came_to(folder):
    """Three chunks with seams: whatever frame memory runs out at, the frames are those of one decode."""
    video = replace(VIDEO, frames=51)
    latents = torch.cat([noise(seed) for seed in range(3)], dim=1)
    manager = open_manager(folder)
    manager.set_plan(replace(manager.plan(video), compact_decode=True))
    with manager.vae(video) as vae:
        wanted = torch.cat(list(vae.decode_chunks(latents)))
        for frame in (16, 17, 34, 50):
            pieces = list(vae._decode_from(latents, frame, Keep.SUMS, lambda chunk: None))
            assert torch.equal(torch.cat(pieces), wanted[frame:]), frame
    assert left_nothing(manager)


def test_the_next_frames_are_launched_before_the_last_are_yielded(folder):
    """And what is not finite is refused one piece later, after the frames before it, under the number of its first."""
    manager, latents, launched = open_manager(folder), noise(0), []

    def convert(frames):
        launched.append(len(frames))
        return frames

    with manager.vae(VIDEO) as vae:
        pieces = list(vae.decode_chunks(latents))
        wanted, before = torch.cat(pieces), sum(map(len, pieces[:5]))
        for number, _ in enumerate(vae.decode_chunks(latents, convert), start=1):
            assert len(launched) == min(number + 1, len(pieces)), number
        decode_from, yielded = vae._decode_from, []

        def spoiled(*given):
            for number, piece in enumerate(decode_from(*given)):
                yield torch.full_like(piece, torch.inf) if number == 5 else piece

        def refuse(frame):
            raise RuntimeError(f"frame {frame}")

        vae._decode_from = spoiled
        with pytest.raises(RuntimeError, match=f"frame {before + 1}"):
            for piece in vae.decode_chunks(latents, refuse=refuse):
                yielded.append(piece)
    assert torch.equal(torch.cat(yielded), wanted[:before])
    assert left_nothing(manager)
