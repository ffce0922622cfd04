"""Pictures in, video out: what leaves the pipeline as frames becomes a file that knows how it was made. No torch."""

import io
import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from models.regular_files import open_regular, parse_json, parsing, reason_of
from studio.embedded import embedded_text
from studio.errors import InputError
from studio.settings import CENTRED
from studio.video_writer import SETTINGS_TAG

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
STRIP_ROWS = 256
PHOTO_COLOURS = 80  # more of them make a photo
STILL_FORMATS = ("MPO",)  # a phone's jpg with further pictures behind the first: depth, a brighter rendering
MAX_SETTINGS_BYTES = 4 * 2**20  # of the text that holds them, in a file of its own or inside a video or picture


def read_image(data: bytes, limit_megapixels: float = 64) -> Image.Image:
    """An uploaded picture as upright RGB: EXIF rotation applied, transparency laid on white.

    The size in the header is checked before a pixel is decoded. Raises InputError for files that are no picture,
    too large or animated.
    """

    def refuse(error: Exception) -> InputError:
        if isinstance(error, Image.DecompressionBombError):
            most = f"over {2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f}"
            return InputError("image_large", megapixels=most, limit=limit_megapixels)
        if isinstance(error, UnidentifiedImageError):
            return InputError("image_format")
        return InputError("image_unreadable", reason=reason_of(error))

    with parsing(refuse, InputError), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged tags; they would reach the terminal
        image = Image.open(io.BytesIO(data), formats=IMAGE_FORMATS)
        _check_header(image, limit_megapixels)
        return _flatten(ImageOps.exif_transpose(image))


def _check_header(image: Image.Image, limit_megapixels: float) -> None:
    megapixels = image.width * image.height / 1e6
    if megapixels > limit_megapixels:
        raise InputError("image_large", megapixels=f"{megapixels:.0f}", limit=limit_megapixels)
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format not in STILL_FORMATS:
        raise InputError("image_animated", frames=frames)


def _flatten(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # Pillow itself would clip these to white
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise InputError("image_unreadable", reason="its pixels are 32-bit numbers without a known white")
    if not image.has_transparency_data:
        return image.convert("RGB")
    flat = Image.new("RGB", image.size)
    for top in range(0, image.height, STRIP_ROWS):  # strip by strip: whole, it would take four times the picture
        box = (0, top, image.width, min(top + STRIP_ROWS, image.height))
        layer = image.crop(box).convert("RGBA")
        strip = Image.new("RGBA", layer.size, "white")
        strip.alpha_composite(layer)
        flat.paste(strip.convert("RGB"), box)
    return flat


CENTRE = (CENTRED, CENTRED)


def crop_box(
    size: tuple[int, int], height: int, width: int, place: tuple[float, float] = CENTRE
) -> tuple[int, int, int, int]:
    """The part of a picture of `size` (w, h) that has the video's shape: (left, top, right, bottom).

    place: where it lies in the room that it has, from left and from top, 0 to 1; the centre, which is the official
    pipeline's, is rounded down as there.
    """
    source_w, source_h = size
    scale = max(width / source_w, height / source_h)
    part_w, part_h = min(source_w, round(width / scale)), min(source_h, round(height / scale))
    left = math.ceil(place[0] * (source_w - part_w) - 0.5)
    top = math.ceil(place[1] * (source_h - part_h) - 0.5)
    return left, top, left + part_w, top + part_h


def crop_image(image: Image.Image, height: int, width: int, place: tuple[float, float] = CENTRE) -> Image.Image:
    """The picture as the model sees it: the part of `crop_box` alone, resized with antialiased bilinear filtering.

    A part of exactly width x height pixels is kept bit for bit. The official pipeline filters the whole picture, crops
    the middle of that and so mixes what lies beside the crop into its outermost rows; both are the same but for these
    and for the box being whole pixels of the picture.
    """
    return image.crop(crop_box(image.size, height, width, place)).resize((width, height), Image.Resampling.BILINEAR)


def looks_like_photo(image: Image.Image) -> bool:
    """Whether a picture has the many colours of a photo, counted on 64 x 64 of its pixels in 16 steps a channel.

    Seven photos and a film still had 144 to 413, a shaded drawing 110 (the built-in models know those no better), the
    example pictures of the built-in models 10 to 12.
    """
    pixels = np.asarray(image.convert("RGB").resize((64, 64), Image.Resampling.NEAREST)) >> 4
    return len(np.unique(pixels.reshape(-1, 3), axis=0)) > PHOTO_COLOURS


def image_array(image: Image.Image) -> np.ndarray:
    """RGB picture -> float32 (3, H, W) in -1..1."""
    return np.asarray(image, dtype=np.float32).transpose(2, 0, 1) / 127.5 - 1


def read_video(path: Path) -> np.ndarray:
    """All frames of a video as uint8 (t, H, W, 3)."""
    import imageio_ffmpeg

    reader = imageio_ffmpeg.read_frames(str(path))
    width, height = next(reader)["size"]
    return np.stack([np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader])


def read_frame(path: Path, index: int) -> Image.Image:
    """One frame of a video as the file shows it; the last one where the file has fewer. Raises InputError."""
    import imageio_ffmpeg

    try:
        reader = imageio_ffmpeg.read_frames(str(path))
        width, height = next(reader)["size"]
        frame = b""
        for number, shown in enumerate(reader):
            frame = shown
            if number == index:
                break
        reader.close()
        return Image.frombytes("RGB", (width, height), frame)
    except (OSError, RuntimeError, ValueError, StopIteration) as error:
        raise InputError("file_unreadable", file=path.name, reason=str(error).strip()[:200] or "?") from None


def png_bytes(image: Image.Image) -> bytes:
    """The picture as a lossless file, without metadata."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def write_png(path: Path, image: Image.Image, metadata: dict[str, Any] | None = None) -> None:
    """Lossless picture, with `metadata` as json inside."""
    info = PngInfo()
    if metadata is not None:
        info.add_itxt(SETTINGS_TAG, json.dumps(metadata, ensure_ascii=False))
    image.save(path, "PNG", pnginfo=info)


def read_metadata(data: bytes) -> dict[str, Any]:
    """The json that one of our mp4, png or json files carries. Raises InputError where there is none, or too much."""
    return _record(embedded_text(io.BytesIO(data), MAX_SETTINGS_BYTES))


def read_metadata_file(path: Path) -> dict[str, Any]:
    """As read_metadata, from a file of any length: only the text in it is read. Raises InputError."""
    try:
        with open_regular(path) as file:
            text = embedded_text(file, MAX_SETTINGS_BYTES)
    except OSError as error:
        raise InputError("file_unreadable", file=path, reason=error.strerror or str(error)) from None
    return _record(text)


def _record(text: bytes) -> dict[str, Any]:
    if len(text) > MAX_SETTINGS_BYTES:
        raise InputError("metadata_large", limit_mb=MAX_SETTINGS_BYTES >> 20)
    try:
        return parse_json(text.decode("utf-8", errors="replace"))
    except (ValueError, RecursionError):
        raise InputError("metadata_absent") from None
