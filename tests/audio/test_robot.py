"""The robot voice speaks Chinese, Cantonese and English, the same each time, from a process of its own."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from studio.audio import espeak_process, robot
from studio.audio.synthesis import RATE, Array
from studio.errors import Cancelled, StudioError


def pitch(wave: Array) -> float:
    """Median Hz between 90 and 400 of the wave's voiced parts, each 50 ms long."""
    found = []
    low, high = RATE // 400, RATE // 90
    for part in np.split(wave[: len(wave) // 2400 * 2400], len(wave) // 2400):
        correlation = np.fft.irfft(np.abs(np.fft.rfft(part, 4800)) ** 2)
        period = low + int(correlation[low:high].argmax())
        if np.abs(part).max() > 0.1 and correlation[period] > 0.5 * correlation[0]:
            found.append(RATE / period)
    return float(np.median(found))


def test_it_speaks_three_languages_with_two_voices_and_the_same_again() -> None:
    texts = {"en": "Good morning", "zh": "早上好，世界", "yue": "早晨，世界"}
    said = {language: robot.speak(text, "robot", language) for language, text in texts.items()}
    for language, wave in said.items():
        assert wave.ndim == 1 and wave.dtype == np.float32 and 0.4 < len(wave) / RATE < 3, language
        assert np.abs(wave).max() > 0.1 and np.abs(wave[:100]).max() < 0.05, "its ends are cut"
    assert not np.array_equal(said["zh"][:RATE], said["yue"][:RATE]), "two languages"
    assert np.array_equal(robot.speak(texts["zh"], "robot", "auto"), said["zh"])
    assert robot.language_of("ok 好") == "zh" and robot.language_of("ok") == "en"
    assert pitch(robot.speak(texts["en"], "robot-female", "en")) > 1.2 * pitch(said["en"])
    longer = robot.speak("a\0b <speak>[[h@]]</speak> & \U0001f600 line\nline", "robot", "en")
    assert len(longer) > RATE, "marks are read, not obeyed"


def test_a_voice_that_is_missing_silent_or_stopped_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(StudioError, match="stayed silent"):
        robot.speak("   ", "robot", "en")
    monkeypatch.setitem(robot.LANGUAGE_VOICES, "en", "klingon-x")
    with pytest.raises(StudioError, match="code 4"):
        robot.speak("Hello", "robot", "en")
    monkeypatch.setattr(espeak_process, "__file__", str(tmp_path / "slow.py"))
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(60)\n")
    with pytest.raises(Cancelled):
        robot.speak("Hello", "robot", "en", lambda: True)
    monkeypatch.setattr(robot, "SECONDS_LIMIT", 0)
    with pytest.raises(StudioError, match="more than 0 seconds"):
        robot.speak("Hello", "robot", "en")


def test_its_process_loads_nothing_of_this_program_and_says_what_is_missing() -> None:
    """eSpeak NG is GPL-3: only that process has it, and it has nothing of ours."""
    program = Path(espeak_process.__file__).read_text(encoding="utf-8")
    assert "studio" not in program.replace("robot.py", "") and "import models" not in program
    hidden = f"import sys; sys.modules['espeakng_loader'] = None\n{program}"
    request = b'{"text": "x", "voice": "en", "variant": ""}'
    done = subprocess.run([sys.executable, "-c", hidden], input=request, capture_output=True)
    assert done.returncode == espeak_process.NOT_THERE and b"espeakng-loader is not installed" in done.stderr
    assert "espeakng_loader" not in sys.modules
