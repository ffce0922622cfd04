"""The files in a job's own folder: the picture as it was uploaded, and as the page shows it."""

import io
from pathlib import Path

from PIL import Image

from studio import filenames
from studio.media import crop_image
from studio.settings import ResolvedSettings

THUMBNAIL_SIDE = 512  # pixels at most


def write_picture(folder: Path, name: str, data: bytes, picture: Image.Image, settings: ResolvedSettings) -> None:
    """Write the uploaded file `data` as `name`, and the part of the picture that the video uses, small. OSError."""
    filenames.write_whole(folder / name, data)
    filenames.write_whole(folder / filenames.THUMBNAIL, thumbnail(picture, settings))


def thumbnail(picture: Image.Image, settings: ResolvedSettings) -> bytes:
    """A jpg of the part of the picture that the video uses, in the video's shape."""
    used = crop_image(picture, settings.height, settings.width, settings.crop_place)
    used.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    file = io.BytesIO()
    used.save(file, "JPEG", quality=85)
    return file.getvalue()
