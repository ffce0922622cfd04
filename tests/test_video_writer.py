"""Writing an mp4 through ffmpeg, and every way in which ffmpeg fails."""

import itertools
import os
import tempfile

import numpy as np
import pytest

from studio.errors import StudioError
from studio.video_writer import SILENCE_SECONDS, VideoWriter, find_ffmpeg


def test_a_writer_that_cannot_write_says_so_and_leaves_nothing(tmp_path):
    path = tmp_path / "missing" / "a.mp4.tmp"
    writer = VideoWriter(path, 64, 96, 25, {})
    with pytest.raises((StudioError, FileNotFoundError)):
        writer.add(np.zeros((200, 64, 96, 3), np.uint8))
        writer.close()
    assert not path.exists()


@pytest.fixture
def ffmpeg(tmp_path, monkeypatch):
    """ffmpeg("commands") puts a shell script in ffmpeg's place; $FFMPEG is the real one."""
    real = find_ffmpeg()

    def replace(script: str) -> None:
        path = tmp_path / "ffmpeg"
        path.write_text(f"#!/bin/sh\nFFMPEG={real}\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(path))

    return replace


def test_a_video_that_ffmpeg_did_not_finish_is_none(tmp_path, ffmpeg):
    noise = np.random.default_rng(1).integers(0, 255, (17, 64, 96, 3)).astype(np.uint8)
    scripts = {
        'ulimit -f 4; exec "$FFMPEG" "$@"': "could not be written",  # cut off at 2 KB, as by a full disk
        "cat > /dev/null; echo first >&2; echo No space left on device >&2; exit 1": "No space left on device",
        "exit 3": "code 3",
    }
    for script, words in scripts.items():
        ffmpeg(script)
        writer = VideoWriter(tmp_path / "a.mp4.tmp", 64, 96, 25, {})
        with pytest.raises(StudioError, match=words):
            writer.add(noise)
            writer.close()
        writer.abort()
        assert not (tmp_path / "a.mp4.tmp").exists()


def test_an_ffmpeg_that_hangs_is_ended_after_a_long_silence(tmp_path, ffmpeg):
    """It takes no frame, takes them and never ends, or has closed its ears. The clock is the test's."""
    noise = np.random.default_rng(1).integers(0, 255, (17, 64, 96, 3)).astype(np.uint8)
    for script in ("exec sleep 60", "cat > /dev/null; exec sleep 60", "exec < /dev/null 2> /dev/null; exec sleep 60"):
        ffmpeg(script)
        clock = itertools.count(step=SILENCE_SECONDS / 4)
        writer = VideoWriter(tmp_path / "a.mp4.tmp", 64, 96, 25, {}, clock=lambda clock=clock: float(next(clock)))
        with pytest.raises(StudioError) as caught:
            writer.add(noise)
            writer.close()
        assert caught.value.code == "ffmpeg_silent" and caught.value.values["seconds"] > SILENCE_SECONDS, script
        writer.abort()
        assert not (tmp_path / "a.mp4.tmp").exists()


def test_an_ffmpeg_that_says_much_is_heard_and_does_not_block(tmp_path, ffmpeg):
    ffmpeg('for i in $(seq 20000); do echo a warning that nobody reads >&2; done; exec "$FFMPEG" "$@"')
    writer = VideoWriter(tmp_path / "a.mp4.tmp", 64, 96, 25, {})
    writer.add(np.zeros((17, 64, 96, 3), np.uint8))
    writer.close()
    assert (tmp_path / "a.mp4.tmp").stat().st_size > 0


def test_what_is_no_program_is_a_sentence(tmp_path, monkeypatch):
    program = tmp_path / "ffmpeg"
    program.write_bytes(b"\x7fELF nothing that runs")
    program.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(program))
    with pytest.raises(StudioError, match="cannot be started as ffmpeg"):
        VideoWriter(tmp_path / "a.mp4.tmp", 64, 96, 25, {})


def test_no_temporary_folder_is_needed(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "absent"))
    writer = VideoWriter(tmp_path / "a.mp4.tmp", 64, 96, 25, {})
    writer.add(np.zeros((2, 64, 96, 3), np.uint8))
    writer.close()
    assert os.path.getsize(tmp_path / "a.mp4.tmp")


def test_no_ffmpeg_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "nowhere"))
    with pytest.raises(StudioError, match="IMAGEIO_FFMPEG_EXE"):
        VideoWriter(tmp_path / "a.mp4.tmp", 64, 96, 25, {})


def test_wrong_frames_are_a_programming_error(tmp_path):
    writer = VideoWriter(tmp_path / "a.mp4", 64, 96, 25, {})
    with pytest.raises(ValueError, match="frames are"):
        writer.add(np.zeros((1, 64, 95, 3), np.uint8))
    writer.abort()
