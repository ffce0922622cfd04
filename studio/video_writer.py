"""Frames -> an mp4 through ffmpeg, which may be missing, be no program, end early or hang: each is a sentence."""

import json
import os
import selectors
import shutil
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import IO, Any, cast

import numpy as np

from studio.embedded import picture_box
from studio.errors import StudioError
from studio.units import GB

SETTINGS_TAG = "comment"  # the tag of mp4 and png that holds our json
FULL_DISK_BYTES = 64 * 2**20  # less free space than this explains a failed write
SILENCE_SECONDS = 300.0  # without taking a frame or writing a byte; the slowest encoding here writes within seconds
POLL_SECONDS = 0.2
LAST_WORDS = 4096  # bytes of what ffmpeg said that are kept


class VideoWriter:
    """Frames -> H.264 mp4 (yuv420p, faststart) through ffmpeg, with `metadata` as json inside.

    Writes to `path`, which the caller renames when all is done; `abort` removes it. Frames are uint8 (t, H, W, 3).
    Raises StudioError where there is no ffmpeg, where it cannot be started, ends early, or is silent for too long.
    original: the first image's file, to be carried behind the video. clock: seconds.
    """

    def __init__(
        self,
        path: Path,
        height: int,
        width: int,
        fps: int,
        metadata: dict[str, Any],
        *,
        original: bytes | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.path, self._shape, self._clock, self._original = path, (height, width, 3), clock, original
        frames = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps), "-i", "pipe:0"]
        coding = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "16", "-preset", "medium"]
        tags = [*settings_tag(metadata), "-movflags", "+faststart"]
        self._program, self._said = find_ffmpeg(), b""
        try:
            self._ffmpeg = subprocess.Popen(
                [self._program, "-y", "-v", "error", *frames, *coding, *tags, "-f", "mp4", str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,  # Ctrl-C in the terminal is for this program alone
            )
        except OSError as error:
            reason = error.strerror or str(error)
            raise StudioError("ffmpeg_unusable", ffmpeg=self._program, reason=reason) from None
        self._stdin, self._stderr = cast(IO[bytes], self._ffmpeg.stdin), cast(IO[bytes], self._ffmpeg.stderr)
        for pipe in (self._stdin, self._stderr):
            os.set_blocking(pipe.fileno(), False)
        self._alive_at, self._written = clock(), -1

    def add(self, frames: np.ndarray) -> None:
        """Append frames; raises StudioError when ffmpeg stopped (a full disk, for example)."""
        if frames.dtype != np.uint8 or frames.shape[1:] != self._shape:
            raise ValueError(f"frames are {frames.dtype} {frames.shape}, expected uint8 (t, {self._shape})")
        left = np.ascontiguousarray(frames).data.cast("B")
        self._alive_at = self._clock()  # the time that the frames took to make is not ffmpeg's
        while len(left):
            try:
                count = self._stdin.write(left)  # None: it takes nothing now
            except OSError:
                raise self._failure() from None
            if count:
                left, self._alive_at = left[count:], self._clock()
            else:
                self._wait(takes=True)

    def close(self) -> None:
        """Finish the file; raises StudioError when ffmpeg did not write it whole."""
        self._alive_at = self._clock()
        with suppress(OSError):
            self._stdin.close()
        self._wait_for_end()
        if self._ffmpeg.returncode != 0 or not self.path.is_file():
            raise self._failure()
        self._listen()
        self._stderr.close()
        carry_picture(self.path, self._original)

    def abort(self) -> None:
        """Stop and remove the unfinished file."""
        self._ffmpeg.kill()
        for pipe in (self._stdin, self._stderr):
            with suppress(OSError):  # what it did not take any more
                pipe.close()
        self._ffmpeg.wait()
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _wait(self, *, takes: bool) -> None:
        """Wait a moment until ffmpeg says something, and hear it; takes: or until it takes more.

        Raises StudioError after too long a silence, in which its file does not grow either.
        """
        with selectors.DefaultSelector() as selector:
            if not self._stderr.closed:
                selector.register(self._stderr, selectors.EVENT_READ)
            if takes:
                selector.register(self._stdin, selectors.EVENT_WRITE)
            ready = {key.fileobj for key, _ in selector.select(POLL_SECONDS)}
        if self._stderr in ready:
            self._listen()
        with suppress(OSError):
            if (written := self.path.stat().st_size) != self._written:
                self._written, self._alive_at = written, self._clock()
        if (silent := self._clock() - self._alive_at) > SILENCE_SECONDS:
            self.abort()
            raise StudioError("ffmpeg_silent", ffmpeg=self._program, seconds=silent)

    def _wait_for_end(self) -> None:
        while self._ffmpeg.poll() is None:
            if not self._stderr.closed:
                self._wait(takes=False)
                continue
            with suppress(subprocess.TimeoutExpired):
                self._ffmpeg.wait(POLL_SECONDS)
                return
            self._wait(takes=False)

    def _listen(self) -> None:
        """Keep the end of what ffmpeg said; its end of the pipe may be closed before it ends."""
        with suppress(OSError):
            while not self._stderr.closed and (words := self._stderr.read(LAST_WORDS)) is not None:
                if not words:
                    self._stderr.close()
                self._said = (self._said + words)[-LAST_WORDS:]

    def _failure(self) -> StudioError:
        """Why ffmpeg stopped: its last words, or the full disk that is seen from here."""
        with suppress(OSError):
            self._stdin.close()
        self._wait_for_end()
        self._listen()
        said = self._said.decode("utf-8", errors="replace").strip().splitlines()
        status = self._ffmpeg.returncode
        self.abort()
        folder = self.path.parent
        free = shutil.disk_usage(folder).free if folder.is_dir() else FULL_DISK_BYTES
        if free < FULL_DISK_BYTES:
            return StudioError("disk_full", folder=folder, free_gb=free / GB, need_gb=FULL_DISK_BYTES / GB)
        reason = said[-1] if said else f"ffmpeg ended with code {status}"
        return StudioError("write_failed", file=str(self.path), reason=reason)


def settings_tag(record: Mapping[str, Any]) -> list[str]:
    """The words of an ffmpeg command that put our record into the file."""
    return ["-metadata", f"{SETTINGS_TAG}={json.dumps(dict(record), ensure_ascii=False)}"]


def carry_picture(video: Path, original: bytes | None) -> None:
    """Put a first image behind an mp4 that has none; nothing for None. Raises StudioError."""
    if original is None:
        return
    try:
        with video.open("ab") as file:
            file.write(picture_box(original))
    except OSError as error:
        raise StudioError("write_failed", file=video.name, reason=error.strerror or str(error)) from None


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
