"""Whose voices speak a soundtrack. The speech model brings PyTorch, so it is imported only where a line asks for it."""

import argparse

from studio.audio.robot import ROBOTS
from studio.audio.soundtrack import Speaker
from studio.audio.track import SoundSettings


def speaker_for(settings: SoundSettings, options: argparse.Namespace) -> Speaker | None:
    """The speech model with its voices; None where the robot speaks every line. Raises InputError, ModelMissing."""
    if all(line.voice in ROBOTS for line in settings.lines):
        return None
    from studio.commands.speaker import open_speaker

    return open_speaker(settings, options)
