"""The robot voice: eSpeak NG in a process of its own. It sounds like a machine and is there without a download."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from studio.audio import espeak_process
from studio.audio.synthesis import Array, resampled, samples
from studio.errors import Cancelled, StudioError

ROBOTS = {"robot": "", "robot-female": "+f2"}  # voice -> eSpeak's variant
LANGUAGE_VOICES = {"en": "en", "zh": "cmn", "yue": "yue"}
SECONDS_LIMIT = 120
SILENT = 1e-3  # a peak below this part of full scale is no speech
KEPT = 0.03  # seconds of silence left at both ends of a line


def language_of(text: str) -> str:
    """ "zh" where the text holds a Chinese character, else "en": the zh voice reads English words in between too."""
    return "zh" if any("\u3400" <= char <= "\u9fff" or "\U00020000" <= char <= "\U0003ffff" for char in text) else "en"


def speak(text: str, voice: str, language: str, stop: Callable[[], bool] = lambda: False) -> Array:
    """Mono speech (samples,) float32 at RATE, silence at its ends cut. language: "auto" or of LANGUAGE_VOICES.

    The same text gives the same samples. Raises StudioError where eSpeak NG is missing, fails or stays silent, and
    Cancelled once `stop` says so.
    """
    language = language_of(text) if language == "auto" else language
    asked = {"text": text, "voice": LANGUAGE_VOICES[language], "variant": ROBOTS[voice]}
    status, output, said = _run(json.dumps(asked).encode(), stop)
    if status == espeak_process.NOT_THERE:
        raise StudioError("robot_missing", reason=said or "unknown")
    if status != 0:
        raise StudioError("robot_failed", language=language, reason=said or f"its process ended with code {status}")
    head, _, pcm = output.partition(b"\n")
    wave = np.frombuffer(pcm[: len(pcm) // 2 * 2], "<i2").astype(np.float32) / 32768
    if not len(wave) or float(np.abs(wave).max()) < SILENT:
        raise StudioError("robot_failed", language=language, reason="it stayed silent")
    rate = json.loads(head)["rate"]
    return trimmed(resampled(wave, rate))


def trimmed(wave: Array) -> Array:
    """The wave (samples,) without the silence at its ends, KEPT seconds apart."""
    heard = np.flatnonzero(np.abs(wave) > 0.003 * np.abs(wave).max())
    keep = samples(KEPT)
    return wave[max(0, heard[0] - keep) : heard[-1] + 1 + keep]


def _run(request: bytes, stop: Callable[[], bool]) -> tuple[int, bytes, str]:
    """Run the program; it is ended when stop says so or the time is over."""
    command = [sys.executable, str(Path(espeak_process.__file__))]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    began, given = time.monotonic(), request
    try:
        while True:
            try:
                output, said = process.communicate(given, timeout=0.2)
                return process.returncode, output, said.decode("utf-8", errors="replace").strip()
            except subprocess.TimeoutExpired:
                given = b""  # communicate has it already
            if stop():
                raise Cancelled()
            if time.monotonic() - began > SECONDS_LIMIT:
                return -1, b"", f"it took more than {SECONDS_LIMIT} seconds"
    finally:
        process.kill()
        process.wait()
