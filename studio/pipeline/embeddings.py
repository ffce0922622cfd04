"""Encoded prompts on disk: a text that was encoded before loads no encoder."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from studio.filenames import write_whole
from studio.units import GB


class EmbeddingCache:
    """Tensors by (text, encoder fingerprint) as files of one folder; the least recently used leave above the cap."""

    def __init__(self, folder: Path, limit_gb: float) -> None:
        self.folder, self.limit_bytes = folder, int(limit_gb * GB)

    def get(self, text: str, fingerprint: str) -> dict[str, torch.Tensor] | None:
        """The tensors stored for this text, on the CPU; None when absent. A damaged file counts as absent."""
        path = self._path(text, fingerprint)
        try:
            tensors = load(path.read_bytes())
        except FileNotFoundError:
            return None
        except SafetensorError:
            path.unlink(missing_ok=True)
            return None
        os.utime(path)
        return tensors

    def put(self, text: str, fingerprint: str, tensors: dict[str, torch.Tensor]) -> None:
        """Store CPU tensors; a write that fails (full disk) stores nothing and is no error: it is a cache."""
        data = save({name: tensor.contiguous() for name, tensor in tensors.items()})
        with suppress(OSError):
            write_whole(self._path(text, fingerprint), data)
        self._trim()

    def _path(self, text: str, fingerprint: str) -> Path:
        key = hashlib.sha256(f"{fingerprint}\0{text}".encode()).hexdigest()
        return self.folder / f"{key}.safetensors"

    def _trim(self) -> None:
        """Remove the files used longest ago until the rest is within the cap."""
        files = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in self.folder.glob("*.safetensors"))
        excess = sum(size for _, size, _ in files) - self.limit_bytes
        for _, size, path in files:
            if excess <= 0:
                return
            path.unlink(missing_ok=True)
            excess -= size
