"""Opening a folder in a window of this machine: only where whoever looks at the page sits at it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from studio.errors import StudioError
from studio.service.origin import LOOPBACK


def folder_opener(
    host: str, *, reached_otherwise: bool, platform: str = sys.platform, environ: Mapping[str, str] = os.environ
) -> Callable[[Path], None] | None:
    """What opens a folder, or None: where the page is for others too, or this machine has no desktop.

    host: the address that the page listens on. reached_otherwise: by a public link or under another name.
    """
    program = _file_manager(platform, environ)
    if reached_otherwise or program is None or host not in LOOPBACK:
        return None

    def show(folder: Path) -> None:
        try:
            subprocess.Popen(
                [program, str(folder.resolve())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C in the terminal is for this program alone
            )
        except OSError as error:
            raise StudioError("folder_unshown", folder=str(folder), reason=error.strerror or str(error)) from None

    return show


def _file_manager(platform: str, environ: Mapping[str, str]) -> str | None:
    if platform in ("darwin", "win32"):
        return shutil.which("open" if platform == "darwin" else "explorer")
    seen = environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY")
    return shutil.which("xdg-open", path=environ.get("PATH")) if seen else None
