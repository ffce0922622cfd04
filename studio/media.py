"""Pictures in, video out: what leaves the pipeline as frames becomes a file that knows how it was made. No torch."""

import io
import json
import shutil
import subprocess
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from studio.errors import InputError, StudioError
from studio.units import GB

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
SETTINGS_TAG = "comment"  # the tag of mp4 and png that holds our json
STILL_FORMATS = ("MPO",)  # a phone's jpg with further pictures behind the first: depth, a brighter rendering
FULL_DISK_BYTES = 64 * 2**20  # less free space than this explains a failed write
MAX_SETTINGS_BYTES = 4 * 2**20  # of the text that holds them, in a file of its own or inside a video or picture


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
            return _flatten(ImageOps.exif_transpose(image))
    except Image.DecompressionBombError:
        most = f"over {2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f}"
        raise InputError("image_large", megapixels=most, limit=limit_megapixels) from None
    except UnidentifiedImageError:
        raise InputError("image_format") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError("image_unreadable", reason=str(error) or type(error).__name__) from None


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
    Raises StudioError where there is no ffmpeg.
    """

    def __init__(self, path: Path, height: int, width: int, fps: int, metadata: dict[str, Any]) -> None:
        self.path, self._shape = path, (height, width, 3)
        frames = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps), "-i", "pipe:0"]
        coding = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "16", "-preset", "medium"]
        tags = ["-metadata", f"{SETTINGS_TAG}={json.dumps(metadata, ensure_ascii=False)}", "-movflags", "+faststart"]
        self._words = tempfile.TemporaryFile()
        self._ffmpeg = subprocess.Popen(
            [find_ffmpeg(), "-y", "-v", "error", *frames, *coding, *tags, "-f", "mp4", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._words,
            start_new_session=True,  # Ctrl-C in the terminal is for this program alone
        )
        self._pipe = cast(IO[bytes], self._ffmpeg.stdin)

    def add(self, frames: np.ndarray) -> None:
        """Append frames; raises StudioError when ffmpeg stopped (a full disk, for example)."""
        if frames.dtype != np.uint8 or frames.shape[1:] != self._shape:
            raise ValueError(f"frames are {frames.dtype} {frames.shape}, expected uint8 (t, {self._shape})")
        try:
            self._pipe.write(np.ascontiguousarray(frames).data)
        except OSError:
            raise self._failure() from None

    def close(self) -> None:
        """Finish the file; raises StudioError when ffmpeg did not write it whole."""
        try:
            self._pipe.close()
        except OSError:
            raise self._failure() from None
        if self._ffmpeg.wait() != 0 or not self.path.is_file():
            raise self._failure()
        self._words.close()

    def _failure(self) -> StudioError:
        """Why ffmpeg stopped: its last words, or the full disk that is seen from here."""
        status = self._ffmpeg.wait()
        self._words.seek(0)
        said = self._words.read().decode("utf-8", errors="replace").strip().splitlines()
        self.abort()
        folder = self.path.parent
        free = shutil.disk_usage(folder).free if folder.is_dir() else FULL_DISK_BYTES
        if free < FULL_DISK_BYTES:
            need = FULL_DISK_BYTES / GB
            return StudioError("disk_full", folder=folder, free_gb=free / GB, need_gb=need)
        reason = said[-1] if said else f"ffmpeg ended with code {status}"
        return StudioError("write_failed", file=str(self.path), reason=reason)

    def abort(self) -> None:
        """Stop and remove the unfinished file."""
        self._ffmpeg.kill()
        with suppress(OSError):  # what it did not take any more
            self._pipe.close()
        self._ffmpeg.wait()
        self._words.close()
        self.path.unlink(missing_ok=True)


def find_ffmpeg() -> str:
    """The ffmpeg program. Raises StudioError where there is none."""
    try:
        from imageio_ffmpeg import get_ffmpeg_exe  # here: a machine that writes no video does without

        program = shutil.which(get_ffmpeg_exe())
    except ImportError:
        program = shutil.which("ffmpeg")
    except RuntimeError:
        program = None
    if program is None:
        raise StudioError("ffmpeg_missing")
    return program


def read_video(path: Path) -> np.ndarray:
    """All frames of a video as uint8 (t, H, W, 3)."""
    import imageio_ffmpeg

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
    """The json that one of our mp4, png or json files carries. Raises InputError where there is none, or too much."""
    text = _embedded_text(data)
    if len(text) > MAX_SETTINGS_BYTES:
        raise InputError("metadata_large", limit_mb=MAX_SETTINGS_BYTES >> 20)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InputError("metadata_absent")
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
    return data[: MAX_SETTINGS_BYTES + 1].decode("utf-8", errors="replace")


def _mp4_comment(data: bytes) -> str:
    """The comment tag of an mp4, read by ffmpeg from a private copy: names inside a foreign file open nothing."""
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file, tempfile.TemporaryFile() as found:
        file.write(data)
        file.flush()
        command = [find_ffmpeg(), "-v", "error", "-protocol_whitelist", "file", "-f", "mp4", "-i", file.name]
        try:
            subprocess.run(
                [*command, "-f", "ffmetadata", "pipe:1"], stdout=found, stderr=subprocess.DEVNULL, timeout=30
            )
        except subprocess.TimeoutExpired:
            raise InputError("metadata_missing", reason="reading it took more than 30 seconds") from None
        found.seek(0)
        text = found.read(2 * MAX_SETTINGS_BYTES + 1)  # with a backslash before each character at most
    if len(text) > 2 * MAX_SETTINGS_BYTES:
        raise InputError("metadata_large", limit_mb=MAX_SETTINGS_BYTES >> 20)
    return _parse_ffmetadata(text.decode("utf-8", errors="replace")).get(SETTINGS_TAG, "")


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
