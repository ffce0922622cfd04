"""Hostile pictures, settings and latents, each with the sentence that refuses it; a probe of the same name opens it."""

import io
import json
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

from studio.config import load_models
from studio.settings import GenerationSettings
from tests.hostile.harms import LFS, Harm, link, sparse

MODEL = "nano"
SETTINGS = GenerationSettings(MODEL, "a red ball", num_frames=17, height=64, width=96, seed=7).resolve(
    load_models()[MODEL]
)
DEEP = "[" * 100_000 + "]" * 100_000
WRONG = "settings|must|multiple|characters|named|cannot be|not a number"
NONE = "cannot be read|holds no settings"
PLAN = {"speed": "fast", "theta": 0.8, "calibrated": True, "nodes": [[0, 4], [0.25, 4], [0.5, 4]]}
PLANS: tuple[tuple[str, Any, str], ...] = (
    ("a plan", PLAN, ""),
    ("a plan that is none", [PLAN], "no evaluation plan"),
    ("a plan of times that are equal in float32", PLAN | {"nodes": [[0, 4], [0.5, 4], [0.5 + 1e-12, 4]]}, "float32"),
    ("a plan that ends at once in float32", PLAN | {"nodes": [[0, 4], [0.5, 4], [1 - 1e-12, 4]]}, "float32"),
    ("a plan whose time has 400 digits", PLAN | {"nodes": [[0, 4], [10**400, 4], [0.5, 4]]}, "too large"),
    ("a plan of 100,000 nodes", PLAN | {"nodes": [[0, 4]] * 10**5}, "rise from 0"),
)
PNG, MP4 = b"\x89PNG\r\n\x1a\n", b"\0\0\0\x10ftypisom\0\0\0\0"


@dataclass(frozen=True)
class FileCase:
    """make: writes the file; says: a regular expression that the sentence matches, "" for a sound one."""

    kind: str
    name: str
    make: Harm
    says: str


def holds(data: bytes | str) -> Harm:
    return lambda path: path.write_bytes(data.encode() if isinstance(data, str) else data)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *more: bytes, depth: int = 8, color: int = 2) -> bytes:
    """A png that says it is so large and has few pixels."""
    start = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(99)))
    return PNG + start + b"".join(more) + pixels + chunk(b"IEND", b"")


def encoded(kind: str, picture: Image.Image, **options: Any) -> bytes:
    made = io.BytesIO()
    picture.save(made, kind, **options)
    return made.getvalue()


