"""`plan --model step-audio-tts`: would the voices of a speech model fit a card, and how."""

import argparse
import json
from typing import Any

from studio.commands.machine import card_options, studio_config
from studio.errors import InputError
from studio.pipeline.speech_estimate import estimate_speech

_OF_VIDEOS = ("num_frames", "height", "width", "gpus", "tflops", "peer_gbps")


def run(options: argparse.Namespace) -> int:
    """Print the plan; 1 when nothing fits. Raises InputError for a flag that has no meaning for speech."""
    if given := [name for name in _OF_VIDEOS if getattr(options, name, None) is not None]:
        raise InputError("plan_speech_flags", flags=", ".join(f"--{name.replace('_', '-')}" for name in given))
    speeds = {name: getattr(options, name) for name in ("link_gbps", "disk_gbps")}
    made = estimate_speech(options.model, studio_config(options), card_options(options), speeds)
    data = made.summary()
    print(json.dumps(data, ensure_ascii=False) if options.json else "\n".join(_lines(options.model, data)))
    return 0 if data["fits"] else 1


def _lines(name: str, data: dict[str, Any]) -> list[str]:
    line = f"{name}, a line of up to a minute"
    if not data["fits"]:
        return [f"{line}: does not fit.", data["reason"]["en"]]
    sources = ", ".join(f"{count} {source}" for source, count in data["sources"].items())
    return [
        f"{line}: fits.",
        f"  VRAM at most     {data['vram_peak_gb']:8.1f} GB",
        f"  RAM at most      {data['ram_peak_gb']:8.1f} GB",
        f"  layers           {sources}; {data['slots']} slots",
        f"  reading weights  {data['reading_seconds_per_second']:8.1f} seconds per second of speech",
        "  Computing comes on top; neither was measured with real weights.",
        f"  assuming         {', '.join(f'{key} {value:.3g}' for key, value in data['assumptions'].items())}",
    ]
