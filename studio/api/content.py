"""The files of a finished video: the video itself, a thumbnail, and a spritesheet that is made when first asked for."""

import subprocess
import threading
from pathlib import Path

from studio.errors import InputError, StudioError
from studio.filenames import beside
from studio.queue.job import Job, JobState
from studio.video_writer import find_ffmpeg

VARIANTS = ("video", "thumbnail", "spritesheet")
MEDIA_TYPES = {".mp4": "video/mp4", ".png": "image/png", ".jpg": "image/jpeg"}
SHEET = "spritesheet.jpg"  # inside the job's folder
SHEET_COLUMNS, SHEET_ROWS, TILE_WIDTH = 5, 5, 192
FFMPEG_SECONDS = 60
_making = threading.Lock()  # one ffmpeg at a time


def content(job: Job, variant: str) -> Path:
    """The file. Raises InputError where the video is not finished, its file is gone, or there is no such variant;
    StudioError where a spritesheet cannot be made."""
    if variant not in VARIANTS:
        raise InputError("choice_unknown", field="variant", value=variant[:40], known=", ".join(VARIANTS))
    if job.state != JobState.FINISHED or job.result is None:
        raise InputError("video_unready", state=job.state)
    path = Path(job.result.path)
    if variant == "thumbnail":
        path = beside(path, ".jpg")
    elif variant == "spritesheet" and path.suffix == ".mp4" and path.is_file():
        path = _spritesheet(path, job)
    if not path.is_file():
        raise InputError("video_file_gone")
    return path


def _spritesheet(video: Path, job: Job) -> Path:
    """SHEET_COLUMNS x SHEET_ROWS frames at even times, row by row; what a shorter video leaves over is black."""
    path = job.folder / SHEET
    with _making:
        if path.is_file():
            return path
        step = -(-job.settings.num_frames // (SHEET_COLUMNS * SHEET_ROWS))
        tiles = f"select=not(mod(n\\,{step})),scale={TILE_WIDTH}:-2,tile={SHEET_COLUMNS}x{SHEET_ROWS}"
        unfinished = path.with_name("spritesheet.tmp.jpg")
        command = [find_ffmpeg(), "-y", "-v", "error", "-protocol_whitelist", "file", "-f", "mp4", "-i", str(video)]
        command += ["-vf", tiles, "-frames:v", "1", "-q:v", "4", str(unfinished)]
        try:
            subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=FFMPEG_SECONDS, check=True)
            unfinished.replace(path)
        except (OSError, subprocess.SubprocessError) as error:
            unfinished.unlink(missing_ok=True)
            raise StudioError("write_failed", file=SHEET, reason=type(error).__name__) from None
        return path