def of_pictures() -> list[FileCase]:
    plain = Image.fromarray(np.random.default_rng(1).integers(0, 255, (48, 64, 3)).astype(np.uint8))
    cuts = [(f"a cut {kind}", holds(encoded(kind, plain)[:-99]), "image") for kind in ("png", "jpeg", "webp", "bmp")]
    bad = bytearray(encoded("tiff", plain))
    bad[4:8] = struct.pack("<I", 3000)  # the directory of a tiff, which then begins in its pixels
    return rows(
        "picture",
        ("a picture", holds(encoded("png", plain)), ""),
        *cuts,
        ("empty", holds(b""), "use a png"),
        ("a text", holds(b"not a picture"), "use a png"),
        ("a Git-LFS pointer", holds(LFS), "use a png"),
        ("a png of 2**31 pixels a side", holds(png(2**31 - 1, 2**31 - 1)), "image"),
        ("a png of 400 megapixels", holds(png(20_000, 20_000)), "megapixels"),
        ("a png of no height", holds(png(9, 0)), "image"),
        ("a png that ends early", holds(png(4000, 4000)), "image"),
        ("a text of 1 GB in a png", holds(png(8, 8, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**30))))), "image"),
        ("a profile of 300 MB", holds(png(8, 8, chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(3 * 10**8))))), "image"),
        ("an animation", holds(encoded("webp", plain, save_all=True, append_images=[plain.rotate(9)])), "animation"),
        ("32-bit numbers", holds(encoded("tiff", Image.new("F", (8, 8)))), "32-bit"),
        ("a tiff with its directory in its pixels", holds(bytes(bad)), "image"),
        ("a tiff of a million pages", holds(pages(10**6)), "image"),
        ("a tiff whose pages are a ring", holds(pages(1)), "image"),
        ("an svg", holds(b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>"), "use a"),
        ("a postscript", holds(b"%!PS-Adobe-3.0 EPSF\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n"), "use a png"),
        *no_files("cannot be read"),
    )


def pages(count: int) -> bytes:
    """A tiff of so many pages without pixels; of one that names itself as the next."""
    size = 2 + 12 + 4
    tag = struct.pack("<HHII", 256, 4, 1, 9)
    parts = [b"II*\0" + struct.pack("<I", 8)]
    for number in range(count):
        after = 8 + (number + 1) * size if count > 1 else 8
        parts.append(struct.pack("<H", 1) + tag + struct.pack("<I", after))
    return b"".join(parts)


def of_settings() -> list[FileCase]:
    asked = json.loads(SETTINGS.asked().to_json())

    def but(**values: Any) -> Harm:
        kept = {name: value for name, value in (asked | values).items() if value is not ...}
        return holds(json.dumps({"settings": kept}))

    wrong = [
        (f"{name} is {str(value)[:12]}", but(**{name: value}), WRONG)
        for name, value in (
            ("prompt", 7), ("prompt", "x" * 10**6), ("prompt", "\ud800"), ("prompt", ["x"]), ("prompt", ...),
            ("infer_steps", 10**9), ("infer_steps", 1e300), ("infer_steps", -1), ("infer_steps", "50"),
            ("num_frames", 10**9), ("num_frames", 0), ("num_frames", True), ("height", 63), ("height", 2**63),
            ("cfg_scale", 1e308), ("cfg_scale", float("nan")), ("time_shift", float("inf")), ("fps", 10**12),
            ("seed", -(2**70)), ("seed", 1.5), ("motion_score", {}), ("model", "../../etc"), ("model", None),
            ("shell", "rm -rf /"), ("__class__", "x"), ("first_image", 7), ("camera_move", "\x1b[2J"),
            ("speed", "warp"),
        )
    ]  # fmt: skip
    resolved = json.loads(SETTINGS.to_json())
    wrong += [(name, holds(json.dumps({"settings": resolved, "plan": plan})), says) for name, plan, says in PLANS]
    comment = b"\0\0\0\x01\0\0\0\0" + json.dumps({"settings": asked}).encode()
    for kind in (b"data", b"\xa9cmt", b"ilst"):
        comment = struct.pack(">I4s", len(comment) + 8, kind) + comment
    for kind, before in ((b"meta", b"\0\0\0\0"), (b"udta", b""), (b"moov", b"")):
        comment = struct.pack(">I4s", len(comment) + len(before) + 8, kind) + before + comment
    text = chunk(b"zTXt", b"comment\0\0" + zlib.compress(b"{" * 10**9))
    return rows(
        "settings",
        ("settings", but(), ""),
        ("settings in an mp4", holds(MP4 + comment), ""),
        *wrong,
        ("empty", holds(b""), NONE),
        ("null", holds("null"), NONE),
        ("a list of settings", holds(json.dumps({"settings": [asked]})), "not an object"),
        ("another encoding", holds(json.dumps(asked).encode("utf-16")), NONE + "|settings"),
        ("100,000 levels", holds('{"settings": ' + DEEP + "}"), NONE),
        ("a number of 10,000 digits", holds('{"settings": {"seed": ' + "9" * 10_000 + "}}"), NONE + "|settings"),
        ("60 MB of objects", holds(b'{"a": [' + b"{}," * 20 * 2**20), "longer than"),
        ("an mp4 without settings", holds(MP4), "holds no settings"),
        ("an mp4 whose box is longer than it", holds(MP4 + struct.pack(">I4s", 2**31, b"moov")), "holds no settings"),
        ("a png whose text is 1 GB", holds(png(8, 8, text)), "longer than|holds no settings"),
        *no_files("cannot be read|longer than|holds no settings"),
    )


def of_latents() -> list[FileCase]:
    shape = SETTINGS.video_shape.latent_shape(4)
    meta = {"settings": SETTINGS.to_json(), "provenance": json.dumps({"plan": PLAN}), "step": "3"}
    good = {"latents": torch.zeros(shape), "velocity": torch.zeros(shape)}

    def with_(tensors: dict[str, torch.Tensor] | None = None, **values: Any) -> Harm:
        kept = {name: value for name, value in (meta | values).items() if value is not ...}
        return holds(save(good if tensors is None else tensors, kept))

    settings = json.loads(SETTINGS.to_json())
    huge = json.dumps(settings | {"num_frames": 10**9})
    data = save(good, meta)
    return rows(
        "latents",
        ("latents", with_(), ""),
        ("cut", holds(data[:-9]), "holds no latents"),
        ("more than its header says", holds(data + b"x"), "holds no latents"),
        ("empty", holds(b""), "holds no latents"),
        ("a Git-LFS pointer", holds(LFS), "holds no latents|LFS"),
        ("a header of 2**60 bytes", holds(struct.pack("<Q", 2**60) + data[8:]), "holds no latents"),
        ("no settings", with_(settings=...), "holds no latents"),
        ("settings that are none", with_(settings="[]"), "settings|Settings"),
        ("settings of 10**9 frames", with_(settings=huge), "frames"),
        ("another model's settings", with_(settings=json.dumps(settings | {"model": "x\x1b[2J"})), "model"),
        *((name, with_(provenance=json.dumps({"plan": plan})), says) for name, plan, says in PLANS),
        ("a step of a run that goes on", with_(provenance=json.dumps({"plan": PLAN}), step="2"), "before the last one"),
        ("no step", with_(step=...), "holds no latents"),
        ("a step that is none", with_(step="1e9"), "holds no latents"),
        ("a negative step", with_(step="-1"), "holds no latents"),
        ("a step of 10,000 digits", with_(step="9" * 10_000), "holds no latents"),
        ("growths that are none", with_(growths="x"), "holds no latents"),
        ("provenance of 100,000 levels", with_(provenance=DEEP), "holds no latents"),
        ("no latents", with_({"other": torch.zeros(1)}), "holds no latents"),
        ("latents of another video", with_({"latents": torch.zeros(1, 6, 4, 8, 12)}), "holds no latents"),
        ("latents of 10**6 channels", with_({"latents": torch.zeros(*shape[:2], 10**6, 1, 1)}), "holds no latents"),
        ("latents of no channels", with_({"latents": torch.zeros(*shape[:2], 0, *shape[3:])}), "holds no latents"),
        ("latents in another type", with_({"latents": torch.zeros(shape, dtype=torch.int8)}), "holds no latents"),
        ("latents that are not finite", with_({"latents": torch.full(shape, float("nan"))}), "no finite numbers"),
        ("a velocity that is not finite", with_(good | {"velocity": torch.full(shape, float("inf"))}), "no finite"),
        ("a velocity of another shape", with_(good | {"velocity": torch.zeros(1)}), "holds no latents"),
        ("a pickle", holds(b"\x80\x04cos\nsystem\n(X\x05\x00\x00\x00touchtR."), "holds no latents"),
        *no_files("holds no latents"),
    )


def no_files(says: str) -> tuple[tuple[str, Harm, str], ...]:
    """What stands in a file's place and is none, or is endless."""
    made: dict[str, Callable[[Path], object]] = {
        "a pipe": os.mkfifo,
        "a folder": Path.mkdir,
        "/dev/zero": link("/dev/zero"),
        "a link to itself": link("case"),
        "a link to nothing": link("absent"),
        "1 TB of zeros": sparse(1 << 40),
    }
    return tuple((name, make, says) for name, make in made.items())


def rows(kind: str, *found: tuple[str, Harm, str]) -> list[FileCase]:
    return [FileCase(kind, name, make, says) for name, make, says in found]


FILE_CASES = [*of_pictures(), *of_settings(), *of_latents()]
