"""Every score against clips whose truth is known: from room.py, on which no threshold was chosen."""

from functools import cache

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="needs the extra `evaluate`: opencv-python-headless")

from studio.config import load_camera_moves  # noqa: E402
from studio.evals.pairs import compare_pairs, ssim  # noqa: E402
from studio.evals.score_list import BY_KEY, SCORES  # noqa: E402
from studio.evals.scores import TAKES, Clip, measure  # noqa: E402
from studio.evals.scores_camera import SEEN_AS, read_camera  # noqa: E402
from studio.evals.scores_text import TextReader, asked_texts, edit_distance, has_reader, text_match  # noqa: E402
from studio.evals.scores_time import find_cuts, flicker, flicker_compensated, frozen  # noqa: E402
from studio.evals.scores_words import named_brightness, named_colours  # noqa: E402
from tests.evals.room import Take, filmed, flow_of_turn  # noqa: E402

SIZE = {"frames": 9, "height": 96, "width": 160}
MOVES = {
    "right": Take(yaw=0.2), "left": Take(yaw=-0.2), "up": Take(pitch=0.15), "down": Take(pitch=-0.15),
    "in": Take(zoom=1.25), "out": Take(ahead=-0.9), "roll": Take(roll=0.2), "fixed": Take(balls=2),
}  # fmt: skip


@cache
def seen(take: Take, seed: int = 100) -> np.ndarray:
    return filmed(take, seed, **SIZE)


def value(key: str, frames: np.ndarray, **asked: object) -> float | None:
    return TAKES[key](Clip(frames, 25.0, **asked))


def test_the_camera_is_seen_as_it_moved() -> None:
    found = {move: read_camera(seen(MOVES[move])).move for move in ("right", "in", "roll")}  # the others: slow, below
    assert found == {move: move for move in found}
    assert value("camera_match", seen(MOVES["in"]), camera_move="push-in") == 1
    assert value("camera_match", seen(MOVES["in"]), camera_move="pull-out") == 0
    assert value("camera_match", seen(MOVES["in"])) is None
    assert read_camera(np.full((5, 64, 64, 3), 90, np.uint8)) is None  # nothing to follow


@pytest.mark.slow
def test_the_camera_is_seen_among_moving_things() -> None:
    takes = [(move, Take(**{**vars(take), "balls": 2}), seed) for move, take in MOVES.items() for seed in (103, 104)]
    wrong = [(move, seed) for move, take, seed in takes if read_camera(seen(take, seed)).move != move]
    assert not wrong


def test_motion_is_measured_in_pixels_of_the_official_height() -> None:
    for move in ("right", "in", "roll"):
        true = flow_of_turn(MOVES[move], 9, 96, 160) * 544 / 96
        assert value("motion_score", seen(MOVES[move])) == pytest.approx(true, rel=0.15), move
    assert value("motion_score", seen(Take())) < 0.02
    assert value("dynamic", seen(Take())) == 0 and value("dynamic", seen(Take(yaw=0.6))) == 1


def test_flicker_is_what_motion_does_not_explain() -> None:
    frames = np.zeros((3, 32, 32, 3), np.uint8)
    frames[1] += 51
    assert flicker(frames) == pytest.approx(0.8)  # (255 - 51) / 255
    moving = seen(MOVES["right"])
    waved = (moving.astype(int) + 12 * (np.arange(9) % 2)[:, None, None, None]).clip(0, 255).astype(np.uint8)
    calm, wavy = (flicker_compensated(compare_pairs(clip)) for clip in (moving, waved))
    assert calm < 5 and wavy - calm > 6  # 12 levels between neighbours, a part of it clipped or taken for motion
    assert flicker(moving) < flicker(seen(Take(balls=2))) < 1  # VBench's own counts motion


def test_cuts_are_found_where_they_are_alone() -> None:
    first, second = seen(MOVES["right"]), seen(MOVES["in"], 101)
    assert find_cuts(compare_pairs(np.concatenate([first[:5], second[:5]]))) == [4]
    flashed = first.copy()
    flashed[4] = 255
    soft = cv2.GaussianBlur(first[0], (0, 0), 12).astype(float)
    stain = cv2.GaussianBlur(np.random.default_rng(0).normal(0, 25, soft.shape), (0, 0), 3)
    blurred = np.stack([soft + stain * (t > 3) for t in range(9)]).clip(0, 255).astype(np.uint8)
    assert compare_pairs(blurred)[3].explained < 0.35  # there is little that flow could follow
    for clip in (first, flashed, seen(Take(yaw=0.9)), blurred):
        assert find_cuts(compare_pairs(clip)) == []


def test_a_frozen_share_is_counted() -> None:
    clip = seen(MOVES["right"])
    held = np.concatenate([clip[:5], clip[4:5].repeat(4, 0)])
    assert frozen(held) == 0.5 and frozen(clip) == 0 and value("frozen", seen(Take())) == 1


def test_the_first_frame_is_compared_with_the_picture() -> None:
    clip = seen(MOVES["right"])
    noise = np.random.default_rng(0).normal(0, 4, clip[0].shape)
    grey = np.full_like(clip, 128)
    asked = (128 + noise).round().clip(0, 255).astype(np.uint8)
    error = np.square(asked.astype(float) - 128).mean()
    assert value("first_psnr", grey, picture=asked) == pytest.approx(10 * np.log10(255**2 / error))
    assert value("first_psnr", clip, picture=clip[0]) == 99 and value("first_ssim", clip, picture=clip[0]) == 1
    assert value("first_ssim", clip, picture=cv2.GaussianBlur(clip[0], (0, 0), 2)) < 0.9
    assert value("first_psnr", clip) is None
    flat, other = np.full((2, 32, 32), 100.0), np.full((2, 32, 32), 120.0)  # of flat pictures the means alone count
    c1 = (0.01 * 255) ** 2
    assert ssim(flat[0], other[0]) == pytest.approx((2 * 100 * 120 + c1) / (100**2 + 120**2 + c1), rel=1e-3)


