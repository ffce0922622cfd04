"""The seam between two clips: colours are brought to those of the clip before, its last frame is not shown twice."""

import numpy as np

from studio.pipeline.seam import Seam, colour_table


def test_a_clip_gets_the_colours_of_the_one_before() -> None:
    random = np.random.default_rng(0)
    before = random.integers(40, 200, (32, 48, 3), dtype=np.uint8)
    off = np.array([5.0, -7.0, 3.0])
    drifted = np.clip(np.rint((before - 120.0) * 0.95 + 120 + off), 0, 255).astype(np.uint8)
    clip = np.stack([drifted, drifted[::-1], drifted[:, ::-1]])
    seam = Seam(before, 17)
    shown = np.concatenate([seam(clip[:1]), seam(clip[1:])])
    assert len(shown) == 2, "the first frame was shown by the clip before"
    assert np.abs(shown[0][::-1].astype(int) - before).max() <= 2
    assert np.abs(clip[1].astype(int).mean((0, 1)) - before.mean((0, 1))).max() > 2 > 0.5
    assert np.abs(shown.mean((1, 2)) - before.mean((0, 1))).max() < 0.5
    assert len(Seam(before, 1)(clip[:1])) == 1, "a single frame stays"


def test_what_is_no_drift_is_left_alone() -> None:
    flat, other = np.full((8, 8, 3), 100, np.uint8), np.full((8, 8, 3), 220, np.uint8)
    assert np.ptp(colour_table(flat, other)[0] - np.arange(256).clip(0, 239)) <= 16
    assert colour_table(flat, other)[0][100] == 116, "no more than the most"
    assert (colour_table(flat, flat) == np.arange(256)).all()
