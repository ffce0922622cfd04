"""The scores of one finished clip, kept beside it, so that it is measured once."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from studio.evals.posters import read_frames
from studio.evals.score_list import Measured
from studio.evals.scores import VERSION, Clip, measure
from studio.evals.scores_text import TextReader
from studio.filenames import write_whole
from studio.media import crop_image, read_image
from studio.settings import FPS, ResolvedSettings

SUFFIX = ".scores.json"


def known_scores(clip: Path, with_text: bool) -> Measured | None:
    """What was measured of this clip, None where it is to be measured: with other formulas, or its texts too."""
    try:
        found = json.loads(clip.with_name(clip.name + SUFFIX).read_text(encoding="utf-8"))
        known = found["version"] == VERSION and found["changed"] == clip.stat().st_mtime_ns
        if not known or (with_text and not found["with_text"]):
            return None
        return Measured(found["scores"], found["camera"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def score_clip(clip: Path, settings: ResolvedSettings, picture: bytes | None, reader: TextReader | None) -> Measured:
    """Measure a clip and keep the scores beside it. Raises StudioError where it cannot be read."""
    frames = read_frames(clip)
    shown = None
    if picture is not None:
        shown = np.asarray(crop_image(read_image(picture), settings.height, settings.width))
    asked = Clip(frames, FPS, settings.prompt, shown, settings.camera_move, reader)
    found = measure(asked)
    told: dict[str, Any] = {"version": VERSION, "changed": clip.stat().st_mtime_ns, "with_text": reader is not None}
    told |= {"scores": dict(found.scores), "camera": found.camera}
    write_whole(clip.with_name(clip.name + SUFFIX), json.dumps(told, indent=1).encode())
    return found
