"""One video on several ranks, which are real processes: the latents of one, and one end for all."""

import dataclasses
import os
import signal
import tempfile
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from models.geometry import VideoShape
from models.transformer import TOKEN_CHUNK
from studio.config import StudioConfig, load_models, load_studio
from studio.errors import Cancelled, InputError, RankLost, StudioError
from studio.media import read_metadata, read_video
from studio.memory.plan import Sharing
from studio.memory.streaming.arena import stride
from studio.nano.checkpoint import write_checkpoint
from studio.pipeline import ranks
from studio.pipeline.engine import EngineOptions
from studio.pipeline.latents_file import read_latents
from studio.pipeline.rank_group import RankGroup
from studio.pipeline.rank_process import Opening
from studio.pipeline.ranks import Ranks
from studio.pipeline.run import Engine
from tests.pipeline.sharing import (
    LONG,
    SMALL_CHUNK,
    latents_of,
    mapped,
    opened,
    request_of,
    run_until,
    shared,
    twelve_heads,
)  # fmt: skip
from tests.tiny import TINY

# Of latents of the same video whose tokens were divided inside a chunk: float32 products of another shape may round
# otherwise. On the CPUs that were tried they are equal.
UNALIGNED = 1e-4


@pytest.fixture
def config(model_dir: Path, outputs: Path) -> StudioConfig:
    return load_studio(model_dir=str(model_dir), output_dir=str(outputs), ram_gb=4)


