"""What one run of the recipe works with: the opened model, the request, and the listener to its events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from PIL import Image

from models.checkpoint import CheckpointError
from studio.errors import Cancelled, StudioError
from studio.events import Event, PhaseStarted, Progress, notice
from studio.memory.manager import MemoryManager
from studio.pipeline.colour_fit import PreviewColours
from studio.pipeline.embeddings import EmbeddingCache
from studio.pipeline.evaluation_plan import Calibration, EvaluationPlan
from studio.pipeline.sharp import never
from studio.prompt import Tokenizer
from studio.settings import ResolvedSettings

if TYPE_CHECKING:
    from studio.config import CameraMove, ModelConfig  # needs omegaconf, which a machine with torch alone may lack
    from studio.pipeline.ranks import Ranks

Emit = Callable[[Event], None]
IsCancelled = Callable[[], bool]
WantsFinish = Callable[[], bool]
WantsSharp = Callable[[], bool]


def to_the_end() -> bool:
    """The WantsFinish of a run that does all its steps."""
    return False


@dataclass(frozen=True)
class Engine:
    """A model opened on this machine: what the recipe needs besides the request.

    text_fingerprint names both encoders and their tokenizers; provenance (fingerprints of every part, device, torch,
    dtype, attention backend, program version) is written into the file, so that a rerun can promise the same bits.
    calibrations: what `calibrate` chose for this model with a first image or without, as `has_image` says; () before.
    ranks: other devices that share each video.
    """

    model: ModelConfig
    moves: Mapping[str, CameraMove]
    memory: MemoryManager
    tokenizers: Mapping[str, Tokenizer]
    embeddings: EmbeddingCache
    colours: PreviewColours
    text_fingerprint: str
    provenance: Mapping[str, Any]
    calibrations: tuple[Calibration, ...] = ()
    has_image: bool = False
    ranks: Ranks | None = None


@dataclass(frozen=True)
class Request:
    """What to make and where: `stem` is the result's path without suffix, `workdir` holds latents and preview.

    image: the upright first image at any size (media.read_image), or None. keep_latents: NAME.latents.safetensors stays
    beside the result (for `generate`). plan: None for the settings' own; a video that is made again brings the one in
    its file. original: the first image's file, which the video is to carry; None: it carries none. seam:
    the first image is the last frame of another clip, behind which this one is to be seen. keep_last_frame: it stays
    in the workdir as it was decoded, for a clip that goes on from it.
    """

    settings: ResolvedSettings
    stem: Path
    workdir: Path
    image: Image.Image | None = None
    keep_latents: bool = False
    plan: EvaluationPlan | None = None
    original: bytes | None = None
    seam: bool = False
    keep_last_frame: bool = False


@dataclass
class Run:
    """One execution of the recipe: where events go, when to stop or to finish early, how long each phase took."""

    engine: Engine
    emit: Emit
    cancelled: IsCancelled
    finish: WantsFinish = to_the_end
    sharp: WantsSharp = never
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.engine.memory.reset_peaks()
        self.engine.memory.notify = self.notify

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """A phase (events.PHASES): reported when it begins, timed when it ends. Raises Cancelled at its beginning."""
        self.check()
        self.emit(PhaseStarted(name))
        began = monotonic()
        yield
        self.seconds[name] = round(monotonic() - began, 3)

    def notify(self, code: str, **values: Any) -> None:
        """Report a notice by its code in messages.MESSAGES."""
        self.emit(notice(code, **values))

    def check(self) -> None:
        """Raise Cancelled where the user stopped the job."""
        if self.cancelled():
            raise Cancelled

    def progress(self, phase: str, step: int, steps: int, seconds: float, work: tuple[int, int]) -> None:
        """Report `step` of `steps`. work: (done in `seconds`, left), in units that take equally long."""
        done, left = work
        seconds_left = seconds / done * left if done else None
        usage = self.engine.memory.usage()
        self.emit(Progress(phase, step, steps, seconds, seconds_left, usage.vram_bytes, usage.ram_bytes))


@contextmanager
def file_errors() -> Iterator[None]:
    """Turn what models/ says of bad weight files into this program's own errors."""
    try:
        yield
    except CheckpointError as error:
        raise StudioError("checkpoint", reason=str(error)) from error
