"""Procedural sounds that go on: weather, water, machines, people. Each: seconds and a generator -> mono (samples,)."""

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
    samples,
    sweep,
    times,
    wander,
)


def rain(seconds: float, random: Random) -> Array:
    """A hiss of far drops with near ones in front."""
    count = samples(seconds)
    track = band(noise(count, random, 0.5), 800, 10_000) * wander(count, random, 0.7, 0.8, 1.0)
    drops, kinds = np.zeros(count), []
    for _ in range(48):
        length = random.uniform(0.006, 0.02)
        near = band(random.standard_normal(samples(length)), *random.uniform((1500, 5000), (3000, 9000)))
        kinds.append(near * decay(length, 0.0005)[: len(near)])
    for at in times(seconds, 90, random):
        add(drops, at, kinds[random.integers(len(kinds))] * random.exponential(0.8))
    return track + 1.2 * drops


def wind(seconds: float, random: Random) -> Array:
    """Gusts: bands of noise that swell one after the other."""
    count = samples(seconds)
    gust = wander(count, random, 0.6, 0.15, 1.0)
    track = 0.15 * band(noise(count, random, 1), 60, 300)
    for low, high in ((200, 290), (330, 480), (560, 800), (900, 1400)):
        howl = band(noise(count, random), low, high) * wander(count, random, 1.2, 0.1, 1.0)
        track += howl * gust ** (0.6 + low / 500)
    return track * (0.3 + gust)


def water(seconds: float, random: Random) -> Array:
    """A brook: bubbles of rising pitch over a soft rush."""
    count = samples(seconds)
    track = 0.25 * band(noise(count, random, 1), 300, 3500) * wander(count, random, 2, 0.6, 1.0)
    for at in times(seconds, 45, random):
        low = random.uniform(350, 1300)
        add(track, at, sweep(low, low * random.uniform(1.2, 1.9), random.uniform(0.03, 0.12)) * random.exponential(0.5))
    return track


def under_water(seconds: float, random: Random) -> Array:
    """A dull rumble, slow pressure, and strings of bubbles now and then."""
    count = samples(seconds)
    track = band(noise(count, random, 2), 30, 220) * wander(count, random, 0.5, 0.6, 1.0)
    for at in times(seconds, 0.9, random, even=0.5):
        for number in range(int(random.integers(4, 12))):
            low = random.uniform(180, 420)
            bubble = sweep(low, low * 1.5, random.uniform(0.06, 0.16))
            add(track, at + number * random.uniform(0.04, 0.09), bubble * random.uniform(0.5, 1.3))
    return band(track, None, 700, 4)


def room_hum(seconds: float, random: Random) -> Array:
    """A quiet indoor room: mains hum and its harmonics, air from a vent."""
    count = samples(seconds)
    time, track = clock(count), 0.5 * band(noise(count, random, 1.2), 60, 900)
    for number, amplitude in enumerate((0.5, 1.0, 0.35, 0.5, 0.2, 0.3), start=1):
        track += amplitude * np.sin(2 * np.pi * 50 * number * time + random.uniform(0, 2 * np.pi))
    return track * wander(count, random, 0.3, 0.92, 1.0)


def crowd(seconds: float, random: Random) -> Array:
    """Many voices in no language: pulses at the pitch of voices, through vowels that change, in syllables."""
    count = samples(seconds)
    track = 0.15 * band(noise(count, random, 1), 200, 2500)
    for _ in range(10):
        pitch = random.choice((110, 200)) * random.uniform(0.8, 1.2) * wander(count, random, 2, 0.85, 1.15)
        pulses = 2 * (np.cumsum(pitch) / RATE % 1) - 1
        vowel = sum(
            band(pulses, center * 0.85, center * 1.18) * wander(count, random, 3, 0.1, 1)
            for center in random.uniform((350, 900), (800, 2200))
        )
        syllables = wander(count, random, random.uniform(4, 7), -0.5, 1).clip(0) * wander(count, random, 0.6, 0.2, 1)
        track += vowel * syllables
    return band(track, 150, 3500)


def engine(seconds: float, random: Random) -> Array:
    """A motor at idle: uneven firing, its body's resonance, a rattle that beats with it."""
    count = samples(seconds)
    firing = np.cumsum(27 * wander(count, random, 1.5, 0.96, 1.04)) / RATE
    stroke = np.exp(-6 * (firing % 1)) * (0.8 + 0.2 * np.sin(np.pi * np.floor(firing)))
    uneven = random.uniform(0.7, 1.0, int(firing[-1]) + 2)[firing.astype(int)]
    body = band(stroke * uneven, 30, 180) * 3 + band(stroke * uneven, 180, 500)
    rattle = band(noise(count, random, 0.5), 700, 2500) * stroke * uneven
    return body + 0.25 * rattle


def heartbeat(seconds: float, random: Random) -> Array:
    """Two dull beats, a pause: about 66 a minute."""
    track = np.zeros(samples(seconds))
    at = 0.1
    while at < seconds:
        for delay, start, loud in ((0.0, 75, 1.0), (0.3, 95, 0.65)):
            add(track, at + delay, loud * random.uniform(0.9, 1.1) * sweep(start, start / 2, 0.25))
        at += random.normal(0.91, 0.015)
    return band(track, 25, 160)


def whoosh(seconds: float, random: Random) -> Array:
    """One pass of something fast: noise whose colour rises and falls, at most 1.6 seconds."""
    track = np.zeros(samples(seconds))
    count = min(len(track), samples(1.6))
    hiss, swell = noise(count, random, 0.6), raised(count)
    piece = np.zeros(count)
    for number, low in enumerate((200, 500, 1200, 2800)):
        piece += band(hiss, low, low * 2.4) * swell ** (1.5 + 1.2 * number)
    add(track, 0, piece)
    return track
