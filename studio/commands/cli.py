"""The command line: parses it and runs the command, whose file is imported only then, so that `--help` needs no torch.

Exit codes: 0 done, 1 failed, 2 wrong input, 130 interrupted, 141 nobody reads what is printed.
"""

import argparse
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from studio import __version__
from studio.commands.flags import SETTING_FLAGS, count, machine_flags, port, speed
from studio.commands.help_examples import WHOLE_QUEUE, ExampleParser, program, range_words, told
from studio.commands.sound_flags import sound_commands
from studio.commands.starting import begin
from studio.commands.streams import drop_broken_streams, prepare_streams, tell
from studio.config import load_camera_moves, resolved
from studio.errors import StudioError
from studio.magic import MagicWords
from studio.settings import RANGES, CameraSpeed, GuidanceSchedule, Speed

QUEUE_ACTS = {
    "move": "put a job elsewhere: first, last, before JOB, after JOB",
    "pause": "hold a job at its place; a running one releases the GPU and keeps its latents",
    "resume": "let a paused, stopped or failed job run, from its latents",
    "skip": "let the others go first",
    "extend": "more clips behind a finished one, each from the last frame of the one before",
    "join": "a clip and those that go on from it as one file, without encoding them anew",
    "finish": "decode what a running job has after its present step",
    "decode": "decode the saved latents of a job that stopped",
    "whole": "do the steps that were left of a video that was finished early",
    "copy": "the same with other seeds, behind it",
    "remake": "the same with another seed, and this one into the trash",
    "star": "mark a job as a favourite",
    "unstar": "take that mark away",
    "tag": "give a job tags instead of those it has; without words it has none",
    "remove": "take a job out, into the trash",
    "undo": "bring back what was removed last",
    "stop": "end a job; its latents are kept",
    "sharp": "decode previews now and then, in a tenth of the time at most",
    "rough": "draw previews roughly again",
    "pause-all": "pause the whole queue: the GPU is released",
    "go-on": "end that pause",
    "stop-all": "end everything that runs and waits",
}

# Of `plan`: what each flag is the speed of.
SPEEDS = {
    "tflops": "arithmetic of the GPU in bf16, 10^12 operations a second",
    "link-gbps": "from RAM to the GPU, GB a second",
    "disk-gbps": "from disk to RAM, GB a second",
    "peer-gbps": "between two GPUs, GB a second",
}

# Read by gradio and the hubs' clients when they are imported, which only commands do, later.
NO_TELEMETRY = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    prepare_streams()
    os.environ.update(NO_TELEMETRY)
    try:
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except StudioError as error:
        tell(f"\n{error}")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read what is printed has seen enough
        drop_broken_streams()
        return 141
    except OSError as error:  # of the machine: a disk that is full, too many open files
        tell(f"\n{StudioError('system_refused', reason=error.strerror or str(error), file=error.filename or '-')}")
        return 1


def _run(arguments: list[str] | None) -> int:
    options = build_parser().parse_args(arguments)
    resolved(Path())  # in a deleted folder MKL ends the process by itself, with words that nobody understands
    if options.command is None:
        begin(options)
    run: Callable[[argparse.Namespace], int] = import_module(f"studio.commands.{options.command or 'page'}").run
    return run(options)


