"""What a finished clip is: its picture as packets, its length, its tags. And the mp4 that has sound beside them."""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from studio.audio.ffmpeg import PCM
from studio.audio.synthesis import Array
from studio.audio.track import LONGEST
from studio.embedded import carried_picture
from studio.errors import InputError, StudioError
from studio.ffmpeg import PICTURE, Words, mp4_input, read_packets, run_ffmpeg
from studio.units import GB
from studio.video_writer import FULL_DISK_BYTES, SETTINGS_TAG, carry_picture

CONTAINER_TAGS = ("major_brand", "minor_version", "compatible_brands", "encoder")  # the muxer writes its own
AUDIO_BITS = 192_000  # per second
MOST_CARRIED = 512 * 2**20  # bytes of a first image that a copy takes along
FOREIGN = "comment_before"  # where a foreign clip's own comment waits while ours is in its place


@dataclass(frozen=True)
class Clip:
    """seconds: of the picture; packets: hash of the video packets and their times; tags: the file's own; record: what
    our tag holds, {} for a foreign clip; sounds: number of sound tracks."""

    path: Path
    seconds: float
    frames: int
    packets: str
    tags: Mapping[str, str]
    record: Mapping[str, Any]
    sounds: int


def read_clip(path: Path) -> Clip:
    """Raises InputError for a file that is missing, no mp4 with a picture, or longer than LONGEST seconds."""
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise InputError("file_unreadable", file=path.name, reason=error.strerror or str(error)) from None
    found = read_packets(path, (*PICTURE, "-map", "0:a?"))
    packets, done = found.picture, found.done
    if done.status != 0 or not packets or not found.streams or "tb" not in found.streams[0]:
        reason = "it has no picture" if "matches no streams" in done.said else done.last
        raise InputError("clip_unreadable", file=path.name, reason=reason)
    above, below = map(int, found.streams[0]["tb"].split("/"))
    seconds = max(int(pts) + int(long) for _, _, pts, long, *_ in packets) * above / below
    if seconds > LONGEST:
        raise InputError("clip_long", file=path.name, seconds=seconds, limit=LONGEST)
    times = "\n".join(f"{int(pts) * above / below:.4f} {size} {hashed}" for _, _, pts, _, size, hashed, *_ in packets)
    tags = _tags(path)
    return Clip(
        path=path,
        seconds=seconds,
        frames=len(packets),
        packets=hashlib.sha256(times.encode()).hexdigest(),
        tags=tags,
        record=_record(tags.get(SETTINGS_TAG, "")),
        sounds=len(found.streams) - 1,
    )


def _tags(path: Path) -> dict[str, str]:
    done = run_ffmpeg([*mp4_input(path), "-f", "ffmetadata", "pipe:1"])
    text = done.output.decode("utf-8", errors="replace")
    found = parse_ffmetadata(re.split(r"(?<!\\)\n\[", text)[0])  # what follows is of streams and chapters
    return {key: value for key, value in found.items() if key not in CONTAINER_TAGS and not key.startswith(";")}


def parse_ffmetadata(text: str) -> dict[str, str]:
    """ffmpeg's metadata text: key=value lines in which a backslash keeps the next character (a newline too)."""
    fields, key, part, escaped = {}, None, [], False
    for char in text + "\n":
        if escaped:
            part.append(char)
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == "=" and key is None:
            key, part = "".join(part), []
        elif char == "\n":
            if key is not None:
                fields[key] = "".join(part)
            key, part = None, []
        else:
            part.append(char)
    return fields


def _record(comment: str) -> dict[str, Any]:
    """What this program wrote into the tag, {} where it is another's."""
    try:
        found = json.loads(comment)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and found.get("program") == "step-video-studio" else {}


