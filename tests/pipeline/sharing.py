"""What the tests of ranks share: a network of 12 heads, ranks that run, a request's latents, a deed inside a step."""

import collections
import dataclasses
import functools
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from models.geometry import VideoShape
from studio.config import StudioConfig, load_camera_moves, load_models, load_studio
from studio.events import Progress
from studio.memory.manager import MemoryManager
from studio.memory.plan import Sharing
from studio.memory.sessions import TransformerSession
from studio.nano.checkpoint import write_checkpoint
from studio.pipeline.engine import EngineOptions, open_engine
from studio.pipeline.generate import generate
from studio.pipeline.rank_process import Opening
from studio.pipeline.ranks import Ranks
from studio.pipeline.run import Engine, Request
from tests.pipeline.test_generate import final_latents, make_request
from tests.tiny import TINY

LONG = {"infer_steps": 8, "height": 64, "width": 64}
SMALL_CHUNK = 16  # tokens: a video of 17 frames has 48 here
TWELVE = dataclasses.replace(TINY, heads=12, head_dim=8)


class LowSession:
    """A transformer's session that is refused memory between two blocks once the file `flag` is there."""

    def __init__(self, session: TransformerSession, flag: Path) -> None:
        self._session, self._flag = session, flag

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def velocities(self, *given: Any, cancelled: Callable[[], bool], **named: Any) -> list[torch.Tensor]:
        def refuse() -> bool:
            if self._flag.exists():
                raise MemoryError("planted")
            return cancelled()

        return self._session.velocities(*given, cancelled=refuse, **named)


class LowMemory:
    """A manager with such a session."""

    def __init__(self, manager: MemoryManager, flag: Path) -> None:
        self._manager, self._flag = manager, flag

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)

    @contextmanager
    def transformer(self, video: VideoShape) -> Iterator[LowSession]:
        with self._manager.transformer(video) as session:
            yield LowSession(session, self._flag)


@dataclasses.dataclass(frozen=True)
class LowOpening(Opening):
    """One rank, `low`, runs out of memory once the file `flag` is there. It opens the model in its own process."""

    low: int = 0
    flag: Path = Path()

    def open(self, rank: int) -> Engine:
        engine = super().open(rank)
        return dataclasses.replace(engine, memory=LowMemory(engine.memory, self.flag)) if rank == self.low else engine


@functools.cache
def twelve_heads(folder: Path) -> Path:
    """A folder with a T2V and a TI2V of random weights whose 12 heads divide by 2, 3, 4 and 6."""
    write_checkpoint(folder / "step-video-t2v", TWELVE, 1)
    write_checkpoint(folder / "step-video-ti2v", TWELVE, 2, use_additional_conditions=True)
    return folder


def opened(models: Path, outputs: Path, name: str, offload: str = "auto") -> tuple[Engine, StudioConfig]:
    """A model on the CPU, and the config that it was opened under."""
    config = load_studio(model_dir=str(models), output_dir=str(outputs), ram_gb=4)
    model = load_models()[name]
    options = EngineOptions("cpu", offload=offload)
    return open_engine(model, name == "step-video-ti2v", load_camera_moves(), config, options), config


@contextmanager
def shared(
    engine: Engine,
    config: StudioConfig,
    count: int,
    offload: str = "auto",
    own: StudioConfig | None = None,
    **opening: Any,
) -> Iterator[Engine]:
    """The engine's model as the first of several ranks on the CPU, which open it under `config`, the first under `own`,
    else as the others.
    """
    options = EngineOptions("cpu", offload=offload, sharing=Sharing(count))
    kind, takes_image = LowOpening if "flag" in opening else Opening, engine.model.name == "step-video-ti2v"
    how = kind(engine.model, takes_image, load_camera_moves(), config, options, ("cpu",) * count, threads=1, **opening)
    ranks, first = Ranks(how), dataclasses.replace(how, config=own or config).open(0)
    try:
        yield dataclasses.replace(first, ranks=ranks.start())
    finally:
        ranks.close()
        first.memory.release()


def latents_of(request: Request, engine: Engine) -> torch.Tensor:
    generate(request, engine, lambda event: None, lambda: False)
    return final_latents(request)


def run_until(request: Request, engine: Engine, step: int, act: Callable[[], bool]) -> None:
    """Make the video; once `step` steps are done, `act()` says between two blocks whether it is cancelled."""
    done = [0]

    def emit(event: object) -> None:
        if isinstance(event, Progress) and event.phase == "denoise":
            done[0] = event.step

    calls = [0]

    def cancelled() -> bool:
        calls[0] += done[0] >= step
        return calls[0] > 1 and act()  # the first call lies before the first block of the next step

    generate(request, engine, emit, cancelled)


def request_of(engine: Engine, folder: Path, name: str, **fields: Any) -> Request:
    """A request of 8 steps at 64x64; its work folder is new."""
    shutil.rmtree(folder / f"{name}.work", ignore_errors=True)
    return make_request(engine, folder, name, **{**LONG, **fields})


def mapped(process: int, name: str) -> dict[str, int]:
    """Bytes of a process's mappings of a file whose name has `name` in it, by the kernel's names: Rss, Pss, ..."""
    found: dict[str, int] = collections.defaultdict(int)
    own = False
    for line in Path(f"/proc/{process}/smaps").read_text().splitlines():
        word, *rest = line.split()
        if not word.endswith(":"):
            own = name in line
        elif own and rest[-1] == "kB":
            found[word.removesuffix(":")] += int(rest[0]) * 1024
    return found
