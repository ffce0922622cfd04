"""What --help tells of each command beside its flags: what it does, an example at its end; and of each setting."""

import argparse
import os
import sys
from typing import Any

from studio.settings import RANGES

ONE_JOB = (
    "pause resume skip finish decode whole remake star unstar remove stop".split()  # acts of the queue
)
WHOLE_QUEUE = "undo sharp rough pause-all go-on stop-all".split()
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
    "queue list": "queue list --all",
    "queue move": "queue move 3f9a before 77c0",
    "queue extend": 'queue extend 3f9a 2 --prompt "It starts to rain."',
    "queue join": "queue join 3f9a --frames 1-40",
    "queue copy": "queue copy 3f9a 4",
    "queue tag": 'queue tag 3f9a boats "to keep"',
    **{f"queue {act}": f"queue {act} 3f9a" for act in ONE_JOB},
    **{f"queue {act}": f"queue {act}" for act in WHOLE_QUEUE},
    "key": "key new laptop",
    "key new": "key new laptop --scope read",
    "key list": "key list",
    "key revoke": "key revoke laptop",
    "chat": 'chat "a cat on a roof" --chat-url http://127.0.0.1:8000/v1',
    "voice": "voice tingting tingting.pt --speaker Tingting",
    "sound": 'sound outputs/boat.mp4 --say "Good morning"',
    "evaluate": "evaluate nano --recipe nano,nano-fast --to runs/first --limit 10",
    "compare": "compare runs/first:nano runs/first:nano-fast --to runs/report",
    "blind": "blind runs/first:nano runs/first:nano-fast --votes votes.jsonl",
    "cluster": "cluster start",
    "cluster start": "cluster start --gpus 2",
    "cluster join": "cluster join 192.0.2.7:6379",
}


class ExampleParser(argparse.ArgumentParser):
    """A parser of a command, whose help ends with an example of it; so are those of the commands in it."""

    def __init__(self, *, prog: str, **options: Any) -> None:
        super().__init__(prog=prog, **options)
        if example := EXAMPLES.get(prog.removeprefix(program()).strip()):
            self.epilog = f"example: {program()} {example}"


def program() -> str:
    """How this program was called: "app.py", or the installed command; `python -m studio` has a file's name for it."""
    name = os.path.basename(sys.argv[0])
    return "python -m studio" if name == "__main__.py" else name


def told(words: str) -> dict[str, Any]:
    """What a command does, for the list of commands and for its own help."""
    return {"help": words, "description": f"{words[:1].upper()}{words[1:]}."}


ROOM = "where the used part of the first image lies in its room"
MEANING = {
    "motion_score": "how much moves in a video from a picture",
    "infer_steps": "steps of the sampler: more are slower and finer",
    "cfg_scale": "how strictly the prompt is followed",
    "time_shift": "how many of the steps go to the early, noisy part",
    "num_frames": "length, at 25 frames a second",
    "height": "of the picture, in pixels",
    "width": "of the picture, in pixels",
    "seed": "the same one gives the same video",
    "crop_left": f"{ROOM}, from its left",
    "crop_top": f"{ROOM}, from its top",
}
DEFAULTS = {"seed": "drawn by lot", "crop_left": "0.5, the middle", "crop_top": "0.5, the middle"}


def range_words(name: str) -> str:
    """What a setting is, its range and its default, for its flag."""
    low, high = (f"{end:g}" if isinstance(end, float) else str(end) for end in RANGES[name])
    default = DEFAULTS.get(name, "the model's")
    return f"{MEANING[name]}; {low} to {high} (default: {default})"
