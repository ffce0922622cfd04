"""The flags of `sound`, and of `voice` for the voices that it may use."""

import argparse
from pathlib import Path
from typing import Any

from studio.commands.help_examples import told


def sound_commands(commands: Any, machine: argparse.ArgumentParser) -> None:
    """`sound`, and `voice` for the voices that it may use."""
    _sound_flags(commands.add_parser("sound", **told("add, change or take away a video's sound"), parents=[machine]))
    voice = commands.add_parser("voice", **told("keep a voice that Step-Audio's own code prepared"), parents=[machine])
    voice.add_argument("name", help="what the voice is called here, for sound --voice NAME")
    voice.add_argument("file", type=Path, metavar="FILE.pt", help="tts.speakers_info[...] as torch.save wrote it")
    voice.add_argument(
        "--speaker", help="the name under which the language model learned it, as Tingting (default: none)"
    )
    voice.add_argument("--overwrite", action="store_true", help="replace a voice of this name")


def _sound_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("clip", type=Path, metavar="CLIP.mp4", help="a video of this program")
    parser.add_argument("--say", action="append", metavar="TEXT", help="a spoken line; may be repeated (default: none)")
    parser.add_argument(
        "--at",
        action="append",
        type=float,
        metavar="SECONDS",
        help="when it begins, one for each --say (default of a single one: 0)",
    )
    parser.add_argument("--voice", help="robot (default), robot-female, or NAME of MODEL_DIR/voices/NAME.safetensors")
    parser.add_argument(
        "--style", help='how a voice of a model reads: "happy slow sichuan", or its own tags (default: none)'
    )
    parser.add_argument("--language", help="auto (default), en, zh or yue")
    parser.add_argument(
        "--layer",
        action="append",
        metavar="SOUND:START-END[:...]",
        help="a procedural sound or a file, as rain:0-4:-12dB:hall; may be repeated (default: none; docs/sound.md)",
    )
    parser.add_argument(
        "--layers-file", type=Path, help='a scene as text: "0-2 s: under water, 2-4 s: splash" (default: none)'
    )
    parser.add_argument("--duck", type=float, metavar="DB", help="how much layers sink under speech (default 9)")
    parser.add_argument("--length", help="picture (default): cut or padded to it; sound: as long as what is heard")
    parser.add_argument("--no-subtitles", action="store_true", help="without the lines as a text track")
    parser.add_argument("--seed", type=int, help="of the procedural sounds (default 0)")
    parser.add_argument(
        "--from-sound", type=Path, metavar="MP4", help="begin with this video's soundtrack (default: with none)"
    )
    parser.add_argument("--without-sound", action="store_true", help="take sound and subtitles away")
    parser.add_argument("--output", type=Path, help="NAME.mp4, or a folder (default: CLIP-sound.mp4)")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace --output where it exists, also the clip itself"
    )
