"""What `calibrate` chose, one file per model in the cache folder. Whatever is no such file is ignored."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.regular_files import CheckpointError, read_json
from studio.filenames import write_whole
from studio.pipeline.evaluation_plan import FEWEST_NODES, Calibration, Rule
from studio.settings import RANGES

FOLDER = "calibrations"
MOST_ERRORS = 100


def store_calibration(cache: Path, fingerprint: str, found: Calibration, *, has_image: bool = False) -> Path:
    """Write the choice for the model of this fingerprint (hex digits), with a first image or without.

    Raises OSError.
    """
    path = _path(cache, fingerprint, has_image)
    write_whole(path, json.dumps(asdict(found), indent=1, sort_keys=True).encode())
    return path


def load_calibration(cache: Path, fingerprint: str, *, has_image: bool = False) -> Calibration | None:
    """The choice for the model of this fingerprint; None where there is none that can be used."""
    try:
        return _calibration(read_json(_path(cache, fingerprint, has_image)))
    except (CheckpointError, ValueError, TypeError, KeyError):
        return None


def remove_calibration(cache: Path, fingerprint: str, *, has_image: bool = False) -> None:
    """Remove the choice, where there is one. Raises OSError."""
    _path(cache, fingerprint, has_image).unlink(missing_ok=True)


def _path(cache: Path, fingerprint: str, has_image: bool) -> Path:
    """One network may serve both: nano's does."""
    return cache / FOLDER / f"{fingerprint[:32]}{'-image' if has_image else ''}.json"


def _calibration(data: Mapping[str, Any]) -> Calibration:
    """Raises ValueError, TypeError or KeyError."""
    errors = data["errors"]
    if not isinstance(errors, dict) or len(errors) > MOST_ERRORS:
        raise TypeError("no table of errors")
    return Calibration(
        fast=_rule(data["fast"]),
        draft=None if data["draft"] is None else _rule(data["draft"]),
        infer_steps=int(_number(data["infer_steps"], *RANGES["infer_steps"])),
        cfg_scale=_number(data["cfg_scale"], *RANGES["cfg_scale"]),
        time_shift=_number(data["time_shift"], *RANGES["time_shift"]),
        errors={str(name)[:80]: _number(value, 0.0, math.inf) for name, value in errors.items()},
    )


def _rule(data: Mapping[str, Any]) -> Rule:
    nodes = int(_number(data["nodes"], FEWEST_NODES, RANGES["infer_steps"][1]))
    return Rule(nodes, _number(data["k"], *RANGES["time_shift"]), _number(data["theta"], 0.0, 1.0))


def _number(value: Any, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("no number")
    if not (low <= value <= high and math.isfinite(value)):
        raise ValueError("out of range")
    return float(value)
