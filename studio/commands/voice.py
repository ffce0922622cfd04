"""`voice`: a voice that the official code prepared becomes one of this machine's, for `sound --voice NAME`."""

import argparse
import os
import re

from models.speech_tokens import seconds
from models.voice import read_official, write_voice
from studio.audio.robot import ROBOTS
from studio.commands.machine import studio_config
from studio.errors import InputError, StudioError
from studio.pipeline.run import file_errors
from studio.pipeline.speech import VOICES

_NAME = re.compile(r"\w[\w-]{0,39}")


@file_errors()
def run(options: argparse.Namespace) -> int:
    """Write MODEL_DIR/voices/NAME.safetensors. Raises InputError for a name that cannot be or is taken."""
    if not _NAME.fullmatch(options.name) or options.name in ROBOTS:
        raise InputError("voice_name", value=options.name[:60])
    path = studio_config(options).model_dir / VOICES / f"{options.name}.safetensors"
    if os.path.lexists(path) and not options.overwrite:
        raise InputError("output_exists", file=path)
    voice = read_official(options.file, options.speaker or "")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_voice(path, voice)
    except OSError as error:
        raise StudioError("write_failed", file=path, reason=error.strerror or str(error)) from None
    print(f"{path}\n{seconds(len(voice.codes)):.1f} s of speech: {voice.transcript[:80]}")
    return 0
