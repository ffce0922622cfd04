"""What keeps an installed model from being used, as far as headers, configs and tokenizers tell: for the page."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from models.agreement import check_agreement
from models.checkpoint import CheckpointError, ComponentFiles
from models.layout import COMPONENTS, LAYOUT
from studio.config import ModelConfig, Variant, part_folder
from studio.errors import StudioError
from studio.pipeline.engine import open_tokenizers

State = tuple[tuple[str, int, int], ...]  # path, length and modification time of every file looked at


class Defects:
    """Sentences about models, read again when a file of theirs has changed. No weights are read, nothing is built."""

    def __init__(self, model_dir: Path) -> None:
        self._model_dir = model_dir
        self._known: dict[str, tuple[State, str]] = {}

    def of(self, model: ModelConfig) -> str:
        """The first thing that is wrong with the model's files; "" where nothing is found, or it is not installed."""
        folders = [self._folders(variant) for variant in model.variants]
        state = tuple(sorted({file for parts in folders for file in _state(parts)}))
        known = self._known.get(model.name)
        if known is None or known[0] != state:
            said = next(filter(None, map(_defect, folders)), "")
            known = self._known[model.name] = state, said
        return known[1]

    def _folders(self, variant: Variant) -> dict[str, Path]:
        found = {part: part_folder(variant, part, self._model_dir) for part in COMPONENTS}
        return {part: folder for part, folder in found.items() if folder is not None}


def _defect(folders: Mapping[str, Path]) -> str:
    if len(folders) < len(COMPONENTS):
        return ""
    try:
        for part, folder in folders.items():
            ComponentFiles(folder, part)
        tokenizers = open_tokenizers(folders)
        check_agreement(folders, {part: len(tokenizer) for part, tokenizer in tokenizers.items()})
    except (CheckpointError, StudioError) as error:
        return str(error)
    return ""


def _state(folders: Mapping[str, Path]) -> Iterator[tuple[str, int, int]]:
    for part, folder in folders.items():
        layout = LAYOUT[part]
        places = {layout.folder, *(str(Path(name).parent) for name in layout.tokenizer)}
        for place in places:
            with suppress(OSError), os.scandir(folder / place) as entries:
                for entry in entries:
                    with suppress(OSError):  # a link to nothing, or gone just now
                        state = entry.stat()
                        yield entry.path, state.st_size, state.st_mtime_ns
