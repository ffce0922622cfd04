"""The procedural sounds by name, and how each becomes a stereo layer of a wanted length."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from studio.audio import ambience, events
from studio.audio.synthesis import Array, Random, band

Make = Callable[[float, Random], Array]


@dataclass(frozen=True)
class Sound:
    """make: seconds and a generator -> mono (samples,). wide: left and right are made apart, so that it surrounds."""

    make: Make
    english: str
    chinese: str
    wide: bool = False


SOUNDS: dict[str, Sound] = {
    "rain": Sound(ambience.rain, "rain", "雨声", wide=True),
    "wind": Sound(ambience.wind, "wind", "风声", wide=True),
    "water": Sound(ambience.water, "running water", "流水声", wide=True),
    "under_water": Sound(ambience.under_water, "under water", "水下", wide=True),
    "splash": Sound(events.splash, "splash", "溅水声"),
    "drips": Sound(events.drips, "dripping water", "滴水声"),
    "steps_stone": Sound(events.steps_stone, "steps on stone", "石板脚步声"),
    "steps_wood": Sound(events.steps_wood, "steps on wood", "木地板脚步声"),
    "steps_wet": Sound(events.steps_wet, "wet steps", "湿脚步声"),
    "room_hum": Sound(ambience.room_hum, "hum of a room", "室内低鸣", wide=True),
    "crowd": Sound(ambience.crowd, "murmur of people", "人群低语", wide=True),
    "birds": Sound(events.birds, "birds", "鸟鸣"),
    "engine": Sound(ambience.engine, "engine", "引擎声"),
    "heartbeat": Sound(ambience.heartbeat, "heartbeat", "心跳声"),
    "whoosh": Sound(ambience.whoosh, "whoosh", "呼啸声"),
}


def make_sound(name: str, seconds: float, seed: int) -> Array:
    """A procedural sound as stereo (samples, 2) float32. The same seed gives the same samples."""
    sound = SOUNDS[name]
    generators = [np.random.default_rng([seed, side]) for side in range(2 if sound.wide else 1)]
    sides = [band(sound.make(seconds, random), 20, None) for random in generators]
    return np.stack([sides[0], sides[-1]], 1).astype(np.float32)
