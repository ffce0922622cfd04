"""Sound files in, loudness measured, by ffmpeg."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from studio.audio.synthesis import RATE, Array
from studio.errors import InputError
from studio.ffmpeg import run_ffmpeg

# What may be opened; a playlist or a script of ffmpeg's would read other files of this machine.
FORMATS = "wav,w64,aiff,mp3,flac,mov,mp4,m4a,3gp,3g2,mj2,ogg,aac,matroska,webm"
FILE_LIMIT = 512 * 2**20  # bytes of a sound file
PCM = ["-f", "f32le", "-ar", str(RATE), "-ac", "2"]
SILENT = -70.0  # LUFS: ebur128's gate; what is below counts as silence


def read_sound(path: Path, longest: float) -> Array:
    """A sound file as stereo (samples, 2) float32 at RATE, channels mixed down, at most `longest` seconds.

    Raises InputError for a file that is missing, too large, no sound, or holds none.
    """
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise OSError("it is no file")
        with path.open("rb"):
            pass
    except OSError as error:
        raise InputError("file_unreadable", file=path.name, reason=error.strerror or str(error)) from None
    if size > FILE_LIMIT:
        raise InputError("sound_file", file=path.name, reason=f"it has {size >> 20} MB, {FILE_LIMIT >> 20} are allowed")
    source = ["-protocol_whitelist", "file", "-format_whitelist", FORMATS, "-i", f"file:{path.resolve()}"]
    done = run_ffmpeg([*source, "-map", "0:a:0", "-t", f"{longest:.3f}", *PCM, "pipe:1"])
    wave = np.frombuffer(done.output[: len(done.output) // 8 * 8], np.float32).reshape(-1, 2)
    if done.status != 0 or not len(wave):
        silent = "matches no streams" in done.said or "does not contain any stream" in done.said
        raise InputError("sound_file", file=path.name, reason="it holds no sound" if silent else done.last)
    return np.nan_to_num(wave, nan=0.0, posinf=0.0, neginf=0.0).clip(-8, 8)


@dataclass(frozen=True)
class Loudness:
    """integrated: LUFS of the whole (EBU R128); momentary: of its loudest 400 ms; true_peak: dB of full scale."""

    integrated: float
    momentary: float
    true_peak: float

    @property
    def silent(self) -> bool:
        """Nothing in it reaches the gate of -70 LUFS."""
        return self.momentary <= SILENT


def measure(wave: Array) -> Loudness:
    """Loudness of stereo (samples, 2); what is shorter than 400 ms is measured with silence behind it."""
    wave = np.ascontiguousarray(np.pad(wave, ((0, max(0, RATE * 2 // 5 + 1 - len(wave))), (0, 0))), np.float32)
    return _loudness([*PCM, "-i", "pipe:0"], wave.tobytes())


def measure_file(path: Path) -> Loudness:
    """Loudness of a video's sound, as it is decoded."""
    return _loudness(["-protocol_whitelist", "file", "-i", f"file:{path.resolve()}", "-map", "0:a:0"], b"")


def _loudness(source: list[str], data: bytes) -> Loudness:
    done = run_ffmpeg([*source, "-af", "ebur128=peak=true", "-f", "null", "-"], data, level="info")
    summary = done.said.rpartition("Summary:")[2]
    found = [re.search(rf"{name}:\s*(-?[\d.]+|-?inf|nan)", summary) for name in ("I", "Peak")]
    if done.status != 0 or not all(found):
        raise InputError("sound_file", file="sound", reason=done.last)
    moments = [float(value) for value in re.findall(r"\bM:\s*(-?[\d.]+)", done.said)]
    integrated, peak = (float(match[1]) if match and match[1] not in ("-inf", "nan") else -120.0 for match in found)
    return Loudness(integrated, max(moments, default=-120.0), peak)
