"""Procedural sounds: told apart by ears that know nothing of how they are made, decided by their seeds, in rooms."""

import ast

import numpy as np
from scipy import fft, signal

from studio.audio.rooms import ROOMS, in_room
from studio.audio.sounds import SOUNDS, make_sound
from studio.audio.synthesis import RATE, Array
from studio.config import ROOT
from tests.audio.clips import level_db

SECONDS = 2.5
MELS = 24


def features(wave: Array) -> Array:
    """What speech and music recognisers listen to: mel-cepstral means and spreads, how loudness moves, sparseness."""
    mono = wave.mean(1)
    mono = mono / np.sqrt((mono**2).mean())
    hertz, _, spectrum = signal.stft(mono, RATE, nperseg=1024, noverlap=512)
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 16000 / 700), MELS + 2) / 2595) - 1)
    bank = np.stack([np.interp(hertz, edges[k : k + 3], [0, 1, 0], 0, 0) for k in range(MELS)])
    mel = np.log(bank @ np.abs(spectrum) ** 2 + 1e-6)
    cepstra = fft.dct(mel, axis=0, norm="ortho")[:13]
    loudness = mel.mean(0)
    moving = np.abs(np.fft.rfft(loudness - loudness.mean())) ** 2
    rate = np.fft.rfftfreq(len(loudness), 512 / RATE)
    bands = [moving[(rate >= low) & (rate < high)].sum() for low, high in ((0.3, 1.5), (1.5, 4), (4, 10), (10, 40))]
    crossings = float((np.diff(np.sign(mono)) != 0).mean())
    crest = float(np.log(np.abs(mono).max()))
    return np.concatenate([cepstra.mean(1), cepstra.std(1), np.log(np.array(bands) + 1e-6), [crossings * 10, crest]])


def test_each_sound_is_told_from_the_others_by_its_nearest_neighbour() -> None:
    known, asked = ([(name, features(make_sound(name, SECONDS, seed))) for name in SOUNDS] for seed in (1, 20261125))
    scale = np.std([vector for _, vector in known], 0)
    wrong = []
    for name, vector in asked:
        distances = {other: float(np.linalg.norm((vector - known_one) / scale)) for other, known_one in known}
        nearest = min(distances, key=distances.__getitem__)
        if nearest != name:
            wrong.append(f"{name} sounds like {nearest}: {distances[name]:.2f} against {distances[nearest]:.2f}")
    assert len(known) == 15 and not wrong, "\n".join(wrong)


def test_the_seed_decides_a_sound_that_is_short_whole_and_soundly_made() -> None:
    wrong = []
    for name in SOUNDS:
        first, again, other = (make_sound(name, 1.0, seed) for seed in (3, 3, 4))
        if first.shape != (RATE, 2) or first.dtype != np.float32 or not np.isfinite(first).all():
            wrong.append(f"{name}: {first.shape} {first.dtype}")
        if not np.array_equal(first, again) or np.array_equal(first, other):
            wrong.append(f"{name}: the seed does not decide")
        if np.abs(first).max() < 0.01 or abs(float(first.mean())) > 0.01 * np.abs(first).max():
            wrong.append(f"{name}: silent, or not around zero")
        if SOUNDS[name].wide == np.array_equal(first[:, 0], first[:, 1]):
            wrong.append(f"{name}: left and right")
        for seconds in (0.02, 0.2):
            if make_sound(name, seconds, 1).shape != (round(seconds * RATE), 2):
                wrong.append(f"{name}: {seconds} s")
    for room in ("ambience", "events"):
        tree = ast.parse((ROOT / "studio" / "audio" / f"{room}.py").read_text(encoding="utf-8"))
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        wrong += [f"{node.name}: 40 lines" for node in functions if (node.end_lineno or 0) - node.lineno >= 39]
    assert not wrong, "\n".join(wrong)


def test_rooms_ring_and_filter_as_they_are_named() -> None:
    click = np.zeros((3 * RATE, 2), np.float32)
    click[100] = 1
    heard = {name: in_room(click, name) for name in ROOMS}
    assert np.array_equal(heard["dry"], click) and all(len(wave) == len(click) for wave in heard.values())

    def ringing(name: str) -> float:
        """Seconds until all but a millionth of the energy has come (-60 dB)."""
        energy = (heard[name].astype(np.float64) ** 2).sum(1)
        rest = 1 - np.cumsum(energy) / energy.sum()
        return float(np.argmax(rest < 1e-6)) / RATE

    assert ringing("dry") < 0.01 < 0.1 < ringing("room") < 0.6 < ringing("hall") < 2.5
    hiss = np.random.default_rng(1).standard_normal((RATE, 2)).astype(np.float32)
    power = np.abs(np.fft.rfft(in_room(hiss, "under_water")[:, 0])) ** 2  # bins of 1 Hz
    assert 10 * np.log10(power[1500:].mean() / power[50:300].mean()) < -40
    left, right = heard["hall"][RATE:, 0], heard["hall"][RATE:, 1]
    assert abs(np.corrcoef(left, right)[0, 1]) < 0.1 and level_db(heard["hall"][RATE:]) > -120
