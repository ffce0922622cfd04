"""Small finished clips, sounds and what ffmpeg says of files."""

import subprocess
from pathlib import Path

import numpy as np

from studio.audio.synthesis import RATE, Array
from studio.video_writer import VideoWriter, find_ffmpeg

RECORD = {
    "program": "step-video-studio",
    "settings": {"prompt": "a=b; # \\ 'x' 镜头\nsecond [line]", "seed": 7, "cfg_scale": 9.0},
    "seconds": {"denoise": 0.1},
}


def make_clip(path: Path, frames: int = 50, record: dict | None = None) -> Path:
    writer = VideoWriter(path, 64, 64, 25, RECORD if record is None else record)
    ramp = np.arange(frames, dtype=np.uint8)[:, None, None, None] * 3
    writer.add(np.broadcast_to(ramp, (frames, 64, 64, 3)) + np.arange(64, dtype=np.uint8)[:, None])
    writer.close()
    return path


def ffmpeg(*words: str | Path, data: bytes = b"") -> bytes:
    command = [find_ffmpeg(), "-y", "-v", "error", *map(str, words)]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


def stream_hash(path: Path) -> bytes:
    return ffmpeg("-i", path, "-map", "0:v", "-c", "copy", "-f", "streamhash", "-")


def decoded(path: Path) -> Array:
    """The sound of a file (samples, 2)."""
    pcm = ffmpeg("-i", path, "-map", "0:a", "-f", "f32le", "-ar", str(RATE), "-ac", "2", "-")
    return np.frombuffer(pcm, np.float32).reshape(-1, 2)


def tone(seconds: float, hertz: float = 440.0, level: float = 0.2) -> Array:
    """A stereo sine (samples, 2) float32."""
    wave = level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)
    return np.stack([wave, wave], 1).astype(np.float32)


def write_sound(path: Path, wave: Array, *words: str) -> Path:
    """A sound file of any kind that ffmpeg knows by its suffix."""
    source = ("-f", "f32le", "-ar", str(RATE), "-ac", "2", "-i", "pipe:0")
    ffmpeg(*source, *words, path, data=wave.tobytes())
    return path


def level_db(wave: Array) -> float:
    return float(20 * np.log10(np.sqrt(np.mean(np.square(wave, dtype=np.float64))) + 1e-12))
