"""What the page shows of a clip beside its video: a row of its frames, the wave of its sound, its subtitles.

Made by ffmpeg when first asked for.
"""

import subprocess
import threading
from pathlib import Path

from studio.errors import StudioError
from studio.queue.gallery import Entry
from studio.service.backend import Backend
from studio.service.sound import clip_of
from studio.video_writer import find_ffmpeg

FOLDER = "strips"  # inside the queue's folder
KINDS = {"strip": ".jpg", "wave": ".png", "words": ".vtt"}
FRAMES, HEIGHT = 12, 64  # of a strip; HEIGHT in pixels
WAVE = "1200x96"  # pixels
KEPT = 200  # files; the oldest go first
FFMPEG_SECONDS = 60
_making = threading.Lock()  # one ffmpeg at a time


def strip_of(backend: Backend, id: str, kind: str) -> Path | None:
    """The file (jpg of frames, png of a wave, vtt of words) of a finished clip; None where there is none to make."""
    entry = clip_of(backend, id)
    if entry is None or entry.path is None:
        return None
    folder = backend.queue.folder / FOLDER
    suffix = KINDS[kind]
    path = folder / f"{entry.id}-{entry.path.stat().st_mtime_ns}-{kind}{suffix}"
    with _making:
        if path.is_file():
            return path
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{path.stem}.tmp{suffix}")
        try:
            if not _made(entry, kind, unfinished):
                return None
            unfinished.replace(path)
        except (OSError, subprocess.SubprocessError) as error:
            raise StudioError("write_failed", file=path.name, reason=type(error).__name__) from None
        finally:
            unfinished.unlink(missing_ok=True)
        for old in sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime)[:-KEPT]:
            old.unlink(missing_ok=True)
    return path


def _made(entry: Entry, kind: str, to: Path) -> bool:
    """Whether ffmpeg wrote the file: it does not where a clip has no sound or no subtitles."""
    frames = entry.settings.num_frames
    every, row = max(frames // FRAMES, 1), min(frames, FRAMES)
    wave = f"[0:a]aformat=channel_layouts=mono,showwavespic=s={WAVE}:colors=white:scale=sqrt"
    wanted = {
        "strip": ["-vf", f"select=not(mod(n\\,{every})),scale=-2:{HEIGHT},tile={row}x1", "-q:v", "5", "-frames:v", "1"],
        "wave": ["-filter_complex", wave, "-frames:v", "1"],
        "words": ["-map", "0:s:0", "-f", "webvtt"],
    }
    command = [find_ffmpeg(), "-y", "-nostdin", "-v", "error", "-protocol_whitelist", "file", "-f", "mp4"]
    command += ["-i", str(entry.path), *wanted[kind], str(to)]
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=FFMPEG_SECONDS, check=False)
    return to.is_file()
