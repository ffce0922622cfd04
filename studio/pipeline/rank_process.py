"""The processes besides rank 0 that share one video: each opens the model on its device and computes passes on request.

They are started by forkserver, which has torch imported and no thread of its own: a plain fork would copy a process
whose OpenMP pool does not survive it.
"""

import multiprocessing
import pickle
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path

import torch

from models.geometry import VideoShape
from studio.config import CameraMove, ModelConfig, StudioConfig
from studio.errors import Cancelled, StudioError
from studio.pipeline.encode import Conditioning
from studio.pipeline.engine import EngineOptions, open_engine
from studio.pipeline.evaluation_plan import Node
from studio.pipeline.rank_group import RankGroup
from studio.pipeline.run import Engine

READY = "ready"


@dataclass(frozen=True)
class Opening:
    """How every rank opens the model: the arguments of `open_engine`. config.ram_gb is of one rank.

    devices: of each rank. threads: of each where they share the CPU, else None.
    """

    model: ModelConfig
    has_image: bool
    moves: Mapping[str, CameraMove]
    config: StudioConfig
    options: EngineOptions
    devices: tuple[str, ...]
    threads: int | None = None

    def open(self, rank: int) -> Engine:
        """The model on the device of a rank. Raises as `open_engine`."""
        options = replace(self.options, device=self.devices[rank])
        return open_engine(self.model, self.has_image, self.moves, self.config, options)


@dataclass(frozen=True)
class RankJob:
    """What a rank computes of one video: its conditioning has one text."""

    video: VideoShape
    conditioning: Conditioning


def work(rank: int, opening: Opening, meeting: Path, control: Connection, stop: Event) -> None:
    """Compute passes for rank 0 until it sends no further job, sets `stop` or ends.

    control: to rank 0: READY when the model is open, then jobs come; an error's (code, values) goes back.
    """
    for number in (signal.SIGINT, signal.SIGHUP):  # meant for rank 0, which says `stop`
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def ended() -> bool:
        return stop.is_set() or parent is None or not parent.is_alive()

    if opening.threads is not None:
        torch.set_num_threads(opening.threads)
    try:
        engine = opening.open(rank)
        control.send(READY)
        group = RankGroup(rank, len(opening.devices), meeting)
        while (job := pickle.loads(control.recv_bytes())) is not None:
            _compute(engine, job, group, ended)
    except Cancelled:
        return
    except StudioError as error:
        control.send((error.code, error.values))
    except (RuntimeError, EOFError, OSError):  # rank 0 has left
        if not ended():
            raise


def _compute(engine: Engine, job: RankJob, group: RankGroup, ended: Callable[[], bool]) -> None:
    """All steps of one video. Raises StudioError, Cancelled once `ended`, RuntimeError where a rank is lost."""
    memory, conditioning = engine.memory, job.conditioning
    memory.require(job.video)
    memory.keep_texts(job.video, conditioning.texts, cancelled=ended)
    with memory.transformer(job.video) as transformer:
        latents = torch.empty(job.video.latent_shape(transformer.latent_channels))
        while (order := group.take(latents)) is not None:
            node = Node(order.time, 1.0)
            passes = conditioning.passes(transformer, ended, last=node if order.last else None)
            group.gather(passes(latents, node)[0])