def build_parser() -> argparse.ArgumentParser:
    """Command NAME is `run` of studio/commands/NAME.py. A value not given stays so: defaults stand in configs/."""
    machine = machine_flags()
    words = "Video with Step-Video's 30B models on one GPU. Without a command it opens the page."
    parser = ExampleParser(prog=program(), description=words, parents=[machine])
    parser.add_argument("--version", action="version", version=__version__)
    _page_flags(parser)
    commands: Any = parser.add_subparsers(dest="command", metavar="command")
    _generate_flags(commands.add_parser("generate", **told("make a video"), parents=[machine]))

    decode = commands.add_parser("decode", **told("finish a video from saved latents"), parents=[machine])
    decode.add_argument("latents", type=Path, help="a NAME.latents.safetensors or a job's latents.safetensors")
    decode.add_argument(
        "--first-image", type=Path, help="the picture the latents were made from, to keep it beside (default: none)"
    )
    decode.add_argument(
        "--frame",
        type=count,
        metavar="N",
        help="this frame alone, from 1, as a png exactly as it is decoded (default: all, an mp4)",
    )
    decode.add_argument("--output", type=Path, help="NAME.mp4, or a folder (default: OUTPUT_DIR/date-prompt-seed)")

    _plan_flags(
        commands.add_parser("plan", **told("say how a video would fit a card, without owning it"), parents=[machine])
    )

    _check_flags(commands.add_parser("check", **told("prove what the program relies on, here"), parents=[machine]))

    inspect = commands.add_parser("inspect", **told("say what a checkpoint folder holds"))
    inspect.add_argument("folder", type=Path, help="of a checkpoint in the public layout")

    download = commands.add_parser("download", **told("fetch a model's files"), parents=[machine])
    download.add_argument("model", help="its name; a wrong one lists them all")
    download.add_argument(
        "--source", choices=("hf", "modelscope"), default="hf", help="Hugging Face (default), or ModelScope"
    )
    download.add_argument("--revision", help="a commit, tag or branch (default: what the folder has, else the newest)")
    download.add_argument("--to", type=Path, help="the folder (default: MODEL_DIR/MODEL)")
    download.add_argument("--tokenizers", action="store_true", help="the tokenizers alone: the page counts tokens then")
    download.add_argument("--json", action="store_true", help="print a json object a line, for programs")

    quantize = commands.add_parser("quantize", **told("write int8 weights beside a model's own"), parents=[machine])
    quantize.add_argument("model", help="its name; it must be here")

    _calibrate_flags(commands, machine)
    _queue_flags(commands.add_parser("queue", **told("see and change what waits"), parents=[machine]))
    _key_flags(commands.add_parser("key", **told("make, list and revoke keys of the HTTP API")))
    _chat_flags(commands.add_parser("chat", **told("let your language model expand a prompt or write a voice-over")))
    sound_commands(commands, machine)
    _evaluate_flags(commands, machine)
    _cluster_flags(commands.add_parser("cluster", **told("videos on several machines, with Ray")), machine)
    _worker_flags(commands, machine)
    return parser


def _calibrate_flags(commands: Any, machine: argparse.ArgumentParser) -> None:
    calibrate = commands.add_parser(
        "calibrate",
        **told("find the fewest passes that serve your checkpoint as well as the official ones"),
        parents=[machine],
    )
    calibrate.add_argument("model", help="its name; it must be here")
    calibrate.add_argument(
        "--prompts",
        type=Path,
        help="a text file, a prompt a line; for a picture: prompt, tab, file (default: configs/calibration.yaml)",
    )
    for name in ("num-frames", "height", "width"):
        told_of = "of the small clips that are compared (default: configs/calibration.yaml)"
        calibrate.add_argument(f"--{name}", type=int, help=told_of)
    for name in ("cfg-scale", "time-shift"):
        calibrate.add_argument(f"--{name}", type=float, help=range_words(name.replace("-", "_")))
    calibrate.add_argument("--quick", action="store_true", help="compare 6 rules instead of 48: a coarser choice")


def _cluster_flags(parser: argparse.ArgumentParser, machine: argparse.ArgumentParser) -> None:
    """`cluster start` and `cluster join ADDRESS`."""
    actions = parser.add_subparsers(dest="action", metavar="action", required=True)
    start = actions.add_parser("start", **told("make this machine the head"), parents=[machine])
    start.add_argument("--port", type=port, default=6379, help="on which the others join (default 6379)")
    join = actions.add_parser("join", **told("let this machine's cards make videos for a head"), parents=[machine])
    join.add_argument("address", help="HOST:PORT of the head")
    for action in (start, join):
        _gpus_flag(action, "how many of this machine's cards share each video (default 1)", "N")


def _worker_flags(commands: Any, machine: argparse.ArgumentParser) -> None:
    """`worker` and `sound_worker`, started by the page and by `evaluate`, not by people."""
    for command in ("worker", "sound_worker"):
        parser = commands.add_parser(command, parents=[machine])
        parser.add_argument("--queue", type=Path, required=True)
        parser.add_argument("--results", type=Path)  # where videos go (default: OUTPUT_DIR)
        parser.add_argument("--name", default=argparse.SUPPRESS)  # of one of several
        parser.add_argument("--gpus", default=argparse.SUPPRESS)  # that share each video
        parser.add_argument("--cluster", default=argparse.SUPPRESS)  # address of a Ray cluster whose cards make videos


