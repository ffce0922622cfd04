"""Levels, loops, pan, ducking, loudness and limiter, measured by ffmpeg or sample by sample."""

import numpy as np

from studio.audio.ffmpeg import measure
from studio.audio.mix import (
    DUCK_ATTACK,
    DUCK_RELEASE,
    Spoken,
    faded,
    layer_wave,
    levelled,
    line_wave,
    looped,
    mastered,
    mix,
    panned,
)
from studio.audio.soundtrack import CEILING
from studio.audio.synthesis import RATE, Array
from studio.audio.track import Layer, VoiceLine
from tests.audio.clips import level_db, tone


def jump(wave: Array) -> float:
    """The largest bend between neighbouring samples: a click is one."""
    return float(np.abs(np.diff(wave, 2, axis=0)).max())


def test_loops_pan_and_fades_are_heard_as_asked_without_clicks() -> None:
    piece = tone(0.7131, 333.3)  # its end and its beginning do not meet
    long = looped(piece, 5 * RATE)
    assert long.shape == (5 * RATE, 2) and np.array_equal(long[: RATE // 3], piece[: RATE // 3])
    assert jump(np.concatenate([piece, piece])) > 20 * jump(piece) and jump(long) < 1.1 * jump(piece)
    levels = [level_db(long[at : at + RATE // 10]) for at in range(0, 4 * RATE, RATE // 10)]
    assert max(levels) - min(levels) < 6, "no hole at a joint"
    assert looped(piece[:5], 100).shape == (100, 2) and np.array_equal(looped(piece, 50), piece[:50])

    left, right = (level_db(panned(tone(1), -0.7)[:, side]) for side in (0, 1))
    assert left > right + 6 and np.array_equal(panned(piece, 0), piece)
    for pan in (-1, -0.5, 0.3, 1):
        assert abs(level_db(panned(tone(1), pan)) - level_db(tone(1))) < 0.6, pan
    assert abs(panned(tone(1), 1)[:, 0]).max() < 1e-6

    short = faded(tone(2), 0.5, 1.0)
    assert short[0, 0] == 0 and abs(short[-1]).max() == 0 and jump(short) < 1.1 * jump(tone(2))
    assert abs(level_db(short[int(1.45 * RATE) : int(1.55 * RATE)]) - level_db(tone(2)) + 6) < 0.5
    assert faded(tone(0.001), 5, 5).shape == tone(0.001).shape


def test_layers_sink_while_someone_speaks_and_come_back() -> None:
    speech = np.random.default_rng(1).standard_normal(RATE).astype(np.float32) * 0
    one, two = (Spoken(VoiceLine("x", start), np.repeat(speech[:, None], 2, 1)) for start in (2.0, 3.3))
    track = mix([two, one], [(0.0, tone(8))], 8 * RATE, 9.0)
    assert track.shape == (8 * RATE, 2)
    usual = level_db(tone(1))
    for second, depth in ((0.5, 0), (1.7, 0), (2.5, -9), (3.15, -9), (4.0, -9), (5.0, 0), (7.5, 0)):
        found = level_db(track[int(second * RATE) : int((second + 0.05) * RATE)]) - usual
        assert abs(found - depth) < 0.2, (second, found)
    ramp = (
        track[int((2 - DUCK_ATTACK) * RATE) : int(2.0 * RATE)],
        track[int(4.3 * RATE) : int((4.3 + DUCK_RELEASE) * RATE)],
    )
    assert all(jump(part) < 1.1 * jump(tone(1)) for part in ramp)
    assert np.array_equal(mix([], [(0.0, tone(8))], 8 * RATE, 9.0), tone(8)), "nobody speaks"
    cut = mix([Spoken(VoiceLine("x", 0.5), tone(2))], [(3.0, tone(1))], RATE, 9.0)
    assert not cut[: RATE // 2].any() and abs(cut[-1]).max() < 1e-3, "cut at the end, without a click"


def test_the_track_reaches_its_loudness_or_its_peaks_stop_it() -> None:
    """Continuous sounds within 1 LU of -16; sparse ones as loud as peaks of -1.5 dB let them be; silence stays so."""
    for name in ("rain", "engine"):
        layer = layer_wave(Layer(name, 0, 3, gain_db=-20), 1, None)
        assert abs(measure(layer).momentary - (-34)) < 1.5, "a layer at -20 dB is 20 dB below the level of speech"
        loud, found = mastered(layer, CEILING)
        gained = level_db(loud) - level_db(layer)
        assert gained < 12.1 and (abs(found.integrated + 16) < 1 or gained > 11.5), (name, found)
    loud, found = mastered(layer_wave(Layer("rain", 0, 3), 1, None), CEILING)
    assert abs(found.integrated + 16) < 1 and np.abs(loud).max() <= 0.8415
    ticks = np.zeros((4 * RATE, 2), np.float32)
    ticks[:: RATE // 2] = 0.9
    loud, found = mastered(ticks, CEILING)
    assert np.abs(loud).max() <= 0.8415 and found.integrated < -20
    quiet = np.zeros((RATE, 2), np.float32)
    assert not mastered(quiet, CEILING)[0].any() and not levelled(quiet).any()
    spoken = line_wave(VoiceLine("x", pan=-1), tone(1)[:, 0])
    assert spoken.shape == (RATE, 2) and abs(spoken[:, 1]).max() < 1e-6
