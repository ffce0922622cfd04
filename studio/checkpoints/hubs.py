"""The two hubs that Step-Video is published on, through their own clients: list a repository, fetch one file of it.

Both clients resume a broken download, within a run and in the next one.
"""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, HTTPError
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers

from studio.errors import StudioError

CLIENT = "step-video-studio"


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
        """Fetch a file into folder/file.path, resuming what an earlier try left."""


def open_hub(source: str) -> Hub:
    """The hub named "hf" or "modelscope"; HF_ENDPOINT and MODELSCOPE_ENDPOINT replace their addresses."""
    hubs: dict[str, Callable[[], Hub]] = {"hf": HuggingFace, "modelscope": ModelScope}
    return hubs[source]()


class HuggingFace:
    """huggingface.co, or the mirror that HF_ENDPOINT names."""

    def __init__(self) -> None:
        self._api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, library_name=CLIENT)

    def list(self, repo: str) -> tuple[str, list[HubFile]]:
        with _failures(repo, self._api.endpoint, HTTPError):
            info = self._api.model_info(repo, files_metadata=True)
        files = [
            HubFile(item.rfilename, item.size or 0, item.lfs.sha256 if item.lfs else "", item.blob_id or "")
            for item in info.siblings or []
        ]
        return info.sha or "main", files

    def fetch(self, repo: str, revision: str, file: HubFile, folder: Path) -> None:
        """Through the client's own `http_get`, which resumes: its hf_hub_download throws partial files away."""
        path = folder / file.path
        part = path.with_name(f"{path.name}.{(file.sha256 or file.git_sha1)[:12]}.incomplete")
        part.parent.mkdir(parents=True, exist_ok=True)
        url = hf_hub_url(repo, file.path, revision=revision, endpoint=self._api.endpoint)
        with _failures(file.path, self._api.endpoint, HTTPError):
            while not self._get(url, part, file.size):
                pass
        os.replace(part, path)

    def _get(self, url: str, part: Path, size: int) -> bool:
        """Fetch what `part` lacks. False where the connection broke after some bytes had come."""
        with open(part, "ab") as out:
            begun = out.tell()
            if begun > size:  # of another file
                out.truncate(0)
                begun = 0
            try:
                http_get(url, out, resume_size=begun, headers=build_hf_headers(library_name=CLIENT), expected_size=size)
            except HTTPError as error:
                if isinstance(error, HfHubHTTPError) or out.tell() <= begun:
                    raise
                return False
        return True


class ModelScope:
    """modelscope.cn, or what MODELSCOPE_ENDPOINT names."""

    def __init__(self) -> None:
        from modelscope_hub import HubApi, HubError  # here: only this source needs it

        self._error = HubError
        self._api = HubApi(endpoint=os.environ.get("MODELSCOPE_ENDPOINT") or None)

    def list(self, repo: str) -> tuple[str, list[HubFile]]:
        with _failures(repo, "ModelScope", self._error):
            items = self._api.list_repo_files(repo, "model")
        return "master", [HubFile(item.path, item.size, item.sha256 or "") for item in items if not item.is_dir]

    def fetch(self, repo: str, revision: str, file: HubFile, folder: Path) -> None:
        with _failures(file.path, "ModelScope", self._error):
            self._api.download_file(
                repo, "model", file.path, revision=revision, local_dir=folder, file_size=file.size or None
            )


@contextmanager
def _failures(what: str, where: str, kind: type[Exception]) -> Iterator[None]:
    """Whatever a client raises (`kind`, and plain OSError and ValueError) becomes one sentence with its reason.

    A full disk stays the OSError it is: the caller knows the sizes.
    """
    try:
        yield
    except (OSError, ValueError, kind) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise StudioError("download_failed", what=what, where=where, reason=lines[0]) from error
