"""Soundtracks of finished clips, as the page asks for them. What a track is, only the desk behind the page knows."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from studio.errors import InputError, StudioError
from studio.filenames import beside
from studio.media import read_metadata_file
from studio.queue.gallery import Entry
from studio.queue.job import Job, JobState
from studio.queue.kinds import SoundOrder
from studio.service.backend import Backend
from studio.service.media import first_image
from studio.service.uploads import Uploads

OWN = "sound-"  # with which the names of sound files begin, so that they are no others of a job's folder
NAME_LETTERS = 60


def clip_of(backend: Backend, id: str) -> Entry | None:
    """The finished clip of that id; None where there is none, its file is gone, or it is a single frame."""
    entry = backend.gallery.get(id) if id else None
    fits = entry and entry.state == JobState.FINISHED and entry.path and entry.path.suffix == ".mp4"
    return entry if fits else None


def track_of(entry: Entry) -> Mapping[str, Any] | None:
    """The recipe of the sound that a clip has, None where it has none of ours."""
    try:
        found = read_metadata_file(beside(entry.path, ".json")).get("sound") if entry.path else None
    except InputError:
        return None
    return {key: value for key, value in found.items() if key != "files"} if isinstance(found, dict) else None


def has_words(track: Mapping[str, Any] | None) -> bool:
    """Whether a clip with this soundtrack has subtitles."""
    return bool(track and track.get("lines") and track.get("subtitles"))


def loudness_of(job: Job) -> tuple[float, float] | None:
    """LUFS and true peak in dB that a finished sound reached, as measured in its file; None where there is none."""
    try:
        found = read_metadata_file(beside(Path(job.result.path), ".json")) if job.result else {}
    except InputError:
        return None
    loud, peak = found.get("loudness_lufs"), found.get("peak_db")
    if "sound" in found and isinstance(loud, int | float) and isinstance(peak, int | float):
        return loud, peak
    return None


def take_sound(backend: Backend, uploads: Uploads, path: str) -> tuple[str, float]:
    """The name in a track of an uploaded sound file, and its seconds. Raises InputError for what is none."""
    if not uploads.contains(path):
        raise InputError("upload_gone")
    return own_name(Path(path).name), backend.sound.seconds(Path(path))


def own_name(name: str) -> str:
    """The name of a sound file in the folder of its job."""
    plain = re.sub(r"[^\w.-]+", "-", name)[-NAME_LETTERS:]
    return plain if plain.startswith(OWN) else OWN + plain


def submit_sound(backend: Backend, uploads: Uploads, id: str, track: Any, uploaded: Mapping[str, str]) -> Job:
    """Queue a sound for the clip `id`. track: plain data, or None to take its sound away; uploaded: name -> path.

    Raises InputError for a track that cannot be, or whose files are gone; StudioError as submit.submit.
    """
    entry = clip_of(backend, id)
    if entry is None or entry.path is None:
        raise InputError("clip_gone")
    if not backend.owner():
        raise StudioError("queue_elsewhere")
    files: Mapping[str, Path] = {}
    if track is not None:
        track, files = checked_track(backend, uploads, entry, track, uploaded)
    picture = first_image(backend, id)
    settings = entry.settings if picture else replace(entry.settings, first_image=None)
    order = SoundOrder(str(entry.path), track)
    return backend.queue.submit_all([settings], picture, files=files, sound=order)[0]


def checked_track(
    backend: Backend, uploads: Uploads, entry: Entry, track: Any, uploaded: Mapping[str, str]
) -> tuple[Mapping[str, Any], Mapping[str, Path]]:
    """The track to keep, and where the sound files lie that it names. Raises InputError as submit_sound."""
    names = _file_names(backend, track)
    files = {own_name(name): _found(entry, uploads, name, uploaded) for name in names}
    return backend.sound.check(_renamed(track, names), list(files)), files


def _file_names(backend: Backend, track: Any) -> list[str]:
    """The sounds of a track that are files; what is no track has none, and is refused by the desk."""
    layers = track.get("layers") if isinstance(track, dict) else None
    named = [one.get("sound") for one in layers if isinstance(one, dict)] if isinstance(layers, list) else []
    known = backend.sound.choices()["sounds"]
    return sorted({name for name in named if isinstance(name, str) and name not in known})


def _renamed(track: Any, names: Sequence[str]) -> Any:
    """The track with its files under their own names."""
    if not names:
        return track
    layers = [
        {**one, "sound": own_name(one["sound"])} if isinstance(one, dict) and one.get("sound") in names else one
        for one in track["layers"]
    ]
    return {**track, "layers": layers}


def _found(entry: Entry, uploads: Uploads, name: str, uploaded: Mapping[str, str]) -> Path:
    """A sound file: uploaded now, or of the sound that the clip has. No name leads into another folder."""
    if name in uploaded and uploads.contains(uploaded[name]):
        path = Path(uploaded[name])
    elif entry.job:
        path = entry.job.folder / name if name.startswith(OWN) else Path()
    else:
        path = entry.path.parent / name if entry.path and name in _own_files(entry) else Path()
    if not path.is_file() or (name not in uploaded and Path(name).name != name):
        raise InputError("sound_file_gone", file=name[:NAME_LETTERS])
    return path


def _own_files(entry: Entry) -> list[str]:
    """Names of the sound files in the recipe that the clip carries."""
    track = track_of(entry) or {}
    layers = track.get("layers")
    return [str(one.get("sound")) for one in layers if isinstance(one, dict)] if isinstance(layers, list) else []
