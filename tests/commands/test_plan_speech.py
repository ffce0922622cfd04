"""`plan` of the model that speaks: from the public sizes, without its files and without a card."""

import json
from pathlib import Path

import pytest

from app import main
from studio.units import GB

LAYERS, HEAD = 32 * 191_901_696, 459_276_288  # bytes of bfloat16 at the public sizes
IDS = 125 / 3  # per second of speech


def test_speech_is_planned_resident_streamed_int8_and_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["plan", "--model", "step-audio-tts", "--model-dir", str(tmp_path), "--output-dir", str(tmp_path)]

    def planned(*flags: str, fits: bool = True) -> dict:
        assert main([*words, "--json", *flags]) == (0 if fits else 1)
        return json.loads(capsys.readouterr().out)

    whole = planned("--vram", "16", "--ram", "32")
    assert whole["sources"] == {"resident": 32} and 7.1e9 / GB < whole["vram_peak_gb"] < 8.5
    assert whole["reading_seconds_per_second"] == pytest.approx((LAYERS + HEAD) / 900e9 * IDS, rel=0.01)
    small = planned("--vram", "6", "--ram", "32", "--link-gbps", "10")
    assert set(small["sources"]) == {"resident", "pinned"} and small["vram_peak_gb"] <= 6
    pinned = small["sources"]["pinned"] * LAYERS / 32 / 10e9 * IDS
    assert pinned < small["reading_seconds_per_second"] < pinned + whole["reading_seconds_per_second"]
    int8 = planned("--vram", "6", "--ram", "32", "--quantize", "int8")
    assert int8["sources"] == {"resident": 32} and int8["vram_peak_gb"] < 0.7 * whole["vram_peak_gb"]
    none = planned("--vram", "2", "--ram", "32", fits=False)
    assert "--vram" in none["reason"]["en"] and "显存" in none["reason"]["zh"]
    assert main([*words, "--vram", "16", "--ram", "32"]) == 0
    assert "32 resident" in (told := capsys.readouterr().out) and "neither was measured with real weights" in told
    assert main([*words, "--vram", "16", "--gpus", "2", "--height", "64"]) == 2
    assert "Speech has no --height, --gpus" in capsys.readouterr().err
