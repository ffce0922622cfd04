"""Which models of this machine are calibrated, asked before one is opened: by estimates, the page and `generate`."""

from collections.abc import Mapping
from pathlib import Path

from models.checkpoint import CheckpointError
from models.layout import LAYOUT
from studio.config import ModelConfig, StudioConfig
from studio.errors import StudioError
from studio.pipeline.calibration_file import FOLDER, known_calibrations
from studio.pipeline.engine import CACHE_FOLDER, EngineOptions, model_fingerprint, named_device, usable_folders
from studio.pipeline.evaluation_plan import Calibration
from studio.settings import GuidanceSchedule


class Calibrations:
    """The calibrations of one machine and its flags. A model's fingerprint is kept until its weight files change."""

    def __init__(self, config: StudioConfig, options: EngineOptions) -> None:
        self._config, self._options = config, options
        self._cache = config.output_dir / CACHE_FOLDER
        self._fingerprints: dict[tuple[str, bool, tuple[object, ...]], str] = {}

    def of(self, model: ModelConfig, has_image: bool) -> tuple[Calibration, ...]:
        """What `calibrate` chose for the network that serves such a request; () where it chose nothing, where the
        model's files cannot be used, and for Turbo. A model that never takes text alone has an image, given or not yet.
        """
        has_image = has_image or not model.takes_text_alone
        if model.turbo or not any((self._cache / FOLDER).glob("*.json")):  # without any nothing needs a fingerprint
            return ()
        try:
            folders = usable_folders(model, has_image, self._config, self._options)
            key = model.name, has_image, _state(folders)
            if key not in self._fingerprints:
                self._fingerprints[key] = model_fingerprint(folders, named_device(self._options.device))
        except (StudioError, CheckpointError, OSError):
            return ()
        return known_calibrations(self._cache, self._fingerprints[key], has_image=has_image)

    def serve(
        self,
        model: ModelConfig,
        has_image: bool,
        cfg_scale: float,
        time_shift: float,
        *,
        guidance_schedule: str = GuidanceSchedule.CONSTANT,
    ) -> bool:
        """Whether a choice is there that stands for such official steps."""
        return any(found.serves(cfg_scale, time_shift, guidance_schedule) for found in self.of(model, has_image))


def _state(folders: Mapping[str, Path]) -> tuple[object, ...]:
    """Names, sizes and modification times of the files of every component."""
    files = [path for part, folder in folders.items() for path in sorted((folder / LAYOUT[part].folder).iterdir())]
    return tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files)
