"""Whether a video can be made again with the same bits: its record compared with the request and the model."""

import hashlib
from collections.abc import Mapping
from typing import Any

from PIL import Image

from models.kernels import PLAIN
from studio.errors import InputError
from studio.media import crop_image
from studio.pipeline.evaluation_plan import EvaluationPlan
from studio.pipeline.run import Engine, Request
from studio.settings import ResolvedSettings

# Of the provenance: with all of these as they were, a rerun has the same bits.
DECIDE_THE_BITS = ("device", "torch", "dtype", "quantize", "attention", "kernels")


def cropped_picture(request: Request) -> Image.Image | None:
    """The first image as the model sees it, None for text alone."""
    settings = request.settings
    return crop_image(request.image, settings.height, settings.width, settings.crop_place) if request.image else None


def provenance_of(engine: Engine, picture: Image.Image | None) -> dict[str, Any]:
    """The record of how a result was made. picture: the cropped first image; its pixels are named by sha256."""
    picture_hash = hashlib.sha256(picture.tobytes()).hexdigest() if picture else None
    return {**engine.provenance, "first_image_sha256": picture_hash}


def check_rerun(record: Mapping[str, Any], request: Request, engine: Engine) -> None:
    """Raise InputError where a file's picture or model is not what this request would use."""
    if "model_fingerprint" not in record:
        raise InputError("metadata_missing", reason="it does not tell which model files it was made with")
    now = provenance_of(engine, cropped_picture(request))
    if record.get("first_image_sha256") != now["first_image_sha256"]:
        raise InputError("rerun_picture")
    if record.get("model_fingerprint") != now["model_fingerprint"]:
        raise InputError("rerun_model", model=engine.model.name)


def rerun_plan(record: Mapping[str, Any], settings: ResolvedSettings) -> EvaluationPlan | None:
    """The evaluation plan in a file whose settings are made again unchanged; None: the settings' own.

    Files from before there were plans have none: they are official plans. Raises InputError for what is no plan.
    """
    was = ResolvedSettings.from_record(dict(record))
    if "plan" not in record or not was.same_but_picture(settings):
        return None
    try:
        return EvaluationPlan.from_dict(record["plan"])
    except ValueError as error:
        raise InputError("metadata_missing", reason=str(error)) from None


def rerun_changes(record: Mapping[str, Any], engine: Engine) -> dict[str, tuple[Any, Any]]:
    """What else decides the bits and is not as it was when the file was made: name -> (then, now)."""
    was = {"kernels": PLAIN, **record}  # files from before there were kernels
    pairs = {name: (was.get(name), engine.provenance[name]) for name in DECIDE_THE_BITS}
    return {name: (then, now) for name, (then, now) in pairs.items() if then != now}
