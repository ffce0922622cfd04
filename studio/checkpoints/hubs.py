"""The two hubs that Step-Video is published on, through their own clients: list a repository, fetch one file of it.

Both clients resume a broken download, within a run and in the next one.
"""

import errno
import os
import re
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

MODELSCOPE_BRANCH = "master"
CLIENT = "step-video-studio"
HEX = re.compile(r"[0-9a-fA-F]{40,64}")
LONGEST_NAME = 200  # bytes of one component; file systems take 255, and a suffix is added while a file arrives


@dataclass(frozen=True)
class HubFile:
    """One file of a repository. sha256: of its content; git_sha1: of small files where the hub knows no sha256."""

    path: str
    size: int
    sha256: str = ""
    git_sha1: str = ""

    @property
    def is_plain(self) -> bool:
        """Whether the path names a place inside the folder on every system, and sums and size can be what they say.

        What a hub lists is a stranger's: the path becomes a file here, and the sums a part of a file's name.
        """
        sums = all(part == "" or HEX.fullmatch(part) for part in (self.sha256, self.git_sha1))
        return self.size >= 0 and sums and all(map(_is_plain_name, self.path.split("/")))


class Hub(Protocol):
    """What `download` needs of a hub. Both raise StudioError "download_failed" with the hub's reason."""

    def list(self, repo: str, revision: str | None = None) -> tuple[str, list[HubFile]]:
        """The revision that will be fetched, and its files. revision: a commit, tag or branch; None: the newest."""

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

    def list(self, repo: str, revision: str | None = None) -> tuple[str, list[HubFile]]:
        with _failures(repo, self._api.endpoint, HTTPError):
            info = self._api.model_info(repo, revision=revision, files_metadata=True)
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
        if part.is_symlink():
            part.unlink()
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
    """modelscope.cn, or what MODELSCOPE_ENDPOINT names.

    Its client tells no commit: the newest revision is the branch "master", and what it held is known by the checksums.
    """

    def __init__(self) -> None:
        from modelscope_hub import HubApi, HubError  # here: only this source needs it

        self._error = HubError
        self._api = HubApi(endpoint=os.environ.get("MODELSCOPE_ENDPOINT") or None)

    def list(self, repo: str, revision: str | None = None) -> tuple[str, list[HubFile]]:
        revision = MODELSCOPE_BRANCH if revision in (None, "main") else revision
        with _failures(repo, "ModelScope", self._error):
            items = self._api.list_repo_files(repo, "model", revision=revision)
        return revision, [HubFile(item.path, item.size, item.sha256 or "") for item in items if not item.is_dir]

    def fetch(self, repo: str, revision: str, file: HubFile, folder: Path) -> None:
        with _failures(file.path, "ModelScope", self._error):
            self._api.download_file(
                repo, "model", file.path, revision=revision, local_dir=folder, file_size=file.size or None
            )


def _is_plain_name(name: str) -> bool:
    """Whether one component of a path is a name and nothing else, on Windows too."""
    if name in ("", ".", "..") or not name.isprintable() or "\\" in name or ":" in name:
        return False
    return len(name.encode()) <= LONGEST_NAME


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
