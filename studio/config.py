"""configs/*.yaml -> frozen dataclasses. One source of every default; an unknown key is an error."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from models.layout import COMPONENTS, LAYOUT
from studio import IS_INSTALLED
from studio.errors import InputError
from studio.wildcards import user_lists

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE if IS_INSTALLED else PACKAGE.parent  # holds configs/ and assets/


@dataclass(frozen=True)
class Variant:
    """One trained network of a model.

    `folders`: component -> candidate checkpoint folders, the first that has the component wins.
    """

    takes_image: bool
    motion_score: bool
    folders: Mapping[str, tuple[str, ...]]
    text_alone: bool = False


@dataclass(frozen=True)
class ModelConfig:
    """One entry of the model menu; see configs/models/*.yaml for what each field means."""

    name: str
    title: Mapping[str, str]
    summary: Mapping[str, str]
    order: int
    defaults: Mapping[str, Any]
    max_frames: int
    sizes: tuple[tuple[int, int], ...]
    magic_words: str
    negative_prompt: str
    variants: tuple[Variant, ...]
    sources: Mapping[str, str] = field(default_factory=dict)
    verified: bool = False
    turbo: bool = False
    magic_words_english: str = ""

    @property
    def takes_image(self) -> bool:
        return any(variant.takes_image for variant in self.variants)

    @property
    def takes_text_alone(self) -> bool:
        return any(variant.text_alone or not variant.takes_image for variant in self.variants)

    def variant(self, has_image: bool) -> Variant:
        """The network that serves a request with or without a first image (the only one, where there is one)."""
        fitting = [v for v in self.variants if v.takes_image == has_image]
        return (fitting or list(self.variants))[0]


@dataclass(frozen=True)
class SpeechConfig:
    """A model that speaks: its name, its title by language, its repositories by hub."""

    key: str
    title: Mapping[str, str]
    sources: Mapping[str, str]

    @property
    def name(self) -> str:
        """As ModelConfig.name."""
        return self.key


@dataclass(frozen=True)
class CameraMove:
    """A camera move TI2V was trained on: the exact Chinese phrase the model receives, and its English gloss. speeds:
    whether it may be slow or fast."""

    key: str
    phrase: str
    gloss: str
    speeds: bool = True

    def words(self, speed: str) -> str:
        """The phrase with a speed of settings.CameraSpeed: 镜头缓慢推进, as the official examples have it."""
        adverb = {"slow": "缓慢", "fast": "快速"}.get(speed, "") if self.speeds else ""
        return self.phrase[:2] + adverb + self.phrase[2:]


@dataclass(frozen=True)
class Preset:
    """Named settings that travel together; `values` are GenerationSettings fields."""

    key: str
    title: Mapping[str, str]
    model: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Example:
    """A request worth trying, in both languages; see studio/examples.py for its pictures.

    settings: GenerationSettings fields besides model, prompt and picture. first_image: a file name, None: text alone.
    """

    key: str
    model: str
    prompt: Mapping[str, str]
    settings: Mapping[str, Any] = field(default_factory=dict)
    first_image: str | None = None


@dataclass(frozen=True)
class CalibrationPrompt:
    """A prompt of `calibrate`; first_image: a file name (of assets/examples, or as the user's file has it), or None."""

    prompt: str
    first_image: str | None = None


@dataclass(frozen=True)
class CalibrationConfig:
    """What `calibrate` runs for a model: see configs/calibration.yaml. size, check: num_frames, height, width."""

    key: str
    size: Mapping[str, int]
    check: Mapping[str, int]
    prompts: tuple[CalibrationPrompt, ...]


@dataclass(frozen=True)
class StudioConfig:
    """This machine: folders (relative: to the working directory), budgets in GB (None: what is free), server."""

    model_dir: Path
    output_dir: Path
    host: str
    port: int
    vram_gb: float | None
    ram_gb: float | None
    vram_reserve_gb: float
    ram_reserve_gb: float
    embedding_cache_gb: float
    upload_limit_mb: int
    image_limit_megapixels: int
    key_rate: int
    picture_inside_mb: float
    latents_gb: float
    originals_gb: float
    clip_dir: Path | None
    wildcard_dir: Path


def load_models(folder: Path = ROOT / "configs" / "models") -> dict[str, ModelConfig]:
    """Every model by name, in menu order. Raises InputError for a file that does not fit ModelConfig."""
    models = [_model(path) for path in folder.glob("*.yaml")]
    return {model.name: model for model in sorted(models, key=lambda model: model.order)}


def model_named(name: str, models: Mapping[str, ModelConfig]) -> ModelConfig:
    """The model of that name. Raises InputError where there is none, as of a job whose model was taken away."""
    if name not in models:
        raise InputError("model_unknown", value=name[:80], known=", ".join(models))
    return models[name]


def load_speech(path: Path = ROOT / "configs" / "speech.yaml") -> dict[str, SpeechConfig]:
    """The models that speak, by name."""
    return _entries(SpeechConfig, path)


def load_camera_moves(path: Path = ROOT / "configs" / "camera_moves.yaml") -> dict[str, CameraMove]:
    """The camera moves by key, in the order of the file."""
    return _entries(CameraMove, path)


def load_wildcards(folder: Path, path: Path = ROOT / "configs" / "wildcards.yaml") -> dict[str, tuple[str, ...]]:
    """The lists that __name__ in a prompt draws from: this program's, and the user's own of `folder`, which win. Raises
    InputError."""
    own = {name: tuple(str(word) for word in words) for name, words in _read(path).items()}
    return own | user_lists(folder)


def load_presets(path: Path = ROOT / "configs" / "presets.yaml") -> dict[str, Preset]:
    """The presets by key, in the order of the file."""
    return _entries(Preset, path)


def load_examples(path: Path = ROOT / "configs" / "examples.yaml") -> dict[str, Example]:
    """The examples by key, in the order of the file."""
    return _entries(Example, path)


def load_calibrations(path: Path = ROOT / "configs" / "calibration.yaml") -> dict[str, CalibrationConfig]:
    """What `calibrate` runs, by model."""
    found = {}
    for key, value in _read(path).items():
        prompts = tuple(_build(CalibrationPrompt, prompt, path) for prompt in value["prompts"])
        found[key] = _build(CalibrationConfig, {"key": key, **value, "prompts": prompts}, path)
    return found


def load_studio(path: Path = ROOT / "configs" / "studio.yaml", **overrides: Any) -> StudioConfig:
    """The machine's config; `overrides` (None: keep) come from the command line."""
    data = _read(path) | {key: value for key, value in overrides.items() if value is not None}
    for name in ("model_dir", "output_dir", "clip_dir", "wildcard_dir"):
        if name == "clip_dir" and data.get(name) is None:
            continue
        if not isinstance(folder := data.get(name), str | Path):
            raise _unreadable(path, f"{name} is {folder!r}, it must name a folder")
        data[name] = resolved(Path(folder))
    return _build(StudioConfig, data, path)


def resolved(path: Path) -> Path:
    """The absolute path, links followed. Raises InputError where it is none: a loop of links, no such user's home."""
    try:
        return path.expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError("path_unusable", path=path, reason=reason) from None


def part_folder(variant: Variant, component: str, model_dir: Path) -> Path | None:
    """The checkpoint folder a component comes from, or None where none of the candidates has it.

    "assets/..." stands for this program's own folders, any other name for a folder of `model_dir`.
    """
    for folder in candidate_folders(variant, component, model_dir):
        if os.path.isdir(folder / LAYOUT[component].folder):  # False too where it may not be looked at
            return folder
    return None


def candidate_folders(variant: Variant, component: str, model_dir: Path) -> list[Path]:
    """The checkpoint folders that a component may come from, best first, there or not."""
    names = variant.folders[component]
    return [ROOT / name if name.startswith("assets/") else model_dir / name for name in names]


def _model(path: Path) -> ModelConfig:
    data = {"name": path.stem, **_read(path)}
    try:
        data["variants"] = tuple(_variant(variant, path) for variant in data["variants"])
        data["sizes"] = tuple((int(h), int(w)) for h, w in data["sizes"])
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(path, f"{type(error).__name__} {error}") from None
    return _build(ModelConfig, data, path)


def _variant(data: dict[str, Any], path: Path) -> Variant:
    """`all` names the folders of every component; a component's own list replaces it."""
    folders = data["folders"]
    if unknown := sorted(set(folders) - {"all", *COMPONENTS}):
        raise _unreadable(path, f"there is no component {', '.join(unknown)}")
    named = {part: tuple(folders.get(part, folders.get("all", ()))) for part in COMPONENTS}
    return _build(Variant, data | {"folders": named}, path)


def _entries(kind: type, path: Path) -> dict[str, Any]:
    """A file of `key: {fields}` as objects that know their key."""
    return {key: _build(kind, {"key": key, **value}, path) for key, value in _read(path).items()}


def _read(path: Path) -> dict[str, Any]:
    try:
        data = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except (OSError, UnicodeDecodeError, YAMLError, OmegaConfBaseException) as error:
        raise _unreadable(path, str(error)) from None
    if not isinstance(data, dict):
        raise _unreadable(path, "it is not a table of keys and values")
    return {str(key): value for key, value in data.items()}


def _build(kind: type, data: Mapping[str, Any], path: Path) -> Any:
    try:
        return kind(**data)
    except TypeError as error:
        raise _unreadable(path, str(error)) from None


def _unreadable(path: Path, reason: str) -> InputError:
    return InputError("config_unreadable", file=str(path), reason=reason)
