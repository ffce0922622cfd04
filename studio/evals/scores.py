"""Every score: what it is called, its unit, its formula and source, and whether more is better; one clip measured."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from studio.evals import scores_motion, scores_picture, scores_time, scores_words
from studio.evals.pairs import Pair, compare_pairs
from studio.evals.scores_camera import SEEN_AS, Camera, read_camera
from studio.evals.scores_text import TextReader, text_match

VERSION = 1  # of the formulas: scores of another version are measured again


@dataclass(frozen=True)
class Clip:
    """What is measured: uint8 frames (t, H, W, 3), their rate, and what was asked for.

    picture: the first image as the model got it, uint8 of the frames' size. camera_move: a key of
    configs/camera_moves.yaml or "". reader: None leaves the text out.
    """

    frames: np.ndarray
    fps: float
    prompt: str = ""
    picture: np.ndarray | None = None
    camera_move: str = ""
    reader: TextReader | None = None

    @cached_property
    def pairs(self) -> list[Pair]:
        return compare_pairs(self.frames)

    @cached_property
    def cuts(self) -> list[int]:
        return scores_time.find_cuts(self.pairs)

    @cached_property
    def camera(self) -> Camera | None:
        return read_camera(self.frames, self.cuts)

    @cached_property
    def strength(self) -> float:
        return scores_motion.dynamic_strength(self.frames, self.fps)

    @cached_property
    def fidelity(self) -> tuple[float, float] | None:
        return None if self.picture is None else scores_picture.first_frame(self.frames, self.picture)


Take = Callable[[Clip], float | None]


@dataclass(frozen=True)
class Score:
    """One score. better: +1 more is better, -1 less is, 0 neither: it describes. take(clip): None where the clip or
    its prompt has nothing to measure. title, formula: (English, Chinese)."""

    key: str
    title: tuple[str, str]
    unit: str
    better: int
    formula: tuple[str, str]
    source: str
    take: Take


@dataclass(frozen=True)
class Measured:
    """The scores of a clip, None where there is nothing to measure, and what the camera did ("" where unseen)."""

    scores: Mapping[str, float | None]
    camera: str


def measure(clip: Clip) -> Measured:
    """All scores of a clip."""
    values = {score.key: score.take(clip) for score in SCORES}
    return Measured(values, clip.camera.move if clip.camera else "")


def _camera_match(clip: Clip) -> float | None:
    if clip.camera_move not in SEEN_AS or clip.camera is None:
        return None
    return float(clip.camera.shows(clip.camera_move))


def _text(clip: Clip) -> float | None:
    return None if clip.reader is None else text_match(clip.prompt, clip.frames, clip.reader)


SCORES: tuple[Score, ...] = (
    Score(
        "flicker_vbench",
        ("Steadiness (VBench)", "稳定度（VBench）"),
        "0..1",
        0,  # motion lowers it
        ("(255 - mean |next - frame|) / 255; motion lowers it", "(255 - 相邻帧平均绝对差) / 255；运动会使其降低"),
        "VBench, temporal_flickering",
        lambda clip: scores_time.flicker(clip.frames),
    ),
    Score(
        "flicker",
        ("Flicker along the flow", "沿光流的闪烁"),
        "levels of 255",
        -1,
        (
            "mean |next frame brought back along the flow - frame|, outside occlusions",
            "沿光流对齐后的相邻帧平均绝对差，遮挡处除外",
        ),
        "Lai et al., ECCV 2018, warping error; DIS flow; occlusions as Sundaram et al., ECCV 2010",
        lambda clip: scores_time.flicker_compensated(clip.pairs, clip.cuts),
    ),
    Score(
        "dynamic",
        ("Dynamic degree", "动态程度"),
        "0 or 1",
        0,
        (
            "1 where a quarter of the frames, 1/8 s apart, move by 6 px at 256 px",
            "在间隔 1/8 秒的帧中，四分之一的运动达到 6 像素（短边 256）则为 1",
        ),
        "VBench, dynamic_degree, with DIS flow for RAFT",
        lambda clip: float(clip.strength >= 1),
    ),
    Score(
        "dynamic_strength",
        ("Motion over VBench's threshold", "运动与 VBench 阈值之比"),
        "ratio",
        0,
        ("flow of the pair that decides dynamic degree, over its threshold", "决定动态程度的帧对的光流与阈值之比"),
        "VBench, dynamic_degree, with DIS flow for RAFT",
        lambda clip: clip.strength,
    ),
    Score(
        "motion_score",
        ("Measured motion score", "实测运动强度"),
        "px at 544 px",
        0,
        (
            "mean length of the flow between neighbours, in pixels of a 544-pixel short side",
            "相邻帧光流的平均长度，按短边 544 像素计",
        ),
        "arXiv 2503.11251, Motion Conditioning (its interval and size are not published)",
        lambda clip: scores_motion.motion_score(clip.pairs, clip.cuts),
    ),
    Score(
        "camera_match",
        ("Camera move as asked", "运镜符合要求"),
        "0 or 1",
        +1,
        (
            "1 where the border moves as asked, by 0.005 short sides or more",
            "画面边缘按要求移动（至少短边的 0.005）则为 1",
        ),
        "thresholds of VBench-2.0, camera_motion; similarity by RANSAC on tracks of the border",
        _camera_match,
    ),
    Score(
        "first_psnr",
        ("First frame, PSNR", "首帧 PSNR"),
        "dB",
        +1,
        ("10 log10(255^2 / mean squared difference) to the first image", "与首帧图片的 10 log10(255^2 / 均方差)"),
        "ISO/IEC 29170-2; the usual definition",
        lambda clip: clip.fidelity[0] if clip.fidelity else None,
    ),
    Score(
        "first_ssim",
        ("First frame, SSIM", "首帧 SSIM"),
        "-1..1",
        +1,
        ("SSIM of the brightness, 11x11 window, to the first image", "与首帧图片亮度的 SSIM，11x11 窗口"),
        "Wang et al., IEEE TIP 2004",
        lambda clip: clip.fidelity[1] if clip.fidelity else None,
    ),
    Score(
        "drift_colour",
        ("Drift of colours", "颜色漂移"),
        "0..1",
        -1,
        (
            "Hellinger distance of 8x8x8 histograms, last fifth to first frame",
            "末五分之一与首帧 8x8x8 直方图的 Hellinger 距离",
        ),
        "Hellinger distance as OpenCV's HISTCMP_BHATTACHARYYA",
        lambda clip: scores_picture.drift_colour(clip.frames),
    ),
    Score(
        "drift_structure",
        ("Drift of structure", "结构漂移"),
        "0..2",
        0,  # motion counts too
        ("1 - SSIM of the last fifth to the first frame; motion counts too", "1 - 末五分之一与首帧的 SSIM；运动也计入"),
        "Wang et al., IEEE TIP 2004",
        lambda clip: scores_picture.drift_structure(clip.frames),
    ),
    Score(
        "sharpness",
        ("Sharpness", "清晰度"),
        "0..1",
        +1,
        (
            "1 - blur effect: what a 9-tap blur takes of neighbouring differences",
            "1 - 模糊度：9 点模糊所消去的相邻差异比例",
        ),
        "Crete et al., SPIE 2007",
        lambda clip: scores_picture.sharpness(clip.frames),
    ),
    Score(
        "sharpness_kept",
        ("Sharpness kept", "清晰度保持"),
        "ratio",
        +1,
        ("mean squared gradient of the last fifth over that of the first", "末五分之一与前五分之一的平均梯度平方之比"),
        "Tenengrad: Krotkov, IJCV 1987",
        lambda clip: scores_picture.sharpness_kept(clip.frames),
    ),
    Score(
        "cuts",
        ("Cuts", "镜头切换"),
        "number",
        -1,
        (
            "pairs of which flow explains under 35 %, and 30 points more beside",
            "光流可解释不足 35%、而相邻帧对高出 30 点的帧对数",
        ),
        "this program; chosen on tests/evals/warps.py",
        lambda clip: float(len(clip.cuts)),
    ),
    Score(
        "frozen",
        ("Frozen", "静止"),
        "share",
        -1,
        (
            "share of pairs in which no 8x8 block changes by more than 2 levels",
            "任何 8x8 块变化都不超过 2 级的帧对比例",
        ),
        "this program; chosen on tests/evals/warps.py",
        lambda clip: scores_time.frozen(clip.frames),
    ),
    Score(
        "colours",
        ("Colours named in the prompt", "提示词中的颜色"),
        "share",
        +1,
        ("share of the named colours that 1 % of the pixels have", "提示词所提颜色中，占 1% 以上像素的比例"),
        "this program, by bounds of hue; chosen on tests/evals/warps.py",
        lambda clip: scores_words.colours_match(clip.prompt, clip.frames),
    ),
    Score(
        "brightness",
        ("Brightness named in the prompt", "提示词中的明暗"),
        "0 or 1",
        +1,
        ("1 where mean brightness is on the named side of 0.40", "平均亮度在所提一侧（以 0.40 为界）则为 1"),
        "this program; luma of BT.601",
        lambda clip: scores_words.brightness_match(clip.prompt, clip.frames),
    ),
    Score(
        "text",
        ("Text asked for", "要求的文字"),
        "0..1",
        +1,
        (
            "1 - edit distance / length, best of 5 frames, read by rapidocr",
            "1 - 编辑距离 / 长度，5 帧中取最好，由 rapidocr 识别",
        ),
        "rapidocr 3 (PP-OCR); edit distance by Levenshtein",
        _text,
    ),
)
BY_KEY: dict[str, Score] = {score.key: score for score in SCORES}
