"""Lines and layers become one stereo wave: levels, loops, pan, fades, ducking, loudness, a limiter. Pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage, signal

from studio.audio.ffmpeg import Loudness, measure
from studio.audio.rooms import in_room
from studio.audio.sounds import make_sound
from studio.audio.synthesis import RATE, Array, samples
from studio.audio.track import Layer, VoiceLine

LEVEL = -14.0  # LUFS of the loudest 400 ms of a line or layer at 0 dB
PEAK = -3.0  # dB of full scale that no line or layer alone goes over at 0 dB
TARGET = -16.0  # LUFS of the finished track
MOST_GAIN = 12.0  # dB that the finished track is raised at most
MOST_LIMITED = 6.0  # dB that the limiter takes off a peak at most, so that sharp sounds stay sharp
LOOP_FADE = 0.25  # seconds, or a quarter of a short file
DUCK_ATTACK, DUCK_RELEASE = 0.2, 0.5  # seconds before a line and after it
EDGE = 0.005  # seconds: what is cut is faded at least as long, against clicks


@dataclass(frozen=True)
class Spoken:
    """A line with its sound: wave (samples, 2) float32, starting at line.start."""

    line: VoiceLine
    wave: Array

    @property
    def end(self) -> float:
        """Seconds at which it has been said."""
        return self.line.start + len(self.wave) / RATE


def decibels(value: float) -> float:
    """dB -> factor."""
    return float(10 ** (value / 20))


def levelled(wave: Array) -> Array:
    """The wave at the level that 0 dB means: LEVEL in its loudest 400 ms, or what PEAK and the limiter allow."""
    found = measure(wave)
    if found.silent:
        return wave
    gain = min(LEVEL - found.momentary, PEAK + MOST_LIMITED - found.true_peak)
    return limited(wave * np.float32(decibels(gain)), decibels(PEAK))


def looped(wave: Array, count: int) -> Array:
    """A wave (n, 2) repeated until it has `count` samples; its end fades into its beginning with equal power."""
    if len(wave) >= count:
        return wave[:count]
    fade = min(samples(LOOP_FADE), len(wave) // 4)
    if fade < 2:
        return np.resize(wave, (count, 2))
    turn = np.linspace(0, np.pi / 2, fade, dtype=np.float32)[:, None]
    joint = wave[-fade:] * np.cos(turn) + wave[:fade] * np.sin(turn)
    again = np.concatenate([wave[fade:-fade], joint])
    repeats = -(-(count - len(wave) + fade) // len(again))
    return np.concatenate([wave[:-fade], joint, *[again] * repeats])[:count]


def panned(wave: Array, pan: float) -> Array:
    """Move stereo (n, 2) to -1 (left alone) .. 1 (right alone) with constant power; 0 changes nothing."""
    if pan == 0:
        return wave
    middle, angle = wave.mean(1), (pan + 1) * np.pi / 4
    spread = wave * np.float32(1 - abs(pan))
    placed = np.stack([middle * np.cos(angle), middle * np.sin(angle)], 1) * np.float32(np.sqrt(2) * abs(pan))
    return (spread + placed).astype(np.float32)


def faded(wave: Array, fade_in: float, fade_out: float) -> Array:
    """Linear fades in seconds at both ends, each at least EDGE and at most the whole wave."""
    curve = np.ones(len(wave), np.float32)
    for seconds, part in ((fade_in, curve), (fade_out, curve[::-1])):
        count = min(samples(max(seconds, EDGE)), len(wave))
        part[:count] *= np.linspace(0, 1, count, dtype=np.float32)
    return wave * curve[:, None]


def layer_wave(layer: Layer, seed: int, recording: Array | None) -> Array:
    """A layer as it sounds from its start on: (samples, 2) float32. recording: its file's sound, or None."""
    count = samples(layer.end - layer.start)
    if recording is None:
        wave = make_sound(layer.sound, layer.end - layer.start, seed)
    else:
        wave = looped(recording, count) if layer.loop else recording[:count]
    wave = levelled(in_room(wave, layer.room)) * np.float32(decibels(layer.gain_db))
    return faded(panned(wave, layer.pan), layer.fade_in, layer.fade_out)


def line_wave(line: VoiceLine, speech: Array) -> Array:
    """Mono speech (samples,) at RATE as it sounds in the track: (samples, 2) float32."""
    wave = np.repeat(speech[:, None], 2, 1).astype(np.float32)
    return faded(panned(levelled(wave) * np.float32(decibels(line.gain_db)), line.pan), 0, 0)


def ducking(count: int, spoken: Sequence[Spoken], depth_db: float) -> Array:
    """The layers' gain (count, 1) float32: lowered by depth_db while someone speaks, with ramps around it."""
    times, gains = [-1.0], [0.0]
    for one in sorted(spoken, key=lambda one: one.line.start):
        first, last = one.line.start, one.end
        if times[-1] > first - DUCK_ATTACK:  # the last ramp up is not over: stay down between the two
            times, gains = times[:-1], gains[:-1]
            last = max(last, times[-1])
        else:
            times, gains = [*times, first - DUCK_ATTACK], [*gains, 0.0]
        times, gains = [*times, max(first, times[-1]), last, last + DUCK_RELEASE], [*gains, -depth_db, -depth_db, 0.0]
    curve = np.interp(np.arange(count) / RATE, times, gains)
    return (10 ** (curve / 20)).astype(np.float32)[:, None]


def mix(spoken: Sequence[Spoken], layers: Sequence[tuple[float, Array]], count: int, depth_db: float) -> Array:
    """Lines and layers (start in seconds, wave) summed to (count, 2) float32; what lies behind the end is cut."""
    under = np.zeros((count, 2), np.float32)
    for start, wave in layers:
        _place(under, start, wave)
    if spoken and layers:
        under *= ducking(count, spoken, depth_db)
    for one in spoken:
        _place(under, one.line.start, one.wave)
    return under


def _place(track: Array, start: float, wave: Array) -> None:
    first = samples(start)
    room = max(0, len(track) - first)
    if len(wave) > room:
        wave = faded(wave[:room], 0, EDGE) if room else wave[:0]
    track[first : first + len(wave)] += wave


def limited(wave: Array, ceiling: float) -> Array:
    """Peaks above `ceiling` (a factor) turned down, 3 ms ahead and smoothly, as loud passages by hand."""
    peaks = np.abs(wave).max(1)
    if float(peaks.max(initial=0)) <= ceiling:
        return wave
    reach = samples(0.003)
    gain = np.minimum(1, ceiling / np.maximum(peaks, 1e-9))
    gain = ndimage.minimum_filter1d(gain, 2 * reach + 1)
    window = signal.windows.hann(2 * reach + 1)
    gain = ndimage.convolve1d(gain, window / window.sum(), mode="nearest")
    return wave * gain.astype(np.float32)[:, None]


def mastered(wave: Array, ceiling_db: float) -> tuple[Array, Loudness]:
    """The track at TARGET, as far as MOST_GAIN, MOST_LIMITED and ceiling_db allow; and its loudness."""
    before = measure(wave)
    if before.silent:
        return wave, before
    sharpest = 20 * np.log10(float(np.abs(wave).max()))
    most = min(MOST_GAIN, ceiling_db + MOST_LIMITED - sharpest)
    gain = min(TARGET - before.integrated, most)
    for _ in range(3):
        loud = limited(wave * np.float32(decibels(gain)), decibels(ceiling_db))
        found = measure(loud)
        missing = min(TARGET - found.integrated, most - gain)
        if abs(missing) < 0.1:
            break
        gain += missing
    return loud, found
