"""What a checkpoint folder holds, and what is missing or corrupt in it, in plain words. Reads headers, no weights."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from models.agreement import disagreement, read_params
from models.checkpoint import CheckpointError, ComponentFiles, build, find_weight_files
from models.layout import COMPONENTS, LAYOUT, SPEECH
from models.speech_tokens import SpeechTokenizer
from models.tokenizers import ClipTokenizer, StepTokenizer
from models.transformer import TransformerParams
from models.weight_files import read_json, read_table
from studio.checkpoints.download_record import read_download_record
from studio.config import ModelConfig, Variant, load_models, part_folder, resolved
from studio.messages import LONGEST_SENTENCE, clean
from studio.units import GB

SPEECH_FAMILY = "Step-Audio-TTS"
FAMILIES = {True: "Step-Video TI2V", False: "Step-Video T2V or Turbo"}


@dataclass(frozen=True)
class PartReport:
    """One component. elsewhere: the folder its model's yaml takes it from, where this one has none."""

    component: str
    parameters: int = 0
    dtypes: tuple[str, ...] = ()
    nbytes: int = 0
    files: int = 0
    elsewhere: Path | None = None
    problems: tuple[str, ...] = ()

    @property
    def present(self) -> bool:
        """Whether the folder holds it, whole."""
        return self.parameters > 0 and not self.problems

    def line(self) -> str:
        """One line of the report, without the problems."""
        if self.elsewhere:
            return f"{self.component:12} in {clean(str(self.elsewhere))}"
        if not self.parameters:
            return f"{self.component:12} not usable"
        number = f"{self.files} file{'s' if self.files > 1 else ''}"
        size = f"{self.nbytes / GB:.2f} GB" if self.nbytes >= GB / 10 else f"{self.nbytes / 2**20:.1f} MB"
        return f"{self.component:12} {self.parameters:>14,} parameters  {'+'.join(self.dtypes)}  {size}  {number}"


@dataclass(frozen=True)
class FolderReport:
    """A whole folder. family: which Step-Video its transformer is, as far as its files tell."""

    folder: Path
    family: str
    parts: tuple[PartReport, ...]

    @property
    def ok(self) -> bool:
        """Whether every component is here, or where the model's yaml finds it, and nothing is wrong."""
        return all(part.present or (part.elsewhere and not part.problems) for part in self.parts)

    def lines(self) -> list[str]:
        """The report as text."""
        text = [f"{clean(str(self.folder))}: {self.family}"]
        for part in self.parts:
            text.append("  " + part.line())
            text += [f"      {clean(problem, LONGEST_SENTENCE)}" for problem in part.problems]
        return text


def inspect(folder: Path) -> FolderReport:
    """Look at every component of a checkpoint folder. InputError for what is no path; all else is in the report."""
    folder = resolved(Path(folder))
    if _speaks(folder):
        parts = [_inspect_part(folder, component, None) for component in SPEECH]
        return FolderReport(folder, SPEECH_FAMILY, tuple(parts))
    models = load_models()
    known = _known_model(folder, models)
    parts = [_inspect_part(folder, component, known[1] if known else None) for component in COMPONENTS]
    report = FolderReport(folder, _family(folder, models, known[0] if known else None), tuple(parts))
    if not report.ok or not (found := _disagreement({part.component: part.elsewhere or folder for part in parts})):
        return report
    parts = [replace(part, problems=(found[1],)) if part.component == found[0] else part for part in parts]
    return replace(report, parts=tuple(parts))


def _speaks(folder: Path) -> bool:
    """Whether a folder is meant to be Step-Audio-TTS: its vocoder's folder is here, or its config is."""
    if os.path.isdir(folder / LAYOUT["transformer"].folder):
        return False
    if os.path.isdir(folder / LAYOUT["flow"].folder):
        return True
    try:
        return read_json(folder / "config.json").get("model_type") == "step1"
    except CheckpointError:
        return False


def _known_model(folder: Path, models: dict[str, ModelConfig]) -> tuple[ModelConfig, Variant] | None:
    """The model whose yaml takes its transformer from this folder."""
    for model in models.values():
        for variant in model.variants:
            if part_folder(variant, "transformer", folder.parent) == folder:
                return model, variant
    return None


def _family(folder: Path, models: dict[str, ModelConfig], known: ModelConfig | None) -> str:
    # T2V and Turbo have equal files, so the folder's name in a yaml or the record of a download tells them apart.
    try:
        params = read_params(folder, "transformer")
    except CheckpointError:
        return "no Step-Video transformer"
    family = FAMILIES[isinstance(params, TransformerParams) and params.takes_image]
    record = read_download_record(folder)
    for model in models.values():
        if record is not None and record.repo in model.sources.values():
            return f"{model.title['en']} (downloaded from {record.repo})"
    if known and known.sources and known.takes_image == (family == FAMILIES[True]):
        return f"{known.title['en']} (by the folder's name)"
    return family


def _inspect_part(folder: Path, component: str, variant: Variant | None) -> PartReport:
    if not os.path.isdir(folder / LAYOUT[component].folder):
        place = part_folder(variant, component, folder.parent) if variant else None
        if place:
            return PartReport(component, elsewhere=place, problems=_look(place, component)[0])
        return PartReport(component, problems=(f"{folder / LAYOUT[component].folder} is missing.",))
    problems, files = _look(folder, component)
    if files is None:
        return PartReport(component, problems=problems)
    dtypes = tuple(str(dtype).removeprefix("torch.") for dtype in files.dtypes)
    return PartReport(component, files.parameters, dtypes, files.nbytes, len(files.files), problems=problems)


def _look(folder: Path, component: str) -> tuple[tuple[str, ...], ComponentFiles | None]:
    """What is wrong with a component, and its files where their weights make the network."""
    found = _tokenizer_problems(folder, component)
    try:
        return tuple(found), build(folder, component)[1]
    except CheckpointError as first:
        return (*found, *(_broken_shards(folder, component) or [str(first)])), None


def _broken_shards(folder: Path, component: str) -> list[str]:
    """One sentence for every weight file that cannot be used, where `build` stops at the first."""
    try:
        files = find_weight_files(folder, component)
    except CheckpointError:
        return []  # no list of files to go through; `build` says so
    found = []
    for file in files:
        try:
            read_table(file)
        except CheckpointError as problem:
            found.append(str(problem))
    return found


def _tokenizer_problems(folder: Path, component: str) -> list[str]:
    paths = [folder / name for name in LAYOUT[component].tokenizer]
    if missing := [f"{path} is missing. Download it." for path in paths if not os.path.exists(path)]:
        return missing
    try:
        if paths:
            _open_tokenizer(folder, component)
    except CheckpointError as problem:
        return [str(problem)]
    return []


def _open_tokenizer(folder: Path, component: str) -> StepTokenizer | ClipTokenizer | SpeechTokenizer:
    place = folder / LAYOUT[component].tokenizer_folder
    if component == "step_audio_llm":
        return SpeechTokenizer(place)
    return StepTokenizer(place) if component == "step_llm" else ClipTokenizer(place)


def _disagreement(folders: dict[str, Path]) -> tuple[str, str] | None:
    """Why sound parts do not make a model together: the component and a sentence; None where they do."""
    tokens = {name: len(_open_tokenizer(folders[name], name)) for name in ("step_llm", "clip")}
    return disagreement(folders, tokens)