def record_with(clip: Clip, sound: Mapping[str, Any] | None) -> dict[str, Any]:
    """The clip's record with another soundtrack's recipe, or none; the settings in it stay."""
    record = {key: value for key, value in clip.record.items() if key != "sound"}
    if not clip.record:
        record = {"program": "step-video-studio"}
        if comment := clip.tags.get(SETTINGS_TAG):
            record[FOREIGN] = comment
    return record if sound is None else {**record, "sound": dict(sound)}


def comment_of(record: Mapping[str, Any]) -> str:
    """The text of our tag; of a foreign clip without sound the comment that it had."""
    if set(record) <= {"program", FOREIGN}:
        return str(record.get(FOREIGN, ""))
    return json.dumps(record, ensure_ascii=False)


def write_clip(clip: Clip, to: Path, record: Mapping[str, Any], wave: Array | None, subtitles: str = "") -> None:
    """The clip's picture, packet by packet, with this sound (samples, 2) and these subtitles, or with neither (None).

    Raises StudioError where the file cannot be written whole, or where its picture is not the clip's.
    """
    tags = {**clip.tags, SETTINGS_TAG: comment_of(record)}
    with _text(_ffmetadata(tags)) as words, _text(subtitles) as lines:
        inputs, maps = mp4_input(clip.path), [*PICTURE, "-c:v", "copy"]
        inputs += ["-f", "ffmetadata", "-i", f"/dev/fd/{words.fileno()}"]
        if wave is not None:
            inputs += [*PCM, "-i", "pipe:0"]
            maps += ["-map", "2:a", "-c:a", "aac", "-b:a", str(AUDIO_BITS)]
        if wave is not None and subtitles:
            inputs += ["-f", "srt", "-i", f"/dev/fd/{lines.fileno()}"]
            maps += ["-map", "3:s", "-c:s", "mov_text"]
        ends = ["-map_metadata", "1", "-movflags", "+faststart", "-f", "mp4", f"file:{to}"]
        data = b"" if wave is None else wave.tobytes()
        done = run_ffmpeg([*inputs, *maps, *ends], data, files=(words.fileno(), lines.fileno()))
    if done.status != 0:
        raise _failure(to, done)
    try:
        written = read_clip(to)
    except InputError as error:
        raise StudioError("write_failed", file=to.name, reason=str(error)) from None
    if (written.packets, written.frames) != (clip.packets, clip.frames):
        raise StudioError("write_failed", file=to.name, reason="its picture came out changed")
    carry_picture(to, carried_picture(clip.path, MOST_CARRIED))  # ffmpeg leaves out what it does not know


def _text(text: str) -> IO[bytes]:
    """An open file without a name that holds the text: nothing of it is left behind, whatever ends this process."""
    file = tempfile.TemporaryFile()
    file.write(text.encode("utf-8"))
    file.flush()
    os.lseek(file.fileno(), 0, os.SEEK_SET)
    return file


def _ffmetadata(tags: Mapping[str, str]) -> str:
    def escaped(text: str) -> str:
        return "".join(f"\\{char}" if char in "=;#\\\n" else char for char in text)

    return ";FFMETADATA1\n" + "".join(f"{escaped(key)}={escaped(value)}\n" for key, value in tags.items() if value)


def check_space(to: Path, clip: Clip, seconds: float) -> None:
    """Raise StudioError where the new file would not fit: the clip twice (its index is moved to the front), its sound,
    and 64 MB."""
    need = 2 * clip.path.stat().st_size + int(seconds * AUDIO_BITS / 4) + FULL_DISK_BYTES
    if (free := shutil.disk_usage(to.parent).free) < need:
        raise StudioError("disk_full", folder=to.parent, free_gb=free / GB, need_gb=need / GB)


def _failure(to: Path, done: Words) -> StudioError:
    free = shutil.disk_usage(to.parent).free
    if free < FULL_DISK_BYTES:
        return StudioError("disk_full", folder=to.parent, free_gb=free / GB, need_gb=FULL_DISK_BYTES / GB)
    return StudioError("write_failed", file=to.name, reason=done.last)
