"""Step-Video Studio: `python app.py` opens the page, `python app.py generate ...` makes a video from the command line.

It reads the command line; studio/commands builds the objects and hands them to each other.
Exit codes: 0 done, 1 failed, 2 wrong input, 130 interrupted.
"""

import argparse
import math
import sys
from pathlib import Path

from studio.config import load_camera_moves
from studio.errors import StudioError

SETTING_FLAGS = {
    "negative_prompt": str,
    "motion_score": float,
    "infer_steps": int,
    "cfg_scale": float,
    "time_shift": float,
    "num_frames": int,
    "height": int,
    "width": int,
    "seed": int,
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = build_parser().parse_args(arguments)
    try:
        return COMMANDS[options.command or "page"](options)
    except StudioError as error:
        print(f"\n{error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; every value's default is "not given", so that the configs stay the one source."""
    machine = _machine_flags()
    parser = argparse.ArgumentParser(
        prog="app.py", description="Video with Step-Video's 30B models on one GPU.", parents=[machine]
    )
    _page_flags(parser)
    commands = parser.add_subparsers(dest="command", metavar="command")
    _generate_flags(commands.add_parser("generate", help="make a video", parents=[machine]))

    decode = commands.add_parser("decode", help="finish a video from saved latents", parents=[machine])
    decode.add_argument("latents", type=Path, help="a NAME.latents.safetensors or a job's latents.safetensors")
    decode.add_argument("--first-image", type=Path, help="the picture the latents were made from, to keep it beside")
    decode.add_argument("--output", type=Path)

    inspect = commands.add_parser("inspect", help="say what a checkpoint folder holds")
    inspect.add_argument("folder", type=Path)

    download = commands.add_parser("download", help="fetch a model's files", parents=[machine])
    download.add_argument("model")
    download.add_argument("--source", choices=("hf", "modelscope"), default="hf")
    download.add_argument("--to", type=Path, help="the folder (default: MODEL_DIR/MODEL)")

    plan = commands.add_parser("plan", help="say how a video would fit a card, without owning it", parents=[machine])
    plan.add_argument("--model", required=True)
    for name in ("num-frames", "height", "width"):
        plan.add_argument(f"--{name}", type=int)
    for name in ("tflops", "link-gbps", "disk-gbps"):
        plan.add_argument(f"--{name}", type=_above_zero, help="instead of this machine's measured speed")
    plan.add_argument("--json", action="store_true", help="print json instead of a table")

    quantize = commands.add_parser("quantize", help="write int8 weights beside a model's own", parents=[machine])
    quantize.add_argument("model")

    worker = commands.add_parser("worker", parents=[machine])  # started by the page, not by people
    worker.add_argument("--queue", type=Path, required=True)
    return parser


def _machine_flags() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    group = flags.add_argument_group("this machine")
    group.add_argument("--model-dir", type=Path, help="where models lie (default ./checkpoints)")
    group.add_argument("--output-dir", type=Path, help="where results go (default ./outputs)")
    group.add_argument("--device", help="auto, cpu, cuda or cuda:N")
    group.add_argument(
        "--offload",
        nargs="?",
        const="auto",
        choices=("auto", "none", "blocks", "disk"),
        help="auto (default): as free memory allows; none: all on the device; blocks: stream all; disk: from disk",
    )
    group.add_argument(
        "--quantize",
        choices=("none", "int8", "int8-compute"),
        help="int8: weights that `quantize` wrote; int8-compute: multiply in int8 too (coarser; faster on some GPUs)",
    )
    group.add_argument("--vram", type=_above_zero, metavar="GB", help="never use more GPU memory than this")
    group.add_argument("--ram", type=_above_zero, metavar="GB", help="never use more host memory than this")
    return flags


def _page_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("page")
    group.add_argument("--listen", action="store_true", help="serve the network, not this machine alone")
    group.add_argument("--port", type=_port, help="1 to 65535 (default 7860)")
    group.add_argument("--share", action="store_true", help="make a public link (asks for a password)")
    group.add_argument("--auth", metavar="USER:PASS", help="ask for this login")
    group.add_argument("--auth-file", type=Path, help="a file of USER:PASS lines")
    group.add_argument("--inbrowser", action="store_true", help="open the browser")


def _generate_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", help="default: the one installed, else nano")
    parser.add_argument("--prompt")
    parser.add_argument("--first-image", type=Path)
    parser.add_argument("--camera-move", help=", ".join(load_camera_moves()))
    for name, kind in SETTING_FLAGS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind)
    parser.add_argument("--output", type=Path, help="NAME.mp4, or a folder (default: OUTPUT_DIR/date-prompt-seed.mp4)")
    parser.add_argument("--keep-latents", action="store_true", help="keep NAME.latents.safetensors beside the video")
    parser.add_argument("--from-video", type=Path, help="make this program's video (or its json) again")


def _above_zero(words: str) -> float:
    try:
        number = float(words)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{words} is no number above 0")
    return number


def _port(words: str) -> int:
    if not (words.isdecimal() and 0 < int(words) < 2**16):
        raise argparse.ArgumentTypeError(f"{words} is no port: they go from 1 to 65535")
    return int(words)


def _page(options: argparse.Namespace) -> int:
    from studio.commands.page import run_page

    return run_page(options)


def _worker(options: argparse.Namespace) -> int:
    from studio.commands.page import run_worker

    return run_worker(options)


def _generate(options: argparse.Namespace) -> int:
    from studio.commands.generate import run_generate

    return run_generate(options, {name: getattr(options, name) for name in SETTING_FLAGS})


def _decode(options: argparse.Namespace) -> int:
    from studio.commands.generate import run_decode

    return run_decode(options)


def _inspect(options: argparse.Namespace) -> int:
    from studio.commands.files import run_inspect

    return run_inspect(options)


def _download(options: argparse.Namespace) -> int:
    from studio.commands.files import run_download

    return run_download(options)


def _quantize(options: argparse.Namespace) -> int:
    from studio.commands.files import run_quantize

    return run_quantize(options)


def _plan(options: argparse.Namespace) -> int:
    from studio.commands.plan import run_plan

    return run_plan(options)


COMMANDS = {
    "page": _page,
    "worker": _worker,
    "generate": _generate,
    "decode": _decode,
    "inspect": _inspect,
    "download": _download,
    "quantize": _quantize,
    "plan": _plan,
}

if __name__ == "__main__":
    sys.exit(main())
