"""A video's settings as the command that makes it again."""

import os
import shlex
import subprocess

from studio import PROGRAM
from studio.settings import GenerationSettings, ResolvedSettings

# In the order of the command's help; the flag of a field is its name with dashes.
FLAGGED = (
    "model",
    "prompt",
    "negative_prompt",
    "camera_move",
    "camera_speed",
    "motion_score",
    "infer_steps",
    "cfg_scale",
    "time_shift",
    "num_frames",
    "height",
    "width",
    "seed",
    "speed",
    "guidance_schedule",
    "magic_words",
    "crop_left",
    "crop_top",
)


def generate_words(settings: ResolvedSettings | GenerationSettings, picture: str | None = None) -> list[str]:
    """The words after the program's name. picture: the file's name of the first image, for settings that have one."""
    words = ["generate"]
    for name in FLAGGED:
        value = getattr(settings, name)
        if value is not None and (value != "" or name == "negative_prompt"):
            words.append(f"--{name.replace('_', '-')}={value}")  # in one word: a prompt may begin with a dash
    if settings.first_image is not None and picture is not None:
        words.append(f"--first-image={picture}")
    return words


def generate_command(
    settings: ResolvedSettings | GenerationSettings, picture: str | None = None, *, windows: bool = os.name == "nt"
) -> str:
    """The whole command for a shell (windows: for its command prompt)."""
    words = generate_words(settings, picture)
    quoted = subprocess.list2cmdline(words) if windows else shlex.join(words)
    return f"{PROGRAM} {quoted}"
