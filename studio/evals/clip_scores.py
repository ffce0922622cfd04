"""The scores of one finished clip, kept beside it, so that it is measured once."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from studio.evals.posters import read_frames
from studio.evals.score_list import Measured
from studio.evals.scores import VERSION, Clip, measure
from studio.evals.scores_clip import Matcher
from studio.evals.scores_text import TextReader
from studio.filenames import write_whole
from studio.media import crop_image, read_image
from studio.settings import FPS, ResolvedSettings

SUFFIX = ".scores.json"


@dataclass(frozen=True)
class Helpers:
    """What scores are taken with beside the frames. reader: of texts; matcher: a CLIP; None where there is none."""

    reader: TextReader | None = None
    matcher: Matcher | None = None


def known_scores(clip: Path, helpers: Helpers) -> Measured | None:
    """What was measured of this clip, None where it is to be measured: by other formulas, or by more helpers."""
    try:
        found = json.loads(clip.with_name(clip.name + SUFFIX).read_text(encoding="utf-8"))
        known = found["version"] == VERSION and found["changed"] == clip.stat().st_mtime_ns
        if not known or (helpers.reader and not found["with_text"]):
            return None
        if helpers.matcher and found.get("clip") != helpers.matcher.name:
            return None
        return Measured(found["scores"], found["camera"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def score_clip(clip: Path, settings: ResolvedSettings, picture: bytes | None, helpers: Helpers) -> Measured:
    """Measure a clip and keep the scores beside it. Raises StudioError where it cannot be read."""
    frames = read_frames(clip)
    shown = None
    if picture is not None:
        shown = np.asarray(crop_image(read_image(picture), settings.height, settings.width, settings.crop_place))
    asked = Clip(frames, FPS, settings.prompt, shown, settings.camera_move, helpers.reader, helpers.matcher)
    found = measure(asked)
    told: dict[str, Any] = {"version": VERSION, "changed": clip.stat().st_mtime_ns}
    told |= {"with_text": helpers.reader is not None, "clip": helpers.matcher and helpers.matcher.name}
    told |= {"scores": dict(found.scores), "camera": found.camera}
    write_whole(clip.with_name(clip.name + SUFFIX), json.dumps(told, indent=1).encode())
    return found
