"""Which models of this machine are calibrated, asked before one is opened: by estimates, the page and `generate`."""

from collections.abc import Mapping
from pathlib import Path

from models.checkpoint import CheckpointError
from models.layout import LAYOUT
from studio.config import ModelConfig, StudioConfig
from studio.errors import StudioError
from studio.pipeline.calibration_file import FOLDER, load_calibration
from studio.pipeline.engine import CACHE_FOLDER, EngineOptions, model_fingerprint, named_device, usable_folders
from studio.pipeline.evaluation_plan import Calibration
from studio.settings import Speed


class Calibrations:
    """The calibrations of one machine and its flags. A model's fingerprint is kept until its weight files change."""

    def __init__(self, config: StudioConfig, options: EngineOptions) -> None:
        self._config, self._options = config, options
        self._cache = config.output_dir / CACHE_FOLDER
        self._fingerprints: dict[tuple[str, bool, tuple[object, ...]], str] = {}

    def of(self, model: ModelConfig, has_image: bool) -> Calibration | None:
        """What `calibrate` chose for the network that serves such a request; None where it chose nothing, where the
        model's files cannot be used, and for Turbo."""
        if model.turbo or not any((self._cache / FOLDER).glob("*.json")):  # without any nothing needs a fingerprint
            return None
        try:
            folders = usable_folders(model, has_image, self._config, self._options)
            key = model.name, has_image, _state(folders)
            if key not in self._fingerprints:
                self._fingerprints[key] = model_fingerprint(folders, named_device(self._options.device))
        except (StudioError, CheckpointError, OSError):
            return None
        return load_calibration(self._cache, self._fingerprints[key], has_image=has_image)

    def default_speed(self, model: ModelConfig, has_image: bool, cfg_scale: float, time_shift: float) -> Speed:
        """Of a request that names none: fast where that was calibrated for it, else exact."""
        return Speed.FAST if self.serve(model, has_image, cfg_scale, time_shift) else Speed.EXACT

    def serve(self, model: ModelConfig, has_image: bool, cfg_scale: float, time_shift: float) -> bool:
        """Whether a choice is there that stands for such official steps."""
        found = self.of(model, has_image)
        return found is not None and found.serves(cfg_scale, time_shift)


def _state(folders: Mapping[str, Path]) -> tuple[object, ...]:
    """Names, sizes and modification times of the files of every component."""
    files = [path for part, folder in folders.items() for path in sorted((folder / LAYOUT[part].folder).iterdir())]
    return tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files)
