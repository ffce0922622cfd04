"""Parts that procedural sounds are made of: noise, filters, slow curves, decays, events in time. Mono, float64."""

from collections.abc import Iterator

import numpy as np
from scipy import signal

RATE = 48_000  # samples per second of everything that is mixed
Array = np.ndarray
Random = np.random.Generator


def samples(seconds: float) -> int:
    """The number of samples nearest to a duration."""
    return round(seconds * RATE)


def resampled(wave: Array, rate: int) -> Array:
    """Mono (n,) at a rate -> float32 at RATE."""
    return signal.resample_poly(wave, RATE, rate).astype(np.float32)


def clock(count: int) -> Array:
    """Times of samples in seconds (count,)."""
    return np.arange(count) / RATE


def noise(count: int, random: Random, slope: float = 0.0) -> Array:
    """Gaussian noise of RMS 1 whose power falls with frequency**slope: 0 white, 1 pink, 2 brown (above 20 Hz)."""
    spectrum = np.fft.rfft(random.standard_normal(count))
    frequency = np.maximum(np.fft.rfftfreq(count, 1 / RATE), 20)
    wave = np.fft.irfft(spectrum * frequency ** (-slope / 2), count)
    return wave / max(float(np.sqrt(np.mean(wave**2))), 1e-12)


def band(wave: Array, low: float | None, high: float | None, order: int = 2) -> Array:
    """Butterworth filter that keeps low..high Hz; None leaves that side open. Filters along the first axis."""
    kind = "lowpass" if low is None else "highpass" if high is None else "bandpass"
    edges = [edge for edge in (low, high) if edge is not None]
    sections = signal.butter(order, edges if len(edges) == 2 else edges[0], kind, fs=RATE, output="sos")
    return signal.sosfilt(sections, wave, axis=0)


def wander(count: int, random: Random, hertz: float, low: float, high: float) -> Array:
    """A slow random curve (count,) between low and high that changes about `hertz` times a second."""
    points = random.uniform(low, high, int(count / RATE * hertz) + 3)
    places = np.arange(count) * (hertz / RATE)
    whole = places.astype(int)
    part = (1 - np.cos(np.pi * (places - whole))) / 2
    return points[whole] * (1 - part) + points[whole + 1] * part


def decay(seconds: float, attack: float = 0.002) -> Array:
    """An envelope that rises within `attack` seconds and then falls by 60 dB within `seconds`."""
    time = clock(samples(seconds))
    return np.minimum(time / attack, 1) * 10 ** (-3 * time / seconds)


def ring(frequencies: dict[float, float], seconds: float, random: Random) -> Array:
    """Decaying sines, {Hz: amplitude}, each a little out of tune: what a struck body does."""
    envelope = decay(seconds)
    time, wave = clock(len(envelope)), np.zeros(len(envelope))
    for hertz, amplitude in frequencies.items():
        tuned = hertz * random.uniform(0.95, 1.05)
        wave += amplitude * np.sin(2 * np.pi * tuned * time + random.uniform(0, 2 * np.pi))
    return wave * envelope


def sweep(start: float, end: float, seconds: float) -> Array:
    """A sine whose frequency goes from start to end Hz, with a decay over it."""
    envelope = decay(seconds)
    frequency = np.geomspace(start, end, len(envelope))
    return np.sin(2 * np.pi * np.cumsum(frequency) / RATE) * envelope


def add(track: Array, at: float, piece: Array) -> None:
    """Add a piece to the track from `at` seconds on; what would lie behind the track's end is left out."""
    first = samples(at)
    if 0 <= first < len(track):
        part = piece[: len(track) - first]
        track[first : first + len(part)] += part


def times(seconds: float, per_second: float, random: Random, *, even: float = 0.0) -> Iterator[float]:
    """Random times of events from a first one on; even: 0 as rain drops fall, 1 as a clock ticks."""
    pause = 1 / per_second
    at = random.uniform(0.02, 0.3) * min(pause, 1)
    while at < seconds:
        yield at
        at += pause * (even + (1 - even) * random.exponential()) if even < 1 else pause


def raised(count: int) -> Array:
    """A Hann window (count,): a swell from silence to silence."""
    return signal.windows.hann(count, sym=True)
