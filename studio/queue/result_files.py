"""Which results lie in the output folder. It is read again only where files were added, removed or renamed."""

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from studio.filenames import beside

MEDIA = (".mp4", ".png")
# A file system may give two changes this close together one time, so that a folder's time says nothing yet.
SAME_TIME_NS = 2 * 10**9


@dataclass(frozen=True)
class ResultFile:
    """The mp4, or the png of one frame; `changed`: when the json beside it was written, in Unix seconds."""

    path: Path
    changed: float


@dataclass(frozen=True)
class _Listing:
    """What was in a folder when its time was `changed` (nanoseconds; None: it is to be read again)."""

    changed: int | None
    results: tuple[ResultFile, ...] = ()
    folders: tuple[Path, ...] = field(default=())


class ResultFiles:
    """Results in `folder` and the folders directly in it, hidden ones apart: a json with an mp4 or png beside it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._listings: Mapping[Path, _Listing] = {}
        self._results: list[ResultFile] = []
        self._lock = threading.Lock()

    def newest_first(self) -> list[ResultFile]:
        """All of them. Folders that did not change since the last call cost one stat each."""
        with self._lock:
            top = self._read(self._folder)
            listings = {self._folder: top} | {folder: self._read(folder) for folder in top.folders}
            if listings != self._listings:
                found = [result for listing in listings.values() for result in listing.results]
                self._results = sorted(found, key=lambda result: (result.changed, str(result.path)), reverse=True)
                self._listings = listings
            return self._results

    def _read(self, folder: Path) -> _Listing:
        """The folder's listing, the known one where it still holds; an empty one where it cannot be read."""
        try:
            changed = folder.stat().st_mtime_ns
            known = self._listings.get(folder)
            if known and known.changed == changed:
                return known
            with os.scandir(folder) as entries:
                found = {entry.name: entry for entry in entries}
        except OSError:
            return _Listing(None)
        results = []
        for name, entry in found.items():
            media = (beside(folder / name, kind) for kind in MEDIA) if name.endswith(".json") else ()
            path = next((path for path in media if path.name in found and found[path.name].is_file()), None)
            if path and (result := _result(path, entry)):
                results.append(result)
        folders = sorted(folder / name for name, entry in found.items() if name[0] != "." and entry.is_dir())
        reliable = time.time_ns() - changed > SAME_TIME_NS
        return _Listing(changed if reliable else None, tuple(results), tuple(folders))


def _result(path: Path, record: os.DirEntry[str]) -> ResultFile | None:
    try:
        return ResultFile(path, record.stat().st_mtime)
    except OSError:  # removed since it was listed
        return None
