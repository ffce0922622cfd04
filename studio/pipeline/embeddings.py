"""Encoded prompts on disk: a text that was encoded before loads no encoder.

Several processes may share the folder: a file that another one removes between two calls is simply not there.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import torch
from safetensors.torch import save

from models.clip_config import CLIP_TOKENS
from models.regular_files import CheckpointError
from models.weight_files import read_tensors
from studio.filenames import write_whole
from studio.units import GB

LARGEST_BYTES = 256 << 20  # of one file; of the public model it has 8 MB


class EmbeddingCache:
    """Tensors by (text, encoder fingerprint) as files of one folder; the least recently used leave above the cap.

    No method raises for what the file system does: a cache that cannot be used costs time, no job.
    """

    def __init__(self, folder: Path, limit_gb: float) -> None:
        self.folder, self.limit_bytes = folder, int(limit_gb * GB)

    def get(self, text: str, fingerprint: str) -> dict[str, torch.Tensor] | None:
        """The tensors stored for this text, on the CPU; None when absent. A damaged file counts as absent."""
        path = self._path(text, fingerprint)
        if not os.path.lexists(path):
            return None
        try:
            tensors = read_tensors(path, LARGEST_BYTES)
        except CheckpointError:  # or removed meanwhile
            tensors = {}
        if not _is_encoded_text(tensors):
            _remove(path)
            return None
        with suppress(OSError):  # removed meanwhile: what was read is whole
            os.utime(path)
        return tensors

    def put(self, text: str, fingerprint: str, tensors: dict[str, torch.Tensor]) -> None:
        """Store CPU tensors, then remove the files used longest ago until the rest is within the cap.

        A write that fails (full disk) stores nothing.
        """
        data = save({name: tensor.contiguous() for name, tensor in tensors.items()})
        with suppress(OSError):
            write_whole(self._path(text, fingerprint), data)
        files = sorted(self._files())
        excess = sum(size for _, size, _ in files) - self.limit_bytes
        for _, size, path in files:
            if excess <= 0:
                return
            _remove(path)
            excess -= size

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """Time of the last use, bytes and path of every file that is still there when it is asked for."""
        with suppress(OSError):  # the folder itself may go
            for path in self.folder.glob("*.safetensors"):
                with suppress(OSError):
                    state = path.stat()
                    yield state.st_mtime, state.st_size, path

    def _path(self, text: str, fingerprint: str) -> Path:
        key = hashlib.sha256(f"{fingerprint}\0{text}".encode()).hexdigest()
        return self.folder / f"{key}.safetensors"


def _is_encoded_text(tensors: Mapping[str, torch.Tensor]) -> bool:
    """Whether these are what the encoders give: states of Step-LLM (1, l, d) and of CLIP (1, 77, d2), finite."""
    if set(tensors) != {"prompt_embeds", "clip_embeds"} or tensors["clip_embeds"].shape[1:2] != (CLIP_TOKENS,):
        return False
    return all(
        tensor.dim() == 3 and len(tensor) == 1 and tensor.is_floating_point() and bool(torch.isfinite(tensor).all())
        for tensor in tensors.values()
    )


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
