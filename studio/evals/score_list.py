"""Every score: what it is called, its unit, its formula and source, and whether more is better."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """One score. better: +1 more is better, -1 less is, 0 neither: it describes. title, formula: (English, Chinese)."""

    key: str
    title: tuple[str, str]
    unit: str
    better: int
    formula: tuple[str, str]
    source: str


@dataclass(frozen=True)
class Measured:
    """The scores of a clip, None where there is nothing to measure, and what the camera did ("" where unseen)."""

    scores: Mapping[str, float | None]
    camera: str


SCORES: tuple[Score, ...] = (
    Score(
        "flicker_vbench",
        ("Steadiness (VBench)", "稳定度（VBench）"),
        "0..1",
        0,  # motion lowers it
        ("(255 - mean |next - frame|) / 255; motion lowers it", "(255 - 相邻帧平均绝对差) / 255；运动会使其降低"),
        "VBench, temporal_flickering",
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
    ),
    Score(
        "dynamic_strength",
        ("Motion over VBench's threshold", "运动与 VBench 阈值之比"),
        "ratio",
        0,
        ("flow of the pair that decides dynamic degree, over its threshold", "决定动态程度的帧对的光流与阈值之比"),
        "VBench, dynamic_degree, with DIS flow for RAFT",
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
    ),
    Score(
        "first_psnr",
        ("First frame, PSNR", "首帧 PSNR"),
        "dB",
        +1,
        ("10 log10(255^2 / mean squared difference) to the first image", "与首帧图片的 10 log10(255^2 / 均方差)"),
        "ISO/IEC 29170-2; the usual definition",
    ),
    Score(
        "first_ssim",
        ("First frame, SSIM", "首帧 SSIM"),
        "-1..1",
        +1,
        ("SSIM of the brightness, 11x11 window, to the first image", "与首帧图片亮度的 SSIM，11x11 窗口"),
        "Wang et al., IEEE TIP 2004",
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
    ),
    Score(
        "drift_structure",
        ("Drift of structure", "结构漂移"),
        "0..2",
        0,  # motion counts too
        ("1 - SSIM of the last fifth to the first frame; motion counts too", "1 - 末五分之一与首帧的 SSIM；运动也计入"),
        "Wang et al., IEEE TIP 2004",
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
    ),
    Score(
        "sharpness_kept",
        ("Sharpness kept", "清晰度保持"),
        "ratio",
        +1,
        ("mean squared gradient of the last fifth over that of the first", "末五分之一与前五分之一的平均梯度平方之比"),
        "Tenengrad: Krotkov, IJCV 1987",
    ),
    Score(
        "cuts",
        ("Cuts", "镜头切换"),
        "number",
        -1,
        (
            "pairs of which flow explains under 35 %, 30 points more beside, and blocks change by 10 levels",
            "光流可解释不足 35%、相邻帧对高出 30 点、且块均值变化超过 10 级的帧对数",
        ),
        "this program; chosen on tests/evals/warps.py",
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
    ),
    Score(
        "colours",
        ("Colours named in the prompt", "提示词中的颜色"),
        "share",
        +1,
        ("share of the named colours that 1 % of the pixels have", "提示词所提颜色中，占 1% 以上像素的比例"),
        "this program, by bounds of hue; chosen on tests/evals/warps.py",
    ),
    Score(
        "brightness",
        ("Brightness named in the prompt", "提示词中的明暗"),
        "0 or 1",
        +1,
        ("1 where mean brightness is on the named side of 0.40", "平均亮度在所提一侧（以 0.40 为界）则为 1"),
        "this program; luma of BT.601",
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
    ),
    Score(
        "clip_text",
        ("Prompt and frames (CLIP)", "提示词与画面（CLIP）"),
        "0..100",
        +1,
        (
            "100 max(cosine of prompt and frame, 0), mean of 8 frames; English prompts alone",
            "100 max(提示词与画面的余弦, 0)，8 帧平均；仅限英文提示词",
        ),
        "CLIPScore, Hessel et al., EMNLP 2021, without its factor 2.5; the user's own CLIP",
    ),
    Score(
        "clip_frames",
        ("Consistency (CLIP)", "一致性（CLIP）"),
        "0..1",
        +1,
        (
            "mean cosine of frames to the first and to the one before, 8 frames; a frozen clip has 1",
            "8 帧与首帧、与前一帧余弦的平均；静止视频为 1",
        ),
        "VBench, background_consistency, on 8 frames; the user's own CLIP",
    ),
)
BY_KEY: dict[str, Score] = {score.key: score for score in SCORES}
