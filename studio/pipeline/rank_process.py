"""The processes besides rank 0 that share one video: each opens the model on its device and computes passes on request.

They are started by forkserver, which has torch imported and no thread of its own: a plain fork would copy a process
whose OpenMP pool does not survive it.
"""

import multiprocessing
import pickle
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path

import torch
from torch import Tensor

from models.geometry import VideoShape
from models.transformer import TOKEN_CHUNK
from studio.config import CameraMove, ModelConfig, StudioConfig
from studio.errors import Cancelled, StudioError
from studio.memory.plan import Budgets
from studio.memory.shared_ram import Lead
from studio.pipeline.encode import Conditioning
from studio.pipeline.engine import EngineOptions, open_engine
from studio.pipeline.evaluation_plan import Node
from studio.pipeline.rank_group import RankGroup
from studio.pipeline.rank_roles import Roles
from studio.pipeline.run import Engine
from studio.pipeline.token_share import SharedTokens
from studio.units import GB


@dataclass(frozen=True)
class Opening:
    """How every rank opens the model: the arguments of `open_engine`. config.ram_gb is of one rank.

    devices: of each rank. threads: of each where they share the CPU, else None. token_chunk: of whose multiples the
    borders between ranks are made.
    """

    model: ModelConfig
    has_image: bool
    moves: Mapping[str, CameraMove]
    config: StudioConfig
    options: EngineOptions
    devices: tuple[str, ...]
    threads: int | None = None
    token_chunk: int = TOKEN_CHUNK

    @property
    def has_gpus(self) -> bool:
        """Whether the devices are GPUs."""
        return torch.device(self.devices[0]).type == "cuda"

    def open(self, rank: int) -> Engine:
        """The model on the device of a rank. Raises as `open_engine`."""
        options = replace(self.options, device=self.devices[rank])
        return open_engine(self.model, self.has_image, self.moves, self.config, options)


@dataclass(frozen=True)
class Ready:
    """A rank has opened the model. budgets: what it may use."""

    budgets: Budgets


@dataclass(frozen=True)
class RankJob:
    """What a rank computes of one video: its conditioning has the texts of its own passes. lead: rank 0's."""

    video: VideoShape
    conditioning: Conditioning
    roles: Roles
    lead: Lead


@dataclass(frozen=True)
class DecodeJob:
    """Finished latents (1, f, c, h, w); a rank decodes the chunks whose turn is its own."""

    video: VideoShape
    latents: Tensor


@dataclass(frozen=True)
class Promise:
    """What the plan of a video takes on one rank's device at most. card: what the device is."""

    device: str
    card: str
    vram_bytes: int
    ram_bytes: int

    @classmethod
    def of(cls, device: str, engine: Engine, video: VideoShape) -> "Promise":
        """By the engine's plan, which must be there."""
        plan = engine.memory.plan(video)
        return cls(device, str(engine.provenance["device"]), plan.vram_peak_bytes, plan.ram_peak_bytes)

    def words(self) -> str:
        """As "cuda:1 (NVIDIA A100) 61.2 GB"; of RAM where the device is the CPU."""
        return f"{self.device} ({self.card}) {(self.vram_bytes or self.ram_bytes) / GB:.1f} GB"


def share_of(roles: Roles, group: RankGroup, chunk: int) -> SharedTokens | None:
    """This rank's part of the tokens; None where it has all of them."""
    if roles.size == 1:
        return None
    exchange = partial(group.exchange, halves=roles.halves)
    return SharedTokens(roles.split, roles.place(group.rank), chunk, exchange, group.settle)


def work(rank: int, opening: Opening, meeting: Path, control: Connection, stop: Event) -> None:
    """Compute passes for rank 0 until it sends no further job, sets `stop` or ends.

    control: to rank 0: Ready when the model is open, then jobs come; a Promise for each video that is computed, or an
    error's (code, values) goes back.
    """
    for number in (signal.SIGINT, signal.SIGHUP):  # meant for rank 0, which says `stop`
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def ended() -> bool:
        return stop.is_set() or parent is None or not parent.is_alive()

    def check() -> None:
        if ended():
            raise Cancelled

    if opening.threads is not None:
        torch.set_num_threads(opening.threads)
    try:
        engine = opening.open(rank)
        control.send(Ready(engine.memory.budgets))
        group = RankGroup(rank, len(opening.devices), meeting, check, cuda=opening.has_gpus)
        try:
            while (job := pickle.loads(control.recv_bytes())) is not None:
                if isinstance(job, DecodeJob):
                    _decode(engine, job, group, len(opening.devices), check)
                else:
                    engine.memory.follow(job.lead)
                    control.send(Promise.of(opening.devices[rank], engine, job.video))
                    _compute(engine, job, group, opening.token_chunk, ended)
        finally:
            group.close()
    except Cancelled:
        return
    except StudioError as error:
        control.send((error.code, error.values))
    except (RuntimeError, EOFError, OSError) as error:  # rank 0 or another one has left
        if ended():
            return
        control.send(("rank_failed", {"device": opening.devices[rank], "said": str(error).partition("\n")[0]}))
        raise


def _compute(engine: Engine, job: RankJob, group: RankGroup, chunk: int, ended: Callable[[], bool]) -> None:
    """All steps of one video. Raises StudioError, Cancelled once `ended`, RuntimeError where a rank is lost."""
    memory, conditioning, roles = engine.memory, job.conditioning, job.roles
    memory.keep_texts(job.video, conditioning.texts, cancelled=ended)
    with memory.transformer(job.video) as transformer:
        channels = transformer.latent_channels
        if (share := share_of(roles, group, chunk)) is not None:
            transformer.divide(share)
        latents = torch.empty(job.video.latent_shape(channels))
        while (order := group.take(latents)) is not None:
            rows = latents.new_empty(0)
            if own := len(roles.conditions(group.rank, order.passes)):
                node = Node(order.time, float(own))
                passes = conditioning.passes(transformer, ended, last=node if order.last else None)
                rows = flat(passes(latents, node))
            group.gather(rows, [roles.elements(rank, order.passes, channels) for rank in range(roles.ranks)])


def _decode(engine: Engine, job: DecodeJob, group: RankGroup, ranks: int, check: Callable[[], None]) -> None:
    """This rank's chunks, each sent when it is done. Raises as `_compute`."""
    sent: list[Callable[[], object]] = []
    with engine.memory.vae(job.video) as vae:
        for chunk in range(group.rank, job.video.chunks, ranks):
            check()
            sent.append(group.send(vae.decode_chunk(job.latents, chunk).contiguous()))
        for arrived in sent:
            arrived()


def flat(velocities: Sequence[Tensor]) -> Tensor:
    """Velocities (1, n, c) of some tokens, or (1, f, c, h, w) of all, as flat numbers, token by token."""
    rows = [each if each.dim() == 3 else each.permute(0, 1, 3, 4, 2).flatten(1, 3) for each in velocities]
    return torch.cat([row.reshape(-1) for row in rows])
