"""What `calibrate` chose, a file per model, guidance and time shift in the cache folder. Whatever is no such file is
ignored. Files without guidance and shift in their name are from when a model had one."""

import json
import math
from collections.abc import Mapping
from contextlib import suppress
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
    """Write the choice for the model of this fingerprint (hex digits), with a first image or without, in place of one
    of the same guidance and shift.

    Raises OSError.
    """
    name = f"{_name(fingerprint, has_image)}-cfg{found.cfg_scale}-shift{found.time_shift}.json"
    same = _of(cache, fingerprint, found.cfg_scale, found.time_shift, has_image)
    path = same[0] if same else cache / FOLDER / name
    write_whole(path, json.dumps(asdict(found), indent=1, sort_keys=True).encode())
    return path


def known_calibrations(cache: Path, fingerprint: str, *, has_image: bool = False) -> tuple[Calibration, ...]:
    """The choices for the model of this fingerprint that can be used, each of its own guidance and shift."""
    return tuple(_kept(cache, fingerprint, has_image).values())


def remove_calibration(
    cache: Path, fingerprint: str, cfg_scale: float, time_shift: float, *, has_image: bool = False
) -> None:
    """Remove the choice of exactly this guidance and shift, where there is one. Raises OSError."""
    for path in _of(cache, fingerprint, cfg_scale, time_shift, has_image):
        path.unlink(missing_ok=True)


def _name(fingerprint: str, has_image: bool) -> str:
    """One network may serve both: nano's does."""
    return f"{fingerprint[:32]}{'-image' if has_image else ''}"


def _kept(cache: Path, fingerprint: str, has_image: bool) -> dict[Path, Calibration]:
    folder, name = cache / FOLDER, _name(fingerprint, has_image)
    found = {}
    for path in (folder / f"{name}.json", *sorted(folder.glob(f"{name}-cfg*.json"))):
        with suppress(CheckpointError, ValueError, TypeError, KeyError):
            found[path] = _calibration(read_json(path))
    return found


def _of(cache: Path, fingerprint: str, cfg_scale: float, time_shift: float, has_image: bool) -> list[Path]:
    """The files of the choice with exactly this guidance and shift."""
    kept = _kept(cache, fingerprint, has_image)
    return [path for path, found in kept.items() if (found.cfg_scale, found.time_shift) == (cfg_scale, time_shift)]


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
