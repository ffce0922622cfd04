"""The kinds of jobs: what the row of each holds as its settings, and the phases it goes through.

A job of any kind has the settings of a video: those of the video it makes, or of the clip that it gives a sound. So
whoever shows a job, searches it or names its result asks no kind.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from studio.errors import InputError
from studio.events import PHASES
from studio.settings import ResolvedSettings

SOUND = "sound"  # the key of a row's settings beside those of the clip
AGAIN = "again"  # the one beside those of a video that is made again
Again = Mapping[str, Any]  # see Job.again


class JobKind(StrEnum):
    """What a job makes. Each kind has workers of its own."""

    VIDEO = "video"
    SOUND = "sound"  # a finished clip with another soundtrack, or with none


PHASES_OF: dict[JobKind, tuple[str, ...]] = {
    JobKind.VIDEO: PHASES,
    JobKind.SOUND: ("load", "speak_codes", "speak_mel", "speak_wave", "speak", "mix", "write"),
}
RARE_PHASES = ("load", "speak_codes", "speak_mel", "speak_wave")  # shown only where they happen


@dataclass(frozen=True)
class SoundOrder:
    """What a job of kind SOUND makes.

    clip: the mp4 whose picture is kept. track: the soundtrack as plain data, whose sound files lie in the job's folder
    by name; None takes a sound away. Here it is only kept: studio.audio reads it.
    """

    clip: str
    track: Mapping[str, Any] | None


def stored(settings: ResolvedSettings, sound: SoundOrder | None = None, again: Again | None = None) -> str:
    """The settings of a row as json; with a sound, of kind SOUND. again: see Job.again."""
    beside = ({SOUND: asdict(sound)} if sound else {}) | ({AGAIN: again} if again else {})
    return json.dumps(asdict(settings) | beside) if beside else settings.to_json()


def read_stored(kind: JobKind, text: str) -> tuple[ResolvedSettings, SoundOrder | None, Again | None]:
    """`stored` read back. Raises InputError for anything else."""
    order = None
    try:
        data = json.loads(text)
        again = data.pop(AGAIN, None)
        if not (again is None or isinstance(again, dict)):
            raise TypeError("what it makes again is nothing")
        if kind is JobKind.SOUND:
            sound = data.pop(SOUND)
            order = SoundOrder(sound["clip"], sound["track"])
            if not (isinstance(order.clip, str) and (order.track is None or isinstance(order.track, dict))):
                raise TypeError("its sound is none")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError("settings_unreadable", reason=str(error)) from None
    return ResolvedSettings.from_dict(data), order, again
