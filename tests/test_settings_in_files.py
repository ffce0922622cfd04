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

from studio.embedded import PICTURE_ID, carried_picture, embedded_picture, length_without_picture
from studio.errors import InputError, StudioError
from studio.media import read_metadata, read_video, write_png
from studio.settings import GenerationSettings
from studio.video_writer import VideoWriter, carry_picture

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


def test_a_video_carries_its_first_image_behind_it(tmp_path: Path) -> None:
    """Players see the same video; without the picture it is the file as it would have been, byte for byte."""
    bare, path = mp4(tmp_path / "bare.mp4", {"settings": asdict(SETTINGS)}), tmp_path / "a.mp4"
    for original in (b"", b"a picture" * 1000):
        path.write_bytes(bare)
        carry_picture(path, original)
        assert carried_picture(path, 10_000) == original and read(path.read_bytes()) == SETTINGS
        with path.open("rb") as file:
            assert length_without_picture(file) == len(bare) and path.read_bytes()[: len(bare)] == bare
    assert (read_video(path) == read_video(tmp_path / "bare.mp4")).all()
    assert carried_picture(path, 8999) is None and carried_picture(tmp_path / "none.mp4", 9000) is None
    whole = path.read_bytes()
    for other in (bare, whole + b"\0\0\0\x08free", whole[:-1], b"x" * 50, whole.replace(PICTURE_ID, bytes(16))):
        file = io.BytesIO(other)
        assert embedded_picture(file, 10_000) is None and length_without_picture(file) == len(other)
    with pytest.raises(StudioError):
        carry_picture(tmp_path / "no folder" / "a.mp4", b"x")
    writer = VideoWriter(path, 16, 16, 25, {}, original=b"mine")
    writer.add(np.zeros((2, 16, 16, 3), np.uint8))
    writer.close()
    assert carried_picture(path, 4) == b"mine"
