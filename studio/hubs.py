"""The two hubs that Step-Video is published on, through their own clients: list a repository, fetch one file of it.

Both clients resume a broken download, within a run and in the next one.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from studio.errors import StudioError


@dataclass(frozen=True)
class HubFile:
    """One file of a repository. sha256: of its content; git_sha1: of small files where the hub knows no sha256."""

    path: str
    size: int
    sha256: str = ""
    git_sha1: str = ""


class Hub(Protocol):
    """What `download` needs of a hub. Both raise StudioError "download_failed" with the hub's reason."""

    def list(self, repo: str) -> tuple[str, list[HubFile]]:
        """The revision that will be fetched, and its files."""

    def fetch(self, repo: str, revision: str, file: HubFile, folder: Path) -> None:
        """Bring folder/file.path there, going on from what an earlier try left."""


def open_hub(source: str) -> Hub:
    """The hub named "hf" or "modelscope"; HF_ENDPOINT and MODELSCOPE_ENDPOINT replace their addresses."""
    return {"hf": HuggingFace, "modelscope": ModelScope}[source]()


class HuggingFace:
    """huggingface.co, or the mirror that HF_ENDPOINT names."""

    def __init__(self) -> None:
        from huggingface_hub import HfApi, errors  # here: only `download` needs it, and it takes a while to import

        self._errors = (errors.HTTPError, errors.XetDownloadError)
        self._api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, library_name="step-video-studio")

    def list(self, repo: str) -> tuple[str, list[HubFile]]:
        with _failures(repo, self._api.endpoint, self._errors):
            info = self._api.model_info(repo, files_metadata=True)
        files = [
            HubFile(item.rfilename, item.size or 0, item.lfs.sha256 if item.lfs else "", item.blob_id or "")
            for item in info.siblings or []
        ]
        return info.sha or "main", files

    def fetch(self, repo: str, revision: str, file: HubFile, folder: Path) -> None:
        with _failures(file.path, self._api.endpoint, self._errors):
            self._api.hf_hub_download(repo, file.path, revision=revision, local_dir=folder)


class ModelScope:
    """modelscope.cn, or what MODELSCOPE_ENDPOINT names."""

    def __init__(self) -> None:
        from modelscope_hub import HubApi, HubError

        self._errors = (HubError,)
        self._api = HubApi(endpoint=os.environ.get("MODELSCOPE_ENDPOINT") or None)

    def list(self, repo: str) -> tuple[str, list[HubFile]]:
        with _failures(repo, "ModelScope", self._errors):
            items = self._api.list_repo_files(repo, "model")
        return "master", [HubFile(item.path, item.size, item.sha256 or "") for item in items if not item.is_dir]

    def fetch(self, repo: str, revision: str, file: HubFile, folder: Path) -> None:
        with _failures(file.path, "ModelScope", self._errors):
            self._api.download_file(
                repo, "model", file.path, revision=revision, local_dir=folder, file_size=file.size or None
            )


@contextmanager
def _failures(what: str, where: str, kinds: tuple[type[Exception], ...]) -> Iterator[None]:
    """Whatever a client raises (`kinds`, and plain OSError and ValueError) becomes one sentence with its reason.

    A full disk stays the OSError it is: the caller knows the sizes.
    """
    try:
        yield
    except (OSError, ValueError, *kinds) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise StudioError("download_failed", what=what, where=where, reason=lines[0]) from error
