"""Pictures in, video out: what leaves the pipeline as frames becomes a file that knows how it was made. No torch."""

import io
import json
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from studio.errors import InputError, StudioError

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
SETTINGS_TAG = "comment"  # the tag of mp4 and png that holds our json
FULL_DISK_BYTES = 64 * 2**20  # less free space than this explains a failed write
MAX_SETTINGS_FILE = 2**30  # bytes; a larger file is refused before anything reads it


def read_image(data: bytes, limit_megapixels: float = 64) -> Image.Image:
    """An uploaded picture as upright RGB: EXIF rotation applied, transparency laid on white.

    The size in the header is checked before a pixel is decoded. Raises InputError for files that are no picture,
    too large or animated.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=IMAGE_FORMATS)
            _check_header(image, limit_megapixels)
            image = ImageOps.exif_transpose(image)
            return _flatten(image)
    except Image.DecompressionBombError:
        raise InputError("image_large", megapixels="very many", limit=limit_megapixels) from None
    except UnidentifiedImageError:
        raise InputError("image_unreadable", reason="its format is not known") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError("image_unreadable", reason=str(error) or type(error).__name__) from None


def _check_header(image: Image.Image, limit_megapixels: float) -> None:
    megapixels = image.width * image.height / 1e6
    if megapixels > limit_megapixels:
        raise InputError("image_large", megapixels=f"{megapixels:.0f}", limit=limit_megapixels)
    if getattr(image, "n_frames", 1) > 1:
        raise InputError("image_animated", frames=image.n_frames)


def _flatten(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.new("RGBA", layer.size, "white")
        image.alpha_composite(layer)
    return image.convert("RGB")


def crop_box(size: tuple[int, int], height: int, width: int) -> tuple[int, int, int, int]:
    """The centred part of a picture of `size` (w, h) that has the video's shape: (left, top, right, bottom)."""
    source_w, source_h = size
    scale = max(width / source_w, height / source_h)
    part_w, part_h = min(source_w, round(width / scale)), min(source_h, round(height / scale))
    left, top = (source_w - part_w) // 2, (source_h - part_h) // 2
    return left, top, left + part_w, top + part_h


def crop_image(image: Image.Image, height: int, width: int) -> Image.Image:
    """The picture as the model sees it: centre part, resized with antialiased bilinear filtering, as officially."""
    box = crop_box(image.size, height, width)
    return image.resize((width, height), Image.Resampling.BILINEAR, box=box, reducing_gap=None)


def image_array(image: Image.Image) -> np.ndarray:
    """RGB picture -> float32 (3, H, W) in -1..1."""
    return np.asarray(image, dtype=np.float32).transpose(2, 0, 1) / 127.5 - 1


class VideoWriter:
    """Frames -> H.264 mp4 (yuv420p, faststart) through ffmpeg, with `metadata` as json inside.

    Writes to `path`, which the caller renames when all is done; `abort` removes it. Frames are uint8 (t, H, W, 3).
    """

    def __init__(self, path: Path, height: int, width: int, fps: int, metadata: dict[str, Any]) -> None:
        find_ffmpeg()
        self.path, self._shape = path, (height, width, 3)
        tags = ["-metadata", f"{SETTINGS_TAG}={json.dumps(metadata, ensure_ascii=False)}"]
        self._pipe = imageio_ffmpeg.write_frames(
            str(path),
            (width, height),
            fps=fps,
            codec="libx264",
            quality=None,
            macro_block_size=1,
            ffmpeg_log_level="error",
            output_params=["-crf", "16", "-preset", "medium", *tags, "-movflags", "+faststart", "-f", "mp4"],
        )
        self._pipe.send(None)

    def add(self, frames: np.ndarray) -> None:
        """Append frames; raises StudioError when ffmpeg stopped (a full disk, for example)."""
        if frames.dtype != np.uint8 or frames.shape[1:] != self._shape:
            raise ValueError(f"frames are {frames.dtype} {frames.shape}, expected uint8 (t, {self._shape})")
        for frame in np.ascontiguousarray(frames):
            try:
                self._pipe.send(frame)
            except OSError:
                raise self._failure() from None

    def close(self) -> None:
        """Finish the file; raises StudioError when ffmpeg left none or an empty one."""
        self._pipe.close()
        if not self.path.is_file() or self.path.stat().st_size == 0:
            raise self._failure()

    def _failure(self) -> StudioError:
        """Why ffmpeg stopped: it says so on stderr only, a full disk is seen from here."""
        self.abort()
        free = shutil.disk_usage(self.path.parent).free
        if free < FULL_DISK_BYTES:
            return StudioError(
                "disk_full", folder=self.path.parent, free_gb=free / 2**30, need_gb=FULL_DISK_BYTES / 2**30
            )
        return StudioError("write_failed", file=self.path.name, reason="ffmpeg stopped, the log has its message")

    def abort(self) -> None:
        """Stop and remove the unfinished file."""
        self._pipe.close()
        self.path.unlink(missing_ok=True)


def find_ffmpeg() -> str:
    """The ffmpeg program. Raises StudioError where there is none."""
    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        raise StudioError("ffmpeg_missing") from None


def read_video(path: Path) -> np.ndarray:
    """All frames of a video as uint8 (t, H, W, 3)."""
    reader = imageio_ffmpeg.read_frames(str(path))
    width, height = next(reader)["size"]
    return np.stack([np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader])


def write_png(path: Path, image: Image.Image, metadata: dict[str, Any] | None = None) -> None:
    """Lossless picture, with `metadata` as json inside."""
    info = PngInfo()
    if metadata is not None:
        info.add_itxt(SETTINGS_TAG, json.dumps(metadata, ensure_ascii=False))
    image.save(path, "PNG", pnginfo=info)


def read_metadata(data: bytes) -> dict[str, Any]:
    """The json that one of our mp4, png or json files carries. Raises InputError where there is none."""
    if len(data) > MAX_SETTINGS_FILE:
        raise InputError("metadata_missing", reason="the file is larger than 1 GB")
    text = _embedded_text(data)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InputError("metadata_missing", reason="it holds no settings of this program")
    return found


def _embedded_text(data: bytes) -> str:
    if data[4:8] == b"ftyp":
        return _mp4_comment(data)
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        try:
            image = Image.open(io.BytesIO(data), formats=("PNG",))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            return ""
        return str(image.info.get(SETTINGS_TAG, ""))
    return data.decode("utf-8", errors="replace")


def _mp4_comment(data: bytes) -> str:
    """The comment tag of an mp4, read by ffmpeg from a private copy: names inside a foreign file open nothing."""
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        file.write(data)
        file.flush()
        command = [find_ffmpeg(), "-v", "error", "-protocol_whitelist", "file", "-f", "mp4", "-i", file.name]
        try:
            result = subprocess.run([*command, "-f", "ffmetadata", "pipe:1"], capture_output=True, timeout=30)
        except subprocess.TimeoutExpired:
            raise InputError("metadata_missing", reason="reading it took more than 30 seconds") from None
    return _parse_ffmetadata(result.stdout.decode("utf-8", errors="replace")).get(SETTINGS_TAG, "")


def _parse_ffmetadata(text: str) -> dict[str, str]:
    """ffmpeg's metadata text: key=value lines in which a backslash keeps the next character (a newline too)."""
    fields, key, part, escaped = {}, None, [], False
    for char in text + "\n":
        if escaped:
            part.append(char)
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == "=" and key is None:
            key, part = "".join(part), []
        elif char == "\n":
            if key is not None:
                fields[key] = "".join(part)
            key, part = None, []
        else:
            part.append(char)
    return fields