@pytest.fixture
def twelve(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return twelve_heads(tmp_path_factory.getbasetemp() / "twelve")


def test_two_ranks_make_the_latents_of_one_and_stop_together(
    open_tiny: Callable[..., Engine], config: StudioConfig, tmp_path: Path
) -> None:
    engine = open_tiny("step-video-t2v")
    schedules = ("constant", "falling")
    requests = {each: request_of(engine, tmp_path, f"one-{each}", guidance_schedule=each) for each in schedules}
    alone = {schedule: latents_of(request, engine) for schedule, request in requests.items()}
    assert not torch.equal(*alone.values())
    with shared(engine, config, 2) as both:
        for schedule in requests:  # two videos of one group; the falling one's last steps have a single pass
            request = request_of(engine, tmp_path, f"two-{schedule}", guidance_schedule=schedule)
            assert torch.equal(latents_of(request, both), alone[schedule]), schedule
            assert read_metadata(request.stem.with_suffix(".mp4").read_bytes())["gpus"] == 2
        with pytest.raises(InputError, match="1 heads of attention, which cannot be halved"):
            latents_of(request_of(engine, tmp_path, "unguided", cfg_scale=1.0), both)
        stopped = request_of(engine, tmp_path, "stopped")
        with pytest.raises(Cancelled):
            run_until(stopped, both, 3, lambda: True)
        other = both.ranks._peers[0].process
    assert other.exitcode == 0, "it ended by itself"
    assert read_latents(stopped.workdir / "latents.safetensors").state.step == 3
    assert torch.equal(latents_of(stopped, engine), alone["constant"]), "one rank goes on where two were stopped"


def test_whatever_ends_one_rank_ends_both_with_its_reason(
    open_tiny: Callable[..., Engine], config: StudioConfig, tmp_path: Path
) -> None:
    engine = open_tiny("step-video-t2v")
    bad = {"no_plan": {"ram_gb": 0.001}, "model_missing": {"model_dir": tmp_path}}
    for code, values in bad.items():
        others = dataclasses.replace(config, **values)
        with shared(engine, others, 2, own=config) as both, pytest.raises(StudioError) as caught:
            latents_of(request_of(engine, tmp_path, code), both)
        assert caught.value.code == code


def test_an_error_while_ranks_join_is_told_and_the_next_job_can_join(
    monkeypatch: pytest.MonkeyPatch, config: StudioConfig
) -> None:
    """The other rank, which nobody starts here, has opened the model; it joins, or it does not."""
    opening = Opening(
        load_models()["nano"], False, {}, config, EngineOptions("cpu", sharing=Sharing(2)), ("cpu", "cpu")
    )
    monkeypatch.setattr(ranks, "END_SECONDS", 0.0)
    monkeypatch.setattr(ranks, "JOIN_SECONDS", 60.0)
    cancelled = threading.Event()

    def alone(*given: object, cuda: bool) -> RankGroup:
        """A group of this process only, which is there once the job was cancelled."""
        assert cancelled.wait(60.0)
        return RankGroup(0, 1, given[2])

    def broken(*given: object, cuda: bool) -> RankGroup:
        raise ValueError("planted")

    def joining(make: Callable[..., RankGroup]) -> None:
        monkeypatch.setattr(ranks, "RankGroup", make)
        these = Ranks(opening)

        def cancel() -> bool:
            cancelled.set()
            return make is alone

        these._cancelled = cancel
        try:
            these._join()
        finally:
            these.close()
            assert not dist.is_initialized()

    for make, error in ((alone, Cancelled), (broken, ValueError), (alone, Cancelled)):
        cancelled.clear()
        with pytest.raises(error):
            joining(make)

    init = dist.init_process_group

    def halves(*given: object, **named: object) -> None:
        raise RuntimeError("planted between the two groups")

    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr(dist, "new_group", halves)
        monkeypatch.setattr(dist, "init_process_group", lambda *given, **named: init(
            "gloo", store=dist.FileStore(f"{folder}/meeting", 1), rank=0, world_size=1
        ))  # fmt: skip
        with pytest.raises(RuntimeError, match="between the two"):
            RankGroup(0, 2, Path(folder) / "other")
    assert not dist.is_initialized()


def test_four_ranks_share_passes_and_tokens_and_end_together(twelve: Path, outputs: Path, tmp_path: Path) -> None:
    engine, config = opened(twelve, outputs, "step-video-t2v")
    three_chunks = {"num_frames": 51, "infer_steps": 1}
    video = request_of(engine, tmp_path, "video-alone", **three_chunks)
    latents_of(video, engine)
    frames = read_video(video.stem.with_suffix(".mp4"))
    alone = latents_of(request_of(engine, tmp_path, "alone"), engine)
    with shared(engine, config, 4, token_chunk=SMALL_CHUNK) as four:
        video = request_of(engine, tmp_path, "video", **three_chunks)
        latents_of(video, four)
        decoded = read_video(video.stem.with_suffix(".mp4"))
        assert len(decoded) == 51 and np.array_equal(decoded, frames), "three ranks decoded a chunk each"
        request = request_of(engine, tmp_path, "four")
        assert torch.equal(latents_of(request, four), alone)
        record = read_metadata(request.stem.with_suffix(".mp4").read_bytes())
        assert (record["gpus"], record["gpu_tokens"], record["gpu_same_bits"]) == (4, [32, 16], True)
        killed = request_of(engine, tmp_path, "killed")
        peers = [peer.process for peer in four.ranks._peers]

        def kill() -> bool:  # of the unconditional half, while the conditional one computes
            if peers[-1].is_alive():
                os.kill(peers[-1].pid, signal.SIGKILL)
            return False

        with pytest.raises(RankLost, match=r"process on cpu ended \(signal 9\)"):
            run_until(killed, four, 2, kill)
    assert not any(process.is_alive() for process in peers)
    assert read_latents(killed.workdir / "latents.safetensors").state.step == 2
    with shared(engine, config, 3, token_chunk=SMALL_CHUNK) as three:  # both passes on each, a third of the heads
        assert torch.equal(latents_of(killed, three), alone), "other ranks go on where these were ended"
        stopped = request_of(engine, tmp_path, "stopped")
        with pytest.raises(Cancelled):
            run_until(stopped, three, 3, lambda: True)
    assert read_latents(stopped.workdir / "latents.safetensors").state.step == 3


def test_what_several_ranks_stream_from_ram_is_there_once(twelve: Path, outputs: Path, tmp_path: Path) -> None:
    """Three ranks, whose blocks are all pinned: one copy of them, and beside it what each has of its own."""
    engine, config = opened(twelve, outputs, "step-video-t2v", "blocks")
    given = {"infer_steps": 2}
    alone = latents_of(request_of(engine, tmp_path, "alone", **given), engine)
    with shared(engine, config, 3, "blocks", token_chunk=SMALL_CHUNK) as three:
        assert torch.equal(latents_of(request_of(three, tmp_path, "three", **given), three), alone)
        plan, memory = three.memory.plan(VideoShape(17, 64, 64)), three.memory
        blocks = plan.transformer
        assert set(blocks.source) == {"pinned"}
        whole = blocks.units * stride(blocks.unit_bytes)
        assert memory.usage().pinned_bytes == blocks.units * blocks.unit_bytes
        path = memory.lead(plan.video, []).arena.path
        assert whole <= Path(path).stat().st_blocks * 512 <= whole + stride(1)
        processes = [os.getpid(), *(peer.process.pid for peer in three.ranks._peers)]
        tables = [mapped(process, "memfd:transformer") for process in processes]
        assert all(table["Rss"] >= whole for table in tables), "each has all of them"
        assert sum(table["Pss"] for table in tables) == pytest.approx(whole, rel=0.02), "together one copy"
        assert not any(table["Private_Dirty"] > stride(1) for table in tables)
    assert mapped(os.getpid(), "memfd:transformer")["Rss"] == 0


@pytest.mark.slow
def test_out_of_memory_on_one_rank_ends_all_and_the_video_goes_on(twelve: Path, outputs: Path, tmp_path: Path) -> None:
    """Three ranks share every pass: a step that one repeats under a smaller plan would be repeated nowhere else."""
    engine, config = opened(twelve, outputs, "step-video-t2v")
    alone = latents_of(request_of(engine, tmp_path, "alone"), engine)
    flag = tmp_path / "memory-is-low"
    with shared(engine, config, 3, token_chunk=SMALL_CHUNK, low=2, flag=flag) as three:
        request, peers = request_of(engine, tmp_path, "low"), [peer.process for peer in three.ranks._peers]

        def fill() -> bool:
            flag.touch()
            return False

        with pytest.raises(StudioError, match="Memory ran out on cpu while several devices shared") as caught:
            run_until(request, three, 3, fill)
    assert caught.value.code == "rank_memory"
    assert not any(process.is_alive() for process in peers)
    step = read_latents(request.workdir / "latents.safetensors").state.step
    assert 3 <= step < LONG["infer_steps"], "the last whole step"
    with shared(engine, config, 3, token_chunk=SMALL_CHUNK) as three:
        assert torch.equal(latents_of(request, three), alone), "with memory again, it goes on"


@pytest.mark.slow
def test_pieces_of_the_real_size_give_the_bits_of_one(outputs: Path, tmp_path: Path) -> None:
    """9,408 tokens are three pieces of TOKEN_CHUNK: one rank has two, the other one, which is not whole."""
    write_checkpoint(tmp_path / "step-video-t2v", dataclasses.replace(TINY, heads=2, head_dim=8), 1)
    engine, config = opened(tmp_path, outputs, "step-video-t2v")
    given = {"num_frames": 17, "height": 896, "width": 896, "infer_steps": 2, "cfg_scale": 1.0}
    found = []
    for name, count in (("one", 1), ("two", 2)):
        request = request_of(engine, tmp_path, name, **given)
        with shared(engine, config, count) if count > 1 else nullcontext(engine) as ranks:
            roles = count > 1 and ranks.ranks.roles(2, request.settings.video_shape, guided=False).record()
            with pytest.raises(Cancelled):
                run_until(request, ranks, 1, lambda: True)  # in the second step: decoding would take minutes
        saved = read_latents(request.workdir / "latents.safetensors")
        assert saved.state.step == 1
        found.append(saved.state.latents)
    assert roles == {"gpus": 2, "gpu_tokens": [2 * TOKEN_CHUNK, 9408 - 2 * TOKEN_CHUNK], "gpu_same_bits": True}
    assert torch.equal(*found)


# Each value of each column with one of the others at least once: ranks, model, frames, guidance, source, chunk.
CASES = [
    (2, "step-video-ti2v", 17, {}, "disk", SMALL_CHUNK),
    (2, "step-video-t2v", 34, {"cfg_scale": 1.0}, "none", SMALL_CHUNK),
    (3, "step-video-ti2v", 34, {"guidance_schedule": "falling"}, "blocks", SMALL_CHUNK),
    (3, "step-video-t2v", 17, {"cfg_scale": 1.0}, "disk", 4096),
    (4, "step-video-ti2v", 17, {"guidance_schedule": "falling"}, "none", SMALL_CHUNK),
    (4, "step-video-t2v", 17, {}, "blocks", 4096),
    (4, "step-video-ti2v", 34, {"cfg_scale": 1.0}, "disk", SMALL_CHUNK),
]


@pytest.mark.slow
def test_every_way_of_sharing_makes_the_latents_of_one(twelve: Path, outputs: Path, tmp_path: Path) -> None:
    for number, (count, name, frames, fields, offload, chunk) in enumerate(CASES):
        engine, config = opened(twelve, outputs, name, offload)
        given = {"num_frames": frames, **fields}
        alone = latents_of(request_of(engine, tmp_path, f"one-{number}", **given), engine)
        with shared(engine, config, count, offload, token_chunk=chunk) as ranks:
            request = request_of(engine, tmp_path, f"shared-{number}", **given)
            found = latents_of(request, ranks)
        case = CASES[number]
        record = read_metadata(request.stem.with_suffix(".mp4").read_bytes())
        assert record["gpu_same_bits"] == (chunk == SMALL_CHUNK), case
        if record["gpu_same_bits"]:
            assert torch.equal(found, alone), case
        assert float((found - alone).norm() / alone.norm()) <= UNALIGNED, case
        engine.memory.release()


@pytest.mark.slow
def test_nano_on_two_and_four_ranks_has_the_latents_of_one(outputs: Path, tmp_path: Path) -> None:
    engine, config = opened(Path("assets/nano").resolve().parent, outputs, "nano")
    for count, given in ((4, {}), (2, {"cfg_scale": 1.0, "num_frames": 34})):
        fields = {"first_image": None, **given}
        alone = latents_of(request_of(engine, tmp_path, f"one-{count}", **fields), engine)
        with shared(engine, config, count, token_chunk=SMALL_CHUNK) as ranks:
            request = request_of(engine, tmp_path, f"ranks-{count}", **fields)
            found = latents_of(request, ranks)
        assert read_metadata(request.stem.with_suffix(".mp4").read_bytes())["gpu_same_bits"]
        assert float((found - alone).norm() / alone.norm()) <= UNALIGNED, count
