"""Settings from files of anybody: what one of ours carries is read back, all else is a sentence."""

import io
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from studio.errors import InputError
from studio.media import read_metadata, write_png
from studio.settings import GenerationSettings
from studio.video_writer import VideoWriter

SETTINGS = GenerationSettings("nano", "<img src=x onerror=alert(1)> 猫\nзима", first_image="/etc/passwd", seed=7)
BAD = [{}, {"settings": None}, {"settings": {"model": "nano", "prompt": "x", "shell": "rm"}}]
BAD += [{"settings": {"model": "nano", "prompt": ["x"]}}, {"settings": {"model": "nano", "prompt": "x", "seed": "1"}}]


def read(data: bytes) -> GenerationSettings:
    return GenerationSettings.from_record(read_metadata(data))


def mp4(path: Path, record: dict) -> bytes:
    writer = VideoWriter(path, 16, 16, 25, record)
    writer.add(np.zeros((2, 16, 16, 3), np.uint8))
    writer.close()
    return path.read_bytes()


def png(path: Path, record: dict) -> bytes:
    write_png(path, Image.new("RGB", (4, 4)), record)
    return path.read_bytes()


def plain(path: Path, record: dict) -> bytes:
    return json.dumps(record).encode()


@pytest.mark.parametrize("write", [mp4, png, plain])
def test_settings_come_from_any_of_our_files(write: Callable[[Path, dict], bytes], tmp_path: Path) -> None:
    data = write(tmp_path / "a", {"settings": asdict(SETTINGS), "model_fingerprint": "x"})
    assert read(data) == SETTINGS == read(SETTINGS.to_json().encode())
    for record in BAD:
        with pytest.raises(InputError):
            read(write(tmp_path / "a", record))


@given(data=st.binary(max_size=200), head=st.sampled_from([b"", b"\0\0\0\x18ftypisom", b"\x89PNG\r\n\x1a\n", b"{"]))
@settings(max_examples=20, deadline=None)
def test_any_bytes_are_a_sentence(data: bytes, head: bytes) -> None:
    with pytest.raises(InputError):
        read(head + data)


def test_a_picture_without_settings_is_a_sentence() -> None:
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "PNG")
    with pytest.raises(InputError, match="no settings"):
        read(file.getvalue())
    with pytest.raises(InputError):
        read(b"[" * 100_000)
