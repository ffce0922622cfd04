"""Finished clips behind each other in one mp4: whole ones packet by packet, parts of them encoded anew. No torch."""

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.errors import InputError, StudioError
from studio.filenames import sync_file, sync_folder
from studio.media import read_video
from studio.settings import FPS
from studio.video_writer import VideoWriter, carry_picture, find_ffmpeg, settings_tag

SECONDS_LIMIT = 600


@dataclass(frozen=True)
class Piece:
    """Frames `begin` to `end` (exclusive) of a clip of `frames` frames."""

    path: Path
    frames: int
    begin: int
    end: int

    @property
    def whole(self) -> bool:
        return (self.begin, self.end) == (0, self.frames)


@dataclass(frozen=True)
class Packets:
    """How a clip is coded, and how many frames it has. Clips of one `coding` can be joined packet by packet."""

    coding: str
    frames: int


def packets_of(path: Path) -> Packets:
    """Raises InputError for a file that holds no video."""
    done = _ffmpeg([*_source(path), "-map", "0:v:0", "-c", "copy", "-f", "framehash", "-hash", "md5", "pipe:1"])
    text = done.stdout.decode("ascii", errors="replace")
    parts = [re.search(rf"^#{name} 0: *(.+)$", text, re.M) for name in ("codec_id", "dimensions", "tb")]
    extra = re.search(r"^#extradata 0, *[0-9]+, *([0-9a-f]+)$", text, re.M)
    frames = sum(line.startswith("0,") for line in text.splitlines())
    if done.returncode != 0 or not frames or not all(parts):
        raise InputError("file_unreadable", file=path.name, reason=_last(done))
    return Packets(" ".join(part[1] for part in (*parts, extra) if part), frames)


def pieces(paths: Sequence[Path], begin: int = 0, end: int | None = None) -> list[Piece]:
    """Which part of which clip the frames `begin` to `end` (None: the last) of all of them are.

    Raises InputError where a clip is coded otherwise than the one before it, or no such frames are there.
    """
    found = [packets_of(path) for path in paths]
    for path, before, this in zip(paths[1:], found, found[1:], strict=False):
        if this.coding != before.coding:
            raise InputError("join_unlike", file=path.name, found=_shape(this), wanted=_shape(before))
    total = sum(packets.frames for packets in found)
    last = total if end is None else end
    if not 0 <= begin < last <= total:
        raise InputError("part_empty", first=begin + 1, last=last, frames=total)
    parts, start = [], 0
    for path, packets in zip(paths, found, strict=True):
        low, high = max(begin - start, 0), min(last - start, packets.frames)
        if low < high:
            parts.append(Piece(path, packets.frames, low, high))
        start += packets.frames
    return parts


def join(parts: Sequence[Piece], to: Path, record: Mapping[str, Any], original: bytes | None = None) -> int:
    """Write the parts behind each other as one mp4 that appears whole; the number of its frames.

    original: the first image that it carries. Raises StudioError where it cannot be written.
    """
    unfinished = to.with_name(f"{to.name}.{os.getpid()}.tmp")
    try:
        with tempfile.TemporaryDirectory(prefix="step-video-join-") as folder:
            files = [_file(part, Path(folder) / f"{number}.mp4") for number, part in enumerate(parts)]
            if len({packets_of(file).coding for file in files}) > 1:  # what was encoded anew came out otherwise
                files = [_encoded(part, Path(folder) / f"{number}.mp4") for number, part in enumerate(parts)]
            _copy(files, unfinished, record, Path(folder))
        frames = packets_of(unfinished).frames
        if frames != sum(part.end - part.begin for part in parts):
            raise StudioError("write_failed", file=to.name, reason=f"it came out with {frames} frames")
        carry_picture(unfinished, original)
        sync_file(unfinished)
        unfinished.replace(to)
        sync_folder(to.parent)
    except OSError as error:
        raise StudioError("write_failed", file=to.name, reason=error.strerror or str(error)) from None
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
    return frames


def _file(part: Piece, made: Path) -> Path:
    return part.path if part.whole else _encoded(part, made)


def _encoded(part: Piece, to: Path) -> Path:
    """The part as a file of its own, coded as `VideoWriter` does: what is not at a clip's border cannot be copied."""
    frames = read_video(part.path)[part.begin : part.end]
    writer = VideoWriter(to, frames.shape[1], frames.shape[2], FPS, {})
    writer.add(frames)
    writer.close()
    return to


def _copy(files: Sequence[Path], to: Path, record: Mapping[str, Any], folder: Path) -> None:
    """Packet by packet, by ffmpeg's concat demuxer; the list holds links, so that names need no quotes."""
    lines = ["ffconcat version 1.0"]
    for number, file in enumerate(files):
        (folder / f"link{number}.mp4").symlink_to(file.resolve())
        lines.append(f"file link{number}.mp4")
    listed = folder / "list"
    listed.write_text("\n".join(lines), encoding="ascii")
    inputs = ["-protocol_whitelist", "file", "-f", "concat", "-safe", "0", "-i", str(listed)]
    outputs = ["-map", "0:v:0", "-c", "copy", *settings_tag(record), "-movflags", "+faststart", "-f", "mp4"]
    done = _ffmpeg([*inputs, *outputs, f"file:{to}"])
    if done.returncode != 0:
        raise StudioError("write_failed", file=to.name, reason=_last(done))


def _source(path: Path) -> list[str]:
    """An mp4 as ffmpeg's input; names inside it open nothing."""
    return ["-protocol_whitelist", "file", "-f", "mov", "-i", f"file:{path.resolve()}"]


def _ffmpeg(arguments: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    command = [find_ffmpeg(), "-y", "-nostdin", "-v", "error", *arguments]
    try:
        return subprocess.run(command, capture_output=True, timeout=SECONDS_LIMIT, start_new_session=True)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, -1, b"", b"it took too long")
    except OSError as error:
        raise StudioError("ffmpeg_unusable", ffmpeg=command[0], reason=error.strerror or str(error)) from None


def _last(done: subprocess.CompletedProcess[bytes]) -> str:
    said = done.stderr.decode("utf-8", errors="replace").strip().splitlines()
    return said[-1] if said else "it holds no video"


def _shape(packets: Packets) -> str:
    codec, shape = packets.coding.split()[:2]
    return f"{codec} {shape}"
