"""What the page is handed: the queue and the functions it may call. The page knows nothing behind them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studio.config import CameraMove, Example, ModelConfig, Preset, StudioConfig, load_wildcards
from studio.events import Failed
from studio.prompt import EncoderCount
from studio.queue.frames import FrameDesk
from studio.queue.gallery import Gallery
from studio.queue.job import Job
from studio.queue.jobs import JobQueue
from studio.service.chat_desk import ChatDesk
from studio.service.downloads import Downloads
from studio.service.machine_check import MachineCheck
from studio.service.rights import Right, may, may_change
from studio.service.sound_desk import SoundDesk
from studio.service.workers import WorkerView
from studio.settings import ResolvedSettings
from studio.wildcards import Lists


@dataclass(frozen=True)
class TextReport:
    """Exactly what the model receives.

    tokens: a count per encoder for the positive text; empty where the model's tokenizers are not installed.
    unread: encoder -> the end of the positive text that it does not read.
    """

    positive: str
    negative: str
    tokens: tuple[EncoderCount, ...] = ()
    unread: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DiskNeed:
    """About how many bytes a download would add, and how many are free where it would lie."""

    need_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class Backend:
    """Everything behind the page.

    installed: model name -> whether its files are here. count_tokens(settings, language): what the encoders read.
    check_sharing(settings): raises InputError where the devices that share each video cannot share this one.
    plan(settings): a plain dict: fits, vram_peak_gb, ram_peak_gb, seconds_total (None: unknown), remedy (a sentence,
    or one per language). usage(): vram_gb, vram_total_gb, ram_gb, ram_total_gb, each of which may be missing.
    sound: what may be asked of soundtracks. chat: the language model that was named at the start, None for none.
    defects(): model name -> why the model's files cannot be used, for installed models that have such a fault.
    calibrated(model name, has_image, cfg_scale, time_shift, guidance_schedule): whether `calibrate` chose what fast
    does there. rerun_plan(record, settings): the evaluation plan in a file's record, as plain data, where it has one
    and these are its settings; None else. Raises InputError for what is no plan.
    owner(): false where another process works on the queue, so that this page only shows. trouble(): why jobs cannot
    run at all just now. workers(): who makes what. check: of this machine. downloads: of
    models; disk(model name): what one would take. show_folder(folder): open it in a window of this machine; None where
    who looks at the page may sit elsewhere. public: the page is reached through a public link or a name of its own, so
    that videos go out without the first image that they carry. frames: where single frames are wished for; None where
    no worker of this machine decodes any.
    """

    queue: JobQueue
    gallery: Gallery
    config: StudioConfig
    models: Mapping[str, ModelConfig]
    camera_moves: Mapping[str, CameraMove]
    presets: Mapping[str, Preset]
    examples: Mapping[str, Example]
    installed: Callable[[], Mapping[str, bool]]
    count_tokens: Callable[[ResolvedSettings, str], TextReport]
    plan: Callable[[ResolvedSettings], Mapping[str, Any]]
    usage: Callable[[], Mapping[str, float | None]]
    downloads: Downloads
    disk: Callable[[str], DiskNeed]
    sound: SoundDesk
    check_sharing: Callable[[ResolvedSettings], None] = lambda settings: None
    defects: Callable[[], Mapping[str, str]] = dict
    calibrated: Callable[[str, bool, float, float, str], bool] = lambda *asked: False
    rerun_plan: Callable[[Mapping[str, Any], ResolvedSettings], Mapping[str, Any] | None] = lambda *asked: None
    owner: Callable[[], bool] = lambda: True
    trouble: Callable[[], Failed | None] = lambda: None
    workers: Callable[[], Sequence[WorkerView]] = tuple
    show_folder: Callable[[Path], None] | None = None
    check: MachineCheck | None = None
    chat: ChatDesk | None = None
    public: bool = False
    frames: FrameDesk | None = None

    def may_change(self, job: Job | None = None) -> bool:
        """Whether who asks may change this job (None: whatever is there): this page works the queue, and no guest asks
        who has fewer rights or did not make it."""
        return self.owner() and (may(Right.ALL) if job is None else may_change(job.maker))

    def may_make(self) -> bool:
        """Whether who asks may queue videos."""
        return self.owner() and may(Right.MAKE)

    def word_lists(self) -> Lists:
        """What __name__ in a prompt is drawn from. Raises InputError for a list that cannot be read."""
        return load_wildcards(self.config.wildcard_dir)

    def menu(self) -> list[ModelConfig]:
        """The models in the order of the menu: installed ones first; a missing one only where it can be fetched."""
        installed = self.installed()
        found = [model for model in self.models.values() if installed[model.name] or model.sources]
        return sorted(found, key=lambda model: (not installed[model.name], model.order))

    def first_model(self) -> ModelConfig:
        """The model a new visitor finds chosen: an installed one that is not the built-in toy, else the toy."""
        menu, installed, defects = self.menu(), self.installed(), self.defects()
        usable = [model for model in menu if installed[model.name] and model.name not in defects]
        grown = [model for model in usable if model.sources]
        return (grown or usable or menu)[0]
