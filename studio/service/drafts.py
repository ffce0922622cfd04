"""The mix of a soundtrack that is being edited, to be heard with the clip: a wav, kept by the hash of the track."""

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studio.errors import InputError, StudioError
from studio.filenames import write_whole
from studio.queue.gallery import Entry
from studio.service.backend import Backend
from studio.service.sound import checked_track, clip_of
from studio.service.uploads import Uploads

DRAFT = "draft"  # the kind of a draft in the address of a file
FOLDER = "drafts"  # inside the queue's folder
KEPT = 20  # of up to 12 MB each; the oldest go first
UNHEARD = ("subtitles", "version")  # parts of a track that nobody hears
_KEY = re.compile(r"[0-9a-f]{32}")
_making = threading.Lock()  # one mix at a time


def make_draft(
    backend: Backend, uploads: Uploads, id: str, track: Any, uploaded: Mapping[str, str]
) -> tuple[str, list[str]]:
    """The key of the draft, made where the same was not made before; and the lines that are not in it.

    Raises InputError and StudioError as submit_sound, but for the owner of the queue: nothing is queued.
    """
    entry = clip_of(backend, id)
    if entry is None or entry.path is None:
        raise InputError("clip_gone")
    track, files = checked_track(backend, uploads, entry, track, uploaded)
    key = _key(entry, track, files)
    path = _path(backend, key)
    with _making:
        if not path.is_file():
            data = backend.sound.draft(entry.path, track, files)
            try:
                write_whole(path, data)
                for old in sorted(path.parent.iterdir(), key=lambda file: file.stat().st_mtime)[:-KEPT]:
                    old.unlink(missing_ok=True)
            except OSError as error:
                raise StudioError("write_failed", file=path.name, reason=error.strerror or str(error)) from None
    return key, backend.sound.unheard(track)


def draft_of(backend: Backend, key: str) -> Path | None:
    """The wav of a key, None for what is none; it may be gone."""
    return _path(backend, key) if _KEY.fullmatch(key) else None


def _path(backend: Backend, key: str) -> Path:
    return backend.queue.folder / FOLDER / f"{key}.wav"


def _key(entry: Entry, track: Mapping[str, Any], files: Mapping[str, Path]) -> str:
    """Hash of all that is heard: the track, the bytes of its files, the clip for its length."""
    told = json.dumps({name: value for name, value in track.items() if name not in UNHEARD}, sort_keys=True)
    found = hashlib.sha256(f"{entry.id} {told}".encode())
    try:
        for name in sorted(files):
            with files[name].open("rb") as file:
                found.update(hashlib.file_digest(file, "sha256").digest())
    except OSError as error:
        raise InputError("file_unreadable", file=name, reason=error.strerror or str(error)) from None
    return found.hexdigest()[:32]
