"""Pictures in, video out."""

import io
import json
import os
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from studio.config import ROOT
from studio.errors import InputError
from studio.media import (
    MAX_SETTINGS_BYTES,
    crop_box,
    crop_image,
    image_array,
    looks_like_photo,
    read_image,
    read_metadata,
    read_metadata_file,
    read_video,
    write_png,
)
from studio.video_writer import VideoWriter

RECORD = {"prompt": 'a = "b" \\ ; # 镜头推进\nsecond line <img onerror=1>', "seed": 7}


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def gradient(width: int, height: int) -> Image.Image:
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = np.stack([rows * 255 // height, columns * 255 // width, np.full_like(rows, 40)], -1)
    return Image.fromarray(pixels.astype(np.uint8))


def test_exif_rotation_is_applied():
    image = gradient(40, 20)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show rotated by 90 degrees clockwise
    read = read_image(encoded(image, "PNG", exif=exif))
    assert read.size == (20, 40)
    assert np.array_equal(np.asarray(read), np.asarray(image.rotate(-90, expand=True)))


def test_transparency_is_laid_on_white():
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    image.putpixel((0, 0), (0, 0, 255, 255))
    read = read_image(encoded(image))
    assert read.mode == "RGB"
    assert read.getpixel((0, 0)) == (0, 0, 255) and read.getpixel((1, 1)) == (255, 255, 255)


def test_palette_transparency_is_laid_on_white():
    image = Image.new("P", (2, 1))
    image.putpalette([0, 200, 0, 9, 9, 9])
    image.putpixel((1, 0), 1)
    read = read_image(encoded(image, "PNG", transparency=1))
    assert read.getpixel((0, 0)) == (0, 200, 0) and read.getpixel((1, 0)) == (255, 255, 255)


def test_unreadable_pictures_are_refused():
    cases = [(data, "image_format") for data in (b"", b"<svg onload=1>", b"\x89PNG\r\n\x1a\nxx")]
    for data, code in [*cases, (encoded(gradient(64, 64))[:-20], "image_unreadable")]:
        with pytest.raises(InputError) as failure:
            read_image(data)
        assert failure.value.code == code and failure.value.exit_code == 2, data[:20]


def test_size_is_checked_in_the_header():
    bomb = bytearray(encoded(Image.new("L", (16, 16))))
    bomb[16:24] = (30000).to_bytes(4, "big") * 2  # 900 megapixels claimed, a few bytes behind it
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    with pytest.raises(InputError) as failure:
        read_image(bytes(bomb))
    assert failure.value.code == "image_large"
    with pytest.raises(InputError, match="0.01|0 megapixels"):
        read_image(encoded(gradient(200, 100)), limit_megapixels=0.01)


def test_animations_are_refused():
    frames = [gradient(8, 8), gradient(8, 8).rotate(90)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(InputError) as failure:
        read_image(data)
    assert failure.value.code == "image_animated" and failure.value.values["frames"] == 2


def test_crop_is_centred_and_has_the_videos_shape():
    cases = [((1000, 500), 544, 992), ((500, 1000), 544, 992), ((896, 1152), 992, 544), ((31, 17), 128, 224)]
    for size, height, width in cases:
        left, top, right, bottom = crop_box(size, height, width)
        assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1], size
        assert abs(left - (size[0] - right)) <= 1 and abs(top - (size[1] - bottom)) <= 1, size
        assert (right - left == size[0]) or (bottom - top == size[1]), size
        assert abs((right - left) * height - (bottom - top) * width) <= max(height, width), size
        assert crop_image(gradient(*size), height, width).size == (width, height)


@given(st.integers(1, 4000), st.integers(1, 4000), st.data())
def test_a_place_of_whole_pixels_is_kept(width, height, data):
    """As crop.js says it: a pixel of the room, as a part of the room."""
    left, top, right, bottom = crop_box((width, height), 544, 992)
    assert (left, top) == ((width - right + left) // 2, (height - bottom + top) // 2), "officially"
    part, room = (right - left, bottom - top), (width - right + left, height - bottom + top)
    at = [data.draw(st.integers(0, free)) for free in room]
    place = tuple(one / free if free else 0.5 for one, free in zip(at, room, strict=True))
    box = crop_box((width, height), 544, 992, place)
    assert box[:2] == tuple(at) and (box[2] - box[0], box[3] - box[1]) == part


def test_a_picture_is_cropped_where_it_is_asked_for():
    image = gradient(300, 128)
    for place, left in ((0.0, 0), (1.0, 76), (0.25, 19)):
        used = crop_image(image, 128, 224, (place, 0.9))
        assert np.array_equal(np.asarray(used), np.asarray(image)[:, left : left + 224]), place


def test_no_colour_from_beside_the_box_gets_in():
    noise = np.random.default_rng(0)
    for size, (height, width) in (((640, 400), (128, 224)), ((90, 160), (128, 224)), ((400, 640), (992, 544))):
        for place in (0.0, 0.37, 0.5, 1.0):
            left, top, right, bottom = crop_box(size, height, width, (place, place))
            pixels = np.full((size[1], size[0], 3), (255, 0, 255), np.uint8)
            pixels[top:bottom, left:right] = 0
            pixels[top:bottom, left:right, 1] = noise.integers(100, 256, (bottom - top, right - left))
            used = np.asarray(crop_image(Image.fromarray(pixels), height, width, (place, place)))
            assert used[..., (0, 2)].max() == 0 and used[..., 1].min() >= 100, (size, place)


def test_a_picture_of_the_right_size_keeps_its_pixels():
    image = gradient(224, 128)
    assert np.array_equal(np.asarray(crop_image(image, 128, 224)), np.asarray(image))


def test_sixteen_bits_keep_their_shades():
    shades = np.linspace(0, 65535, 64).astype(np.uint16)[None].repeat(8, 0)
    read = np.asarray(read_image(encoded(Image.fromarray(shades))))
    assert np.array_equal(read, np.repeat((shades >> 8).astype(np.uint8)[..., None], 3, 2))


def test_pictures_without_a_known_white_are_refused():
    for mode in ("I", "F"):
        with pytest.raises(InputError, match="32-bit"):
            read_image(encoded(Image.new(mode, (8, 8)), "TIFF"))


def test_a_phones_jpg_with_further_pictures_is_its_first():
    data = encoded(gradient(16, 8), "MPO", save_all=True, append_images=[gradient(8, 8)])
    assert read_image(data).size == (16, 8)


def test_image_array_range():
    array = image_array(Image.new("RGB", (2, 2), (0, 255, 0)))
    assert array.shape == (3, 2, 2) and array.dtype == np.float32
    assert array[0].max() == -1 and array[1].min() == 1


def test_video_has_the_asked_size_frames_and_record(tmp_path):
    path = tmp_path / "clip.mp4.tmp"
    frames = np.stack([np.asarray(gradient(96, 64).rotate(angle)) for angle in range(0, 34)])
    writer = VideoWriter(path, 64, 96, 25, RECORD)
    writer.add(frames[:20])
    writer.add(frames[20:])
    writer.close()
    data = path.read_bytes()
    assert read_metadata(data) == RECORD
    assert data.index(b"moov") < data.index(b"mdat"), "faststart puts the index first"
    decoded = read_video(path)
    assert decoded.shape == frames.shape
    error = decoded.astype(float) - frames
    assert 10 * np.log10(255**2 / (error**2).mean()) > 30


def test_png_carries_its_record(tmp_path):
    write_png(tmp_path / "a.png", gradient(8, 8), RECORD)
    assert read_metadata((tmp_path / "a.png").read_bytes()) == RECORD


def test_files_without_a_record_are_refused():
    for data in (b"", b"[1]", b"{", b"\0\0\0\x18ftypmp42" + b"x" * 50, b"\x89PNG\r\n\x1a\n1", b"\xff"):
        with pytest.raises(InputError) as failure:
            read_metadata(data)
        assert failure.value.code == "metadata_absent", data


def test_long_settings_are_refused_before_they_fill_the_memory(tmp_path):
    fits = {"settings": {"prompt": "x" * (MAX_SETTINGS_BYTES - 100)}}
    assert read_metadata(json.dumps(fits).encode()) == fits
    write_png(tmp_path / "a.png", Image.new("RGB", (8, 8)), {"prompt": "x" * MAX_SETTINGS_BYTES})
    words = b"\0\0\0\x01\0\0\0\0" + b"{" * 3 * MAX_SETTINGS_BYTES
    for kind in (b"data", b"\xa9cmt", b"ilst"):
        words = struct.pack(">I4s", len(words) + 8, kind) + words
    for kind, before in ((b"meta", b"\0\0\0\0"), (b"udta", b""), (b"moov", b"")):
        words = struct.pack(">I4s", len(words) + len(before) + 8, kind) + before + words
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x10ftypisom\0\0\0\0" + words)
    large = [b'{"a": [' + b"{}," * 20 * 2**20, b"[" * 60 * 2**20, (tmp_path / "a.png").read_bytes()]
    for data in (*large, (tmp_path / "a.mp4").read_bytes()):
        tracemalloc.start()
        with pytest.raises(InputError, match="longer than 4 MB"):
            read_metadata(data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 64 * 2**20, f"{peak >> 20} MB for {data[:9]}"
    for data in (b"[" * 2**21, b'{"a":' * 2**19):
        with pytest.raises(InputError, match="no settings of this program"):
            read_metadata(data)


def test_only_regular_files_are_read_for_settings(tmp_path):
    """And no more of them than the text: a file of a terabyte costs nothing."""
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    for name in ("pipe.mp4", "zero.json", ".", "absent.mp4"):
        with pytest.raises(InputError, match="cannot be read"):
            read_metadata_file(tmp_path / name)
    write_png(tmp_path / "a.png", gradient(8, 8), RECORD)
    data = b"\0\0\0\x10ftypisom\0\0\0\0"
    for name, start in (("a.png", (tmp_path / "a.png").read_bytes()), ("a.mp4", data), ("a.json", b"{")):
        (tmp_path / name).write_bytes(start)
        os.truncate(tmp_path / name, 1 << 40)
        tracemalloc.start()
        try:
            found = read_metadata_file(tmp_path / name)
        except InputError as error:
            found = error.code
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found == {"a.png": RECORD, "a.mp4": "metadata_absent", "a.json": "metadata_large"}[name]
        assert peak < 64 * 2**20


def test_containers_that_lie_are_refused():
    """Sizes beyond the file, boxes inside each other for ever, a million boxes: each ends."""
    ftyp = b"\0\0\0\x10ftypisom\0\0\0\0"
    png = b"\x89PNG\r\n\x1a\n"
    for data in (
        ftyp + struct.pack(">I4s", 2**31, b"moov") + bytes(99),
        ftyp + struct.pack(">I4sQ", 1, b"moov", 2**63) + bytes(99),
        ftyp + struct.pack(">I4s", 0, b"moov") * 99,
        ftyp + struct.pack(">I4s", 8, b"free") * 10**6,
        ftyp + struct.pack(">I4s", 4, b"moov") * 99,
        png + struct.pack(">I4s", 2**31, b"iTXt") + b"comment\0\0\0\0\0{}",
        png + struct.pack(">I4s", 0, b"IDAT") * 10**6,
        png + struct.pack(">I4s", 20, b"iTXt") + b"comment\0\1\0\0\0" + bytes(99),
    ):
        with pytest.raises(InputError) as failure:
            read_metadata(data)
        assert failure.value.code == "metadata_absent"


def test_transparency_is_laid_on_white_in_strips_as_in_one_piece(monkeypatch):
    noise = np.random.default_rng(5).integers(0, 256, (70, 33, 4)).astype(np.uint8)
    whole = Image.fromarray(noise)
    pictures = [whole, whole.convert("LA"), whole.quantize(16), whole.convert("RGB")]
    pictures[2].info["transparency"] = 3
    pictures[3].info["transparency"] = tuple(int(value) for value in noise[0, 0, :3])
    for picture in pictures:
        data = encoded(picture)
        layer = Image.open(io.BytesIO(data)).convert("RGBA")
        wanted = Image.new("RGBA", layer.size, "white")
        wanted.alpha_composite(layer)
        monkeypatch.setattr("studio.media.STRIP_ROWS", 16)
        assert np.array_equal(np.asarray(read_image(data)), np.asarray(wanted.convert("RGB"))), picture.mode


def test_a_photo_is_told_from_the_shapes_of_the_built_in_models():
    noise = np.random.default_rng(0).normal(128, 40, (48, 64, 3)).clip(0, 255).astype(np.uint8)
    assert looks_like_photo(Image.fromarray(noise))
    shapes = sorted((ROOT / "assets" / "examples").glob("*.png"))
    assert shapes and not [path.name for path in shapes if looks_like_photo(Image.open(path))]