def test_drift_and_decay_grow_with_the_change() -> None:
    still = seen(Take())
    fade = np.linspace(0, 60, 9)[:, None, None, None] * np.array([1, 0, -1])
    coloured = (still + fade).clip(0, 255).astype(np.uint8)
    sigmas = np.linspace(0.01, 3, 9)
    softer = np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame, sigma in zip(still, sigmas, strict=True)])
    assert value("drift_colour", still) < 0.01 < 0.15 < value("drift_colour", coloured)
    assert value("drift_structure", still) < 0.01 < 0.15 < value("drift_structure", softer)
    assert value("sharpness", still) > value("sharpness", softer) > value("sharpness", softer[5:])
    assert value("sharpness_kept", still) == pytest.approx(1, abs=0.01) and value("sharpness_kept", softer) < 0.4
    assert value("sharpness_kept", np.zeros((5, 32, 32, 3), np.uint8)) is None


def test_words_of_colour_and_light_are_checked() -> None:
    lit = seen(Take(balls=0)).copy()
    grey = np.full_like(lit, 140)
    red = grey.copy()
    red[:, 20:60, 20:60] = (200, 20, 30)
    for prompt in ("A red kite", "一只红色的风筝"):
        assert value("colours", red, prompt=prompt) == 1 and value("colours", grey, prompt=prompt) == 0
    assert value("colours", red, prompt="a red and a blue kite") == 0.5
    assert value("colours", red, prompt="a kite") is None
    assert value("brightness", grey // 4, prompt="a dark alley at night") == 1
    assert value("brightness", grey // 4, prompt="阳光明媚的海滩") == 0
    assert named_colours("a dark blue hat, 黑白照片") == [] and named_brightness("白天的夜景") == ""


def test_texts_that_are_asked_for() -> None:
    assert asked_texts('A sign that says "OPEN 24 H". He says hello.') == ["OPEN 24 H"]
    assert asked_texts("招牌上写着“欢迎光临”，她喊道：“快跑！”") == ["欢迎光临"]
    assert edit_distance("kitten", "sitting") == 3


@pytest.mark.slow
@pytest.mark.skipif(not has_reader(), reason="needs the extra `ocr`: rapidocr and onnxruntime")
def test_text_is_read_back() -> None:
    large = np.stack([cv2.resize(frame, (640, 384)) for frame in seen(Take())])
    for frame in large:
        cv2.rectangle(frame, (100, 130), (540, 250), (250, 250, 240), -1)
        cv2.putText(frame, "OPEN 24 H", (125, 215), cv2.FONT_HERSHEY_SIMPLEX, 2.2, (20, 20, 40), 5, cv2.LINE_AA)
    reader = TextReader()
    assert text_match('A sign reads "Open 24 h"', large, reader) == 1
    assert text_match('A sign reads "Closed"', large, reader) < 0.5
    assert text_match("no sign", large, reader) is None


class Colours:
    """A CLIP by a rule: the mean colour of a frame, and the one that a text names."""

    name = "colours"

    def pictures(self, frames: list[np.ndarray]) -> np.ndarray:
        found = np.stack([frame.mean((0, 1)) for frame in frames])
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    def text(self, words: str) -> np.ndarray:
        return np.eye(3)[["red", "green", "blue"].index(words)]


def test_prompt_and_frames_are_compared_where_the_user_has_a_clip() -> None:
    turning = np.zeros((9, 16, 16, 3), np.uint8)
    turning[:4, ..., 0] = turning[4:, ..., 1] = 200
    red = turning[:1].repeat(9, 0)
    assert value("clip_text", red, prompt="red", matcher=Colours()) == pytest.approx(100)
    assert value("clip_text", red, prompt="blue", matcher=Colours()) == 0
    assert value("clip_text", turning, prompt="red", matcher=Colours()) == pytest.approx(100 * 4 / 8)
    assert value("clip_text", red, prompt="红色的球", matcher=Colours()) is None
    assert value("clip_frames", red, matcher=Colours()) == pytest.approx(1)
    # Of 7 pairs 3 are alike to the first, 6 to the one before.
    assert value("clip_frames", turning, matcher=Colours()) == pytest.approx((3 + 6) / 14)
    assert value("clip_frames", red[:1], matcher=Colours()) is None and value("clip_frames", red) is None


def test_every_score_is_described_and_gives_a_number() -> None:
    keys = [score.key for score in SCORES]
    assert len(BY_KEY) == len(keys) and list(TAKES) == keys
    incomplete = [
        s.key for s in SCORES if not all((*s.title, s.unit, *s.formula, s.source)) or s.better not in (-1, 0, 1)
    ]
    assert not incomplete
    assert set(SEEN_AS) <= set(load_camera_moves())
    clip = seen(MOVES["right"])
    found = measure(Clip(clip, 25.0, "a red room", clip[0], "right"))
    nothing = {key for key, number in found.scores.items() if number is None}
    assert nothing == {"brightness", "text", "clip_text", "clip_frames"} and found.camera == "right"
    assert all(np.isfinite(number) for number in found.scores.values() if number is not None)
