"""Sets of layers to begin with, for a clip of any length."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from studio.audio.track import Layer

FADE = 0.3  # seconds


@dataclass(frozen=True)
class Preset:
    """layers: their times are parts of the clip, 0 to 1."""

    english: str
    chinese: str
    layers: Sequence[Layer]

    def of(self, seconds: float) -> list[dict[str, Any]]:
        """The layers for a clip of that length, as plain data."""
        fade = min(FADE, seconds / 4)
        placed = (replace(one, start=one.start * seconds, end=one.end * seconds) for one in self.layers)
        return [asdict(replace(one, fade_in=fade, fade_out=fade)) for one in placed]


PRESETS: dict[str, Preset] = {
    "rain": Preset("Rainy day", "雨天", (Layer("rain", 0, 1, -6), Layer("drips", 0, 1, -14, room="outdoors"))),
    "forest": Preset("Forest", "森林", (Layer("wind", 0, 1, -14), Layer("birds", 0, 1, -8, room="outdoors"))),
    "pool": Preset(
        "Pool: dive, climb out, go inside",
        "泳池：潜水、上岸、进屋",
        (
            Layer("under_water", 0, 0.2, -6),
            Layer("splash", 0.2, 0.4, room="hall"),
            Layer("steps_wet", 0.4, 0.8, -3, room="hall"),
            Layer("room_hum", 0.8, 1, -12),
        ),
    ),
    "street": Preset(
        "Street",
        "街道",
        (Layer("crowd", 0, 1, -12, room="outdoors"), Layer("engine", 0, 1, -16), Layer("steps_stone", 0, 1, -8)),
    ),
    "river": Preset("River", "河流", (Layer("water", 0, 1, -6), Layer("birds", 0, 1, -14, room="outdoors"))),
    "tension": Preset(
        "Tension", "紧张", (Layer("room_hum", 0, 1, -12, room="hall"), Layer("heartbeat", 0, 1, -6, room="room"))
    ),
}
