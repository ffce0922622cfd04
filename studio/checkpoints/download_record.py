"""What `download` put into a checkpoint folder, kept in the folder itself: its source and the files verified.

A file whose length and time are as recorded need not be read again to know its checksum.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from studio.filenames import write_whole

NAME = ".download.json"


@dataclass(frozen=True)
class Verified:
    """A file that had this checksum when it had this length and this modification time."""

    size: int
    sha256: str
    mtime_ns: int


@dataclass
class DownloadRecord:
    """The record of one folder.

    source: "hf" or "modelscope"; revision: what is fetched again; files: path inside the folder -> Verified.
    """

    source: str = ""
    repo: str = ""
    revision: str = ""
    total_bytes: int = 0  # of all files that the model needs, 0: not known
    whole: bool = True  # False from the start of a download until its last check
    files: dict[str, Verified] = field(default_factory=dict)

    def checksum(self, folder: Path, path: str) -> str | None:
        """The sha256 of a file that has not changed since it was verified, else None."""
        known = self.files.get(path)
        try:
            now = (folder / path).stat()
        except OSError:
            return None
        return known.sha256 if known and (known.size, known.mtime_ns) == (now.st_size, now.st_mtime_ns) else None

    def note(self, folder: Path, path: str, sha256: str) -> None:
        """Record that a file was verified, on disk at once. Raises OSError."""
        now = (folder / path).stat()
        self.files[path] = Verified(now.st_size, sha256, now.st_mtime_ns)
        self.write(folder)

    def write(self, folder: Path) -> None:
        """Write the record into its folder. Raises OSError."""
        write_whole(folder / NAME, json.dumps(asdict(self), indent=1).encode() + b"\n")


def is_whole(folder: Path) -> bool:
    """False for a folder that a download has begun to fill and not finished."""
    record = read_download_record(folder)
    return record is None or record.whole


def progress(folder: Path) -> tuple[int, int]:
    """How many bytes a download has brought into a folder, and of how many; (0, 0) where none was begun."""
    record = read_download_record(folder)
    return (_bytes_of(folder), record.total_bytes) if record else (0, 0)


def read_download_record(folder: Path) -> DownloadRecord | None:
    """The record of a folder, or None where there is none that can be read."""
    try:
        data: Any = json.loads((folder / NAME).read_bytes())
        files = {path: Verified(**values) for path, values in data.pop("files").items()}
        return DownloadRecord(**data, files=files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _bytes_of(folder: Path) -> int:
    """What lies in a folder that is being filled: files come and go meanwhile."""
    total, inside = 0, [folder]
    while inside:
        try:
            with os.scandir(inside.pop()) as found:
                for entry in found:
                    if entry.is_dir(follow_symlinks=False):
                        inside.append(Path(entry.path))
                    elif entry.name != NAME:
                        total += entry.stat().st_size
        except OSError:
            continue
    return total
