"""Where a layer sounds: a filter and a short reverb. The sound keeps its length; what rings on behind it is cut."""

from dataclasses import dataclass

import numpy as np
from scipy import signal

from studio.audio.synthesis import RATE, Array, band, samples


@dataclass(frozen=True)
class Room:
    """low, high: Hz that the room lets through; reverb: seconds until it has fallen by 60 dB; wet: its level against
    the direct sound; delay: seconds before it begins; dull: Hz above which the reverb is damped."""

    english: str
    chinese: str
    low: float | None = None
    high: float | None = None
    reverb: float = 0.0
    wet: float = 0.0
    delay: float = 0.0
    dull: float = 6000.0


ROOMS: dict[str, Room] = {
    "dry": Room("dry", "无混响"),
    "room": Room("room", "房间", reverb=0.4, wet=0.35, delay=0.004),
    "hall": Room("hall", "大厅", reverb=1.8, wet=0.6, delay=0.02, dull=4500),
    "outdoors": Room("outdoors", "室外", low=90, high=9000, reverb=0.25, wet=0.08, delay=0.06),
    "under_water": Room("under water", "水下", high=450, reverb=0.7, wet=0.5, delay=0.003, dull=400),
}


def in_room(wave: Array, name: str) -> Array:
    """Stereo (samples, 2) float32 as it sounds in the room."""
    room = ROOMS[name]
    if room.low or room.high:
        wave = band(wave, room.low, room.high, 4)
    if room.wet:
        wave = wave + room.wet * signal.oaconvolve(wave, _impulse(room), axes=0)[: len(wave)]
    return wave.astype(np.float32)


def _impulse(room: Room) -> Array:
    """Two channels of decaying noise with energy 1; always the same, as a room is."""
    tail = np.random.default_rng(20261125).standard_normal((samples(room.reverb), 2))
    fall = 10 ** (-3 * np.arange(len(tail)) / (room.reverb * RATE))
    tail = band(tail * fall[:, None], 60, room.dull)
    tail /= np.sqrt((tail**2).sum(0))
    return np.concatenate([np.zeros((samples(room.delay), 2)), tail])
