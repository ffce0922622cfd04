"""ffmpeg as a filter: bytes in, bytes and words out, within a time. An mp4 as its input, and the packets in it."""

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from studio.errors import StudioError
from studio.video_writer import find_ffmpeg

SECONDS_LIMIT = 600  # of one call: ten minutes of sound on a slow, crowded CPU
PICTURE = ("-map", "0:v:0")


@dataclass(frozen=True)
class Words:
    """How ffmpeg ended: its exit code, what it wrote, what it said."""

    status: int
    output: bytes
    said: str

    @property
    def last(self) -> str:
        """The last line it said."""
        lines = self.said.strip().splitlines()
        return lines[-1] if lines else f"ffmpeg ended with code {self.status}"


@dataclass(frozen=True)
class Packets:
    """What ffmpeg tells of a file's packets, without decoding them. streams: of each its facts ("codec_id",
    "dimensions", "tb", and the "extradata" of its decoder as a hash); picture: of each packet of the first stream its
    stream, decoding time, time, duration, size and hash. done: how it ended."""

    done: Words
    streams: Sequence[Mapping[str, str]]
    picture: Sequence[Sequence[str]]


def run_ffmpeg(
    arguments: Sequence[str | Path], data: bytes = b"", *, files: Sequence[int] = (), level: str = "error"
) -> Words:
    """files: open descriptors, to be named /dev/fd/N. Raises StudioError where there is no ffmpeg."""
    command = [find_ffmpeg(), "-y", "-nostdin" if not data else "-hide_banner", "-v", level, *map(str, arguments)]
    try:
        done = subprocess.run(
            command, input=data, capture_output=True, timeout=SECONDS_LIMIT, pass_fds=files, start_new_session=True
        )
    except subprocess.TimeoutExpired:
        return Words(-1, b"", f"it took more than {SECONDS_LIMIT} seconds")
    except OSError as error:
        raise StudioError("ffmpeg_unusable", ffmpeg=command[0], reason=error.strerror or str(error)) from None
    return Words(done.returncode, done.stdout, done.stderr.decode("utf-8", errors="replace"))


def mp4_input(path: Path) -> list[str]:
    """An mp4 as ffmpeg's input; names inside it open nothing."""
    return ["-protocol_whitelist", "file", "-f", "mov", "-i", f"file:{path.resolve()}"]


def read_packets(path: Path, maps: Sequence[str] = PICTURE) -> Packets:
    """Of the streams that `maps` choose. Raises as `run_ffmpeg`."""
    done = run_ffmpeg([*mp4_input(path), *maps, "-c", "copy", "-f", "framehash", "-hash", "md5", "pipe:1"])
    text, streams = done.output.decode("ascii", errors="replace"), dict[int, dict[str, str]]()
    for name, number, value in re.findall(r"^#([a-z_]+) ([0-9]+)[:,] *(.+)$", text, re.M):
        streams.setdefault(int(number), {})[name] = value.rpartition(",")[2].strip()
    picture = [[field.strip() for field in line.split(",")] for line in text.splitlines() if line.startswith("0,")]
    return Packets(done, [streams[number] for number in sorted(streams)], picture)
