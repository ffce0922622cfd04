"""Sound files of strangers: every kind ffmpeg should take, any rate and number of channels; others are refused."""

import os
from pathlib import Path

import numpy as np
import pytest

from studio.audio.ffmpeg import read_sound
from studio.audio.synthesis import RATE
from studio.errors import InputError
from tests.audio.clips import ffmpeg, level_db, make_clip, tone, write_sound


def test_files_of_all_kinds_rates_and_channels_become_stereo(tmp_path: Path) -> None:
    wave, wrong = tone(1.2), []
    kinds: dict[str, list[str]] = {name: [] for name in ("a.wav", "a.mp3", "a.flac", "a.m4a", "a.ogg")}
    kinds |= {f"r{rate}.wav": ["-ar", str(rate)] for rate in (8000, 11025, 44100, 96000, 192000)}
    kinds |= {f"c{count}.flac": ["-ac", str(count)] for count in (1, 3, 6, 8)}
    kinds |= {"u8.wav": ["-c:a", "pcm_u8"], "f64.wav": ["-c:a", "pcm_f64le"], "-dash: a'b.ogg": []}
    for name, words in kinds.items():
        path = write_sound(tmp_path / name, wave, *words)
        read = read_sound(path, 600)
        error = level_db(read[RATE // 10 : RATE]) - level_db(wave[RATE // 10 : RATE])
        loudest = int(np.abs(np.fft.rfft(read[:RATE, 0])).argmax())
        if abs(len(read) / RATE - 1.2) > 0.06 or abs(error) > 7 or abs(loudest - 440) > 1:
            wrong.append(f"{name}: {len(read) / RATE:.3f} s, {error:.1f} dB, {loudest} Hz")
    assert not wrong, "\n".join(wrong)
    assert len(read_sound(tmp_path / "a.wav", 0.5)) == RATE // 2, "no more than is needed"


def test_what_is_no_sound_is_refused_and_opens_nothing_else(tmp_path: Path) -> None:
    secret = write_sound(tmp_path / "secret.wav", tone(1))
    texts = {
        "text.wav": "no sound",
        "empty.mp3": "",
        "list.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n",
        "list.wav": f"ffconcat version 1.0\nfile {secret}\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "cut.flac").write_bytes(write_sound(tmp_path / "whole.flac", tone(1)).read_bytes()[:40])
    (tmp_path / "folder.wav").mkdir()
    os.mkfifo(tmp_path / "pipe.wav")
    make_clip(tmp_path / "silent.mp4", 10)
    names = [*texts, "cut.flac", "folder.wav", "pipe.wav", "silent.mp4", "gone.wav"]
    for name in names:
        with pytest.raises(InputError) as failure:
            read_sound(tmp_path / name, 600)
        assert failure.value.code in ("sound_file", "file_unreadable") and name in str(failure.value), name
    assert "no sound" in str(pytest.raises(InputError, read_sound, tmp_path / "silent.mp4", 600).value)
    ffmpeg("-f", "lavfi", "-i", "aevalsrc=1/0:d=0.5", "-c:a", "pcm_f32le", tmp_path / "nan.wav")
    assert np.isfinite(read_sound(tmp_path / "nan.wav", 600)).all()