def _queue_flags(parser: argparse.ArgumentParser) -> None:
    """`queue list` and the acts of studio/service/acts.py; a job is named by its id or the beginning of it."""
    acts = parser.add_subparsers(dest="act", metavar="act", required=True)
    shown = acts.add_parser("list", **told("what runs and waits, in the order of running"))
    shown.add_argument("--all", action="store_true", help="also what ended")
    for name, words in QUEUE_ACTS.items():
        one = acts.add_parser(name, **told(words))
        if name in WHOLE_QUEUE:
            one.set_defaults(job=None)
        else:
            one.add_argument("job", help="its id, or the beginning of it (4 letters at least)")
        if name == "move":
            one.add_argument("where", choices=("first", "last", "before", "after"), help="of all, or of OTHER")
            one.add_argument("other", nargs="?", help="the job that it goes before or after")
        if name == "tag":
            one.add_argument("tags", nargs="*", help="each in quotes where it has spaces")
        if name == "extend":
            one.add_argument("count", type=count, nargs="?", default=1, help="how many (default 1)")
            one.add_argument("--prompt", help="of the new clips (default: the clip's own)")
            one.add_argument("--hard-cut", action="store_true", help="the first of them begins from its prompt alone")
        if name == "join":
            one.add_argument(
                "--frames", metavar="A-B", help="these frames of the whole alone, the first being 1 (default: all)"
            )
        if name == "copy":
            one.add_argument(
                "count", type=count, nargs="?", default=1, help="how many more, each with a new seed (default 1)"
            )


def _evaluate_flags(commands: Any, machine: argparse.ArgumentParser) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        **told("make the clips of many prompts with one or more recipes, score and compare them"),
        parents=[machine],
    )
    evaluate.add_argument(
        "prompts",
        help="a .txt, .csv or .jsonl file, a folder of pictures with texts, or a suite: nano, general, camera",
    )
    evaluate.add_argument(
        "--recipe", required=True, metavar="NAME[,NAME...]", help="a model, or a name of configs/recipes.yaml"
    )
    evaluate.add_argument(
        "--recipes", type=Path, metavar="FILE", help="a yaml with recipes of your own (default: none)"
    )
    evaluate.add_argument("--seeds", type=count, default=1, help="clips of each prompt and recipe (default 1)")
    evaluate.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="the run; the same command goes on")
    evaluate.add_argument("--limit", type=count, help="so many prompts at most (default: all)")
    evaluate.add_argument("--shuffle", action="store_true", help="choose them by lot, always the same ones")
    evaluate.add_argument("--no-scores", action="store_true", help="make the clips and the page alone")

    evaluate.add_argument(
        "--clip", type=Path, metavar="FOLDER", help="a CLIP in transformers' layout, for more scores (default: none)"
    )
    evaluate.add_argument("--until-stdin-ends", action="store_true", help=argparse.SUPPRESS)  # how the page starts it

    compare = commands.add_parser("compare", **told("two recipes of evaluations, prompt by prompt, with intervals"))
    for name in ("first", "second"):
        compare.add_argument(name, metavar="RUN", help="a folder of evaluate, or FOLDER:RECIPE where it has several")
    compare.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="for the report")

    blind = commands.add_parser("blind", **told("let people judge two recipes without knowing which is which"))
    for name in ("first", "second"):
        blind.add_argument(name, metavar="RUN", help="as for compare")
    blind.add_argument(
        "--votes", type=Path, metavar="FILE", help="a .jsonl that several people add to (default: beside the first run)"
    )
    blind.add_argument("--result", action="store_true", help="say what the votes say, and end")
    _page_flags(blind)


def _plan_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help="a model's name, here or not")
    for name in ("num-frames", "height", "width"):
        parser.add_argument(f"--{name}", type=int, help=range_words(name.replace("-", "_")))
    _gpus_flag(parser, "the plan of each of N GPUs that share the video; --ram is of all (default 1)")
    for name, of in SPEEDS.items():
        parser.add_argument(f"--{name}", type=speed, help=f"{of} (default: this machine's, as it was measured)")
    parser.add_argument("--json", action="store_true", help="print json instead of a table")


def _gpus_flag(parser: argparse.ArgumentParser, told: str, values: str = "N|A,B") -> None:
    """Before a command or behind it: a default of the command's would hide what stands before."""
    parser.add_argument("--gpus", metavar=values, default=argparse.SUPPRESS, help=told)


