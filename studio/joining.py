"""Finished clips behind each other in one mp4: whole ones packet by packet, parts of them encoded anew. No torch."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.errors import InputError, StudioError
from studio.ffmpeg import PICTURE, read_packets, run_ffmpeg
from studio.filenames import put_durably
from studio.media import read_video
from studio.settings import FPS
from studio.video_writer import VideoWriter, carry_picture, settings_tag

CODING = ("codec_id", "dimensions", "tb")  # what must be equal, and the decoder's extra data where there are any


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
class Coded:
    """How a clip is coded, and how many frames it has. Clips of one `coding` can be joined packet by packet."""

    coding: str
    frames: int


def packets_of(path: Path) -> Coded:
    """Raises InputError for a file that holds no video."""
    found = read_packets(path)
    facts = found.streams[0] if found.streams else {}
    if found.done.status != 0 or not found.picture or not facts.keys() >= set(CODING):
        reason = found.done.last if found.done.said.strip() else "it holds no video"
        raise InputError("file_unreadable", file=path.name, reason=reason)
    return Coded(" ".join(facts[name] for name in (*CODING, "extradata") if name in facts), len(found.picture))


def pieces(paths: Sequence[Path], begin: int = 0, end: int | None = None) -> list[Piece]:
    """Which part of which clip the frames `begin` to `end` (None: the last) of all of them are.

    Raises InputError where a clip is coded otherwise than the one before it, or no such frames are there.
    """
    found = [packets_of(path) for path in paths]
    for path, before, this in zip(paths[1:], found, found[1:], strict=False):
        if this.coding != before.coding:
            raise InputError("join_unlike", file=path.name, found=_shape(this), wanted=_shape(before))
    total = sum(coded.frames for coded in found)
    last = total if end is None else end
    if not 0 <= begin < last <= total:
        raise InputError("part_empty", first=begin + 1, last=last, frames=total)
    parts, start = [], 0
    for path, coded in zip(paths, found, strict=True):
        low, high = max(begin - start, 0), min(last - start, coded.frames)
        if low < high:
            parts.append(Piece(path, coded.frames, low, high))
        start += coded.frames
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
        put_durably(unfinished, to)
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
    outputs = [*PICTURE, "-c", "copy", *settings_tag(record), "-movflags", "+faststart", "-f", "mp4"]
    done = run_ffmpeg([*inputs, *outputs, f"file:{to}"])
    if done.status != 0:
        raise StudioError("write_failed", file=to.name, reason=done.last)


def _shape(coded: Coded) -> str:
    codec, shape = coded.coding.split()[:2]
    return f"{codec} {shape}"
