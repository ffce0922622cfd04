"""Procedural sounds of single things that happen: drops, steps, birds. Each: seconds and a generator -> (samples,)."""

import numpy as np

from studio.audio.synthesis import (
    RATE,
    Array,
    Random,
    add,
    band,
    clock,
    decay,
    noise,
    raised,
    ring,
    samples,
    sweep,
    times,
)

STEPS_PER_SECOND = 1.8


def splash(seconds: float, random: Random) -> Array:
    """Something falls into water at the beginning; drops fall back for two seconds."""
    track = np.zeros(samples(seconds))
    hit = band(noise(samples(1.4), random, 0.4), 250, 8000) * decay(1.4, 0.01)
    low = band(noise(samples(0.5), random, 1), 60, 400) * decay(0.5, 0.005)
    add(track, 0.02, hit)
    add(track, 0.02, 0.9 * low)
    for at in times(min(2.0, seconds), 40, random):
        start = random.uniform(500, 1800)
        fading = 10 ** (-0.9 * at)
        add(
            track, 0.1 + at, 0.5 * fading * random.exponential() * sweep(start, start * 1.6, random.uniform(0.02, 0.07))
        )
    return track


def drips(seconds: float, random: Random) -> Array:
    """Single drops into standing water, a faint echo behind each."""
    track = np.zeros(samples(seconds))
    for at in times(seconds, 1.3, random, even=0.5):
        start, loud = random.uniform(700, 1500), random.uniform(0.5, 1)
        drop = sweep(start, start * 2.1, random.uniform(0.05, 0.11))
        for delay, part in ((0, 1.0), (0.09, 0.18), (0.17, 0.08)):
            add(track, at + delay, loud * part * drop)
    return track


def _steps(seconds: float, random: Random, heel: Array, toe: Array) -> Array:
    """Steps of the same two feet: heel, then toe, each a little different."""
    track = np.zeros(samples(seconds))
    for at in times(seconds, STEPS_PER_SECOND, random, even=0.94):
        add(track, at, heel * random.uniform(0.8, 1.1))
        add(track, at + random.uniform(0.07, 0.1), toe * random.uniform(0.4, 0.6))
    return track


def steps_stone(seconds: float, random: Random) -> Array:
    """Hard soles on stone: a bright click with little body."""
    click = band(noise(samples(0.05), random), 2000, 9000) * decay(0.05, 0.0005)
    body = ring({1750: 0.5, 2900: 0.35, 4300: 0.2}, 0.07, random)
    heel = np.concatenate([click, np.zeros(len(body) - len(click))]) + body
    return _steps(seconds, random, heel, 0.8 * band(heel, 1500, None))


def steps_wood(seconds: float, random: Random) -> Array:
    """Steps on a hollow wooden floor: a low knock that rings."""
    knock = ring({105: 1.0, 190: 0.8, 330: 0.5, 560: 0.25}, 0.22, random)
    click = band(noise(samples(0.02), random), 800, 2500) * decay(0.02, 0.0005)
    knock[: len(click)] += 0.5 * click
    return _steps(seconds, random, knock, knock)


def steps_wet(seconds: float, random: Random) -> Array:
    """Bare feet on wet ground: a dull slap, then a suck and drops as the foot leaves."""
    track = np.zeros(samples(seconds))
    for at in times(seconds, STEPS_PER_SECOND, random, even=0.94):
        slap = band(noise(samples(0.09), random, 0.8), 200, 2600) * decay(0.09, 0.002)
        suck = band(noise(samples(0.12), random, 0.5), 900, 5000) * raised(samples(0.12)) ** 2
        add(track, at, slap * random.uniform(0.9, 1.2))
        add(track, at + 0.1, 0.4 * suck * random.uniform(0.6, 1.2))
        for _ in range(5):
            start = random.uniform(900, 2500)
            drop = sweep(start, start * 1.5, 0.03) * random.uniform(0.05, 0.3)
            add(track, at + random.uniform(0.1, 0.35), drop)
    return track


def birds(seconds: float, random: Random) -> Array:
    """Two birds that answer each other in short whistled phrases."""
    track = np.zeros(samples(seconds))
    for pitch in (3100.0, 4700.0):
        notes = random.uniform(0.85, 1.2, 4)
        for at in times(seconds, 0.8, random, even=0.4):
            for number in range(int(random.integers(3, 7))):
                length = random.uniform(0.06, 0.14)
                time, envelope = clock(samples(length)), raised(samples(length))
                bend = 1 + random.uniform(-0.15, 0.15) * np.sin(np.pi * time / length) + 0.02 * np.sin(200 * time)
                phase = 2 * np.pi * np.cumsum(pitch * notes[number % 4] * bend) / RATE
                add(track, at + number * 0.15, envelope * np.sin(phase) * random.uniform(0.6, 1))
    return track