def _page_flags(parser: argparse.ArgumentParser) -> None:
    _gpus_flag(parser, "each video on several GPUs: how many, or which, as 0,1 (default 1)")
    group = parser.add_argument_group("page")
    group.add_argument("--listen", action="store_true", help="serve the network, not this machine alone")
    group.add_argument("--port", type=port, help="1 to 65535 (default 7860)")
    group.add_argument("--share", action="store_true", help="make a public link (asks for a password)")
    group.add_argument(
        "--auth",
        metavar="USER:PASS",
        help="ask for this login (default: none, or a made one where others reach the page)",
    )
    group.add_argument("--auth-file", type=Path, help="a file of USER:PASS lines (default: none)")
    group.add_argument(
        "--allowed-host",
        action="append",
        metavar="NAME",
        help="another name of the page, https://NAME behind a TLS proxy; may be repeated (default: none)",
    )
    group.add_argument(
        "--guests",
        choices=("watch", "make", "all"),
        default="all",
        help="what visitors from other machines may do: watch, also make videos and change their own, or (default) all",
    )
    group.add_argument(
        "--cluster", metavar="HOST:PORT", help="the Ray cluster whose cards make the videos (default: none)"
    )
    group.add_argument(
        "--chat-url",
        metavar="URL",
        help="a chat server of yours that may expand prompts and write voice-overs (default: none)",
    )
    group.add_argument("--chat-model", metavar="NAME", help="its name there (default: the first that it lists)")
    group.add_argument("--inbrowser", action="store_true", help="open the browser")


def _check_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--language", choices=("en", "zh"), default="en", help="of the table (default en)")
    parser.add_argument("--json", action="store_true", help="a JSON object per finding instead of the table")
    parser.add_argument("--until-stdin-ends", action="store_true", help=argparse.SUPPRESS)  # how the page starts it


def _key_flags(parser: argparse.ArgumentParser) -> None:
    """`key new NAME`, `key list`, `key revoke NAME`."""
    place = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    place.add_argument("--output-dir", type=Path, help="of the page that takes the key (default ./outputs)")
    actions = parser.add_subparsers(dest="action", metavar="action", required=True)
    new = actions.add_parser("new", **told("make a key and print it, once"), parents=[place])
    new.add_argument("name", help="by which it is listed and revoked")
    new.add_argument(
        "--scope", choices=("read", "write"), default="write", help="read: look and fetch; write (default): everything"
    )
    new.add_argument("--rate", type=int, help="requests a minute (default: key_rate of configs/studio.yaml)")
    actions.add_parser("list", **told("names, scopes and rates"), parents=[place])
    actions.add_parser("revoke", **told("make a key worthless"), parents=[place]).add_argument(
        "name", help="of the key"
    )


def _generate_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", help="default: the one installed, else nano")
    parser.add_argument("--prompt", help="what happens, in English or Chinese, 1 to 2000 characters (no default)")
    parser.add_argument("--first-image", type=Path, help="the picture that the video begins with (default: none)")
    parser.add_argument("--camera-move", help=f"{', '.join(load_camera_moves())} (default: none)")
    parser.add_argument(
        "--camera-speed",
        choices=[str(speed) for speed in CameraSpeed],
        help="plain (default): the camera move alone; slow or fast: with that word",
    )
    for name, kind in SETTING_FLAGS.items():
        told = range_words(name) if name in RANGES else "what to avoid (default: the model's; empty: nothing)"
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help=told)
    parser.add_argument(
        "--speed",
        choices=[str(speed) for speed in Speed],
        help="exact: the official sampler; fast: about 0.6 of its passes, or what `calibrate` found; draft: a quarter, "
        "as a preview (default: fast where the model is calibrated, else exact)",
    )
    parser.add_argument(
        "--guidance-schedule",
        choices=[str(schedule) for schedule in GuidanceSchedule],
        help="constant (default); falling: guidance falls to 1 at a ninth of the time, as the paper has it for Turbo",
    )
    parser.add_argument(
        "--magic-words",
        choices=[str(kind) for kind in MagicWords],
        help="what follows the prompt: official (default, Chinese), english, anime, anime-english or none",
    )
    _gpus_flag(parser, "this video on several GPUs: how many, or which, as 0,1 (default 1)")
    parser.add_argument("--output", type=Path, help="NAME.mp4, or a folder (default: OUTPUT_DIR/date-prompt-seed.mp4)")
    parser.add_argument("--keep-latents", action="store_true", help="keep NAME.latents.safetensors beside the video")
    parser.add_argument(
        "--from-video", type=Path, help="make this program's video (or its json) again (default: a new one)"
    )


def _chat_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", help="the idea: it is sent to the server at --chat-url, and to no other")
    parser.add_argument("--chat-url", required=True, metavar="URL", help="of a server with OpenAI's chat completions")
    parser.add_argument("--chat-model", metavar="NAME", help="its name there (default: the first that it lists)")
    parser.add_argument(
        "--clip",
        type=Path,
        metavar="MP4",
        help="write this clip's voice-over, as flags of `sound` (default: expand the idea)",
    )
