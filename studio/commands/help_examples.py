"""An example for each command, shown at the end of its --help."""

import argparse
from collections.abc import Mapping

from studio.settings import RANGES

EXAMPLES = {
    "": "--listen --port 8080",
    "generate": 'generate --prompt "A red circle moves to the right." --seed 7',
    "decode": "decode outputs/boat.latents.safetensors",
    "plan": "plan --model step-video-ti2v --vram 24 --num-frames 51",
    "check": "check --device cuda:0",
    "inspect": "inspect checkpoints/step-video-t2v",
    "download": "download step-video-t2v-turbo --source modelscope",
    "quantize": "quantize step-video-ti2v",
    "calibrate": "calibrate step-video-t2v --quick",
    "queue": "queue move 3f9a first",
    "key": "key new laptop",
    "chat": 'chat "a cat on a roof" --chat-url http://127.0.0.1:8000/v1',
    "voice": "voice tingting tingting.pt --speaker Tingting",
    "sound": 'sound outputs/boat.mp4 --say "Good morning"',
    "evaluate": "evaluate nano --recipe nano,nano-fast --to runs/first --limit 10",
    "compare": "compare runs/first:nano runs/first:nano-fast --to runs/report",
    "blind": "blind runs/first:nano runs/first:nano-fast --votes votes.jsonl",
    "cluster": "cluster start",
}


def add_examples(
    program: str, parser: argparse.ArgumentParser, commands: Mapping[str, argparse.ArgumentParser]
) -> argparse.ArgumentParser:
    """The parser, with an example under its help and that of each command."""
    for name, example in EXAMPLES.items():
        chosen = commands[name] if name else parser
        chosen.epilog = f"example: {program} {example}"
    return parser


CROP = "0.5, the middle; where the used part of the first image lies in its room"


def range_words(name: str) -> str:
    """The range of a setting and its default, for its flag."""
    low, high = RANGES[name]
    default = {"seed": "drawn by lot", "crop_left": CROP, "crop_top": CROP}.get(name, "the model's")
    return f"{low:g} to {high} (default: {default})"
