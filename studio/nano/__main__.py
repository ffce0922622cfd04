"""`python -m studio.nano train|export|judge|grid|examples`: make, ship, measure and show the built-in model."""

import argparse
import json
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from models.checkpoint import load_vae
from models.vae import VAE
from studio.config import ROOT
from studio.nano.checkpoint import SIZES, save_checkpoint
from studio.nano.clips import NanoFolder
from studio.nano.dtype import training_dtype
from studio.nano.examples import make_examples
from studio.nano.grid import make_grid
from studio.nano.model import Denoiser, text_alone
from studio.nano.report import conditions_line, gates_table, marks_table, report
from studio.nano.train import LoopSettings
from studio.nano.train_denoiser import (
    CaptionPool,
    DenoiserSettings,
    encode_clips,
    new_denoiser,
    redraw_clip,
    train_denoiser,
)
from studio.nano.train_turbo import DEFAULT_MOTION, TurboSettings, train_turbo
from studio.nano.train_vae import VAESettings, load_trained_vae, polish_decoder, start_from, train_vae
from studio.nano.vocabulary import read_vocabulary
from studio.nano.world import WORLDS
from studio.pipeline.preview import LatentColours
from studio.settings import Speed

MUON = ("transformer_blocks", "transformer.layers", "encoder.layer")
FILE_BYTES = 14_500_000  # git hosts and reviewers like small files
ASSETS = ROOT / "assets" / "nano"
log = logging.getLogger("nano")


def train(args: argparse.Namespace) -> None:
    """Train a stage, or continue where its last run stopped."""
    torch.set_num_threads(args.threads)
    keep = {"save_minutes": 3.0, "keep_every": 100, "pause_file": args.pause}
    if args.stage == "vae":
        loop = LoopSettings(args.steps, learning_rate=1e-3, warmup=20, hold=0.5, weight_decay=0.0, average=0.99,
                            slow=(("encoder", 0.3),), **keep)  # fmt: skip
        start = start_from(load_vae(args.start, torch.float32).state_dict()) if args.start else None
        train_vae(VAESettings(loop), args.folder, start, args.device)
        return
    vae = load_trained_vae(args.folder, args.device)
    if args.stage == "denoiser":
        loop = LoopSettings(args.steps, learning_rate=1e-3, warmup=30, hold=0.5, average=0.995, muon=MUON, **keep)
        start = load_file(args.start) if args.start else None
        train_denoiser(DenoiserSettings(loop), SIZES, vae, args.folder, start)
        return
    if args.stage == "turbo":
        loop = LoopSettings(args.steps, learning_rate=4e-4, warmup=10, average=0.96, muon=MUON, **keep)
        teacher, settings = trained(args.folder)[0], DenoiserSettings(loop)
        clips = encode_clips(vae, settings, args.folder / "latents")[0]
        train_turbo(TurboSettings(loop), teacher, clips, CaptionPool(clips.scenes, teacher, settings), args.folder)
        return
    loop = LoopSettings(args.steps, learning_rate=6e-4, warmup=20, hold=0.4, weight_decay=0.0, average=0.99, **keep)
    wide, square, *_ = encode_clips(vae, DenoiserSettings(loop), args.folder / "latents")
    redraw = None
    if (args.folder / "denoiser.pt").is_file():
        redraw = partial(redraw_clip, trained(args.folder)[0].to(training_dtype(args.device)))
    polish_decoder(VAESettings(loop), [square, square, wide], args.folder, redraw)  # a square costs half


def trained(folder: Path) -> tuple[Denoiser, VAE]:
    """The networks of a training folder: the denoiser by its moving average."""
    denoiser = new_denoiser(SIZES, folder / "tokenizers", "cpu")
    denoiser.load_state_dict(torch.load(folder / "denoiser.pt", weights_only=True, map_location="cpu")["average"])
    return denoiser.eval(), load_trained_vae(folder)


def trained_turbo(folder: Path) -> Denoiser | None:
    """The distilled student of a training folder, None where it was not made."""
    if not (folder / "turbo.pt").is_file():
        return None
    student = new_denoiser(SIZES, folder / "tokenizers", "cpu")
    student.load_state_dict(torch.load(folder / "turbo.pt", weights_only=True, map_location="cpu")["average"])
    return student.eval()


def export(args: argparse.Namespace) -> None:
    """Write what was trained as public-layout folders: ti2v with every component, turbo with a transformer.

    ti2v serves text alone too, with zeros for the image's latents. turbo is written where its stage was trained.
    """
    denoiser, vae = trained(args.folder)
    vocabulary = read_vocabulary(args.folder / "tokenizers")
    parts = {"step_llm": denoiser.step_llm, "clip": denoiser.clip, "vae": vae}
    folders = {"ti2v": {"transformer": denoiser.transformer, **parts}}
    if student := trained_turbo(args.folder):
        folders["turbo"] = {"transformer": text_alone(student.transformer, DEFAULT_MOTION)}
    for name, modules in folders.items():
        configs = SIZES.configs(vocabulary, use_additional_conditions=name == "ti2v")
        save_checkpoint(args.to / name, modules, configs, vocabulary, dtype=torch.bfloat16, file_bytes=FILE_BYTES)
    with torch.no_grad():
        LatentColours.fit(vae.encode_moments).ship(args.to / "ti2v")


def judge(args: argparse.Namespace) -> None:
    """Judge the world's truth, the VAE and the model; print the tables, keep the results as one line of json."""
    with nano_folder(args) as folder:
        told = report(folder, WORLDS[args.world], args.n, overrides(args))
    log.info("%s\n\n%s\n\n%s\n", conditions_line(told), marks_table(told), gates_table(told))
    if args.out:
        line = {"world": args.world, **told}
        args.out.write_text(json.dumps(line, ensure_ascii=False) + "\n", encoding="utf-8")


def grid(args: argparse.Namespace) -> None:
    """Write the README's picture."""
    how = overrides(args)
    with (
        nano_folder(args) as folder,
        folder.open("nano", overrides=how) as alone,
        folder.open("nano", with_image=True, overrides=how) as both,
    ):
        make_grid(alone, both, args.font, args.seed).save(args.out)


def examples(args: argparse.Namespace) -> None:
    """Make the first images and thumbnails of the page's examples, with what is shipped."""
    make_examples(device=args.device)


def overrides(args: argparse.Namespace) -> dict[str, Any]:
    """The generation settings of the command line; what is not given there is the model's default."""
    given = {name: getattr(args, name) for name in ("infer_steps", "cfg_scale", "time_shift", "speed")}
    return {name: value for name, value in given.items() if value is not None}


@contextmanager
def nano_folder(args: argparse.Namespace) -> Iterator[NanoFolder]:
    """The checkpoint folder that is asked about; of a training folder, what `export` makes of it now."""
    with tempfile.TemporaryDirectory() as work:
        checkpoint = args.checkpoint
        if args.folder:
            checkpoint = Path(work) / "exported"
            export(argparse.Namespace(folder=args.folder, to=checkpoint))
        yield NanoFolder(checkpoint, Path(work), args.device)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m studio.nano", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    one = commands.add_parser("train", help=train.__doc__)
    one.add_argument("--stage", choices=("vae", "denoiser", "decoder", "turbo"), required=True)
    one.add_argument("--folder", type=Path, default=Path("outputs/nano"), help="states, caches and loss curves")
    one.add_argument("--steps", type=int, required=True)
    one.add_argument(
        "--start", type=Path, help="what a new run begins with: a checkpoint folder (vae) or a file (denoiser)"
    )
    one.add_argument("--threads", type=int, default=1)
    one.add_argument("--pause", type=Path, help="training stands still while this file exists")
    one.set_defaults(run=train)
    two = commands.add_parser("export", help=export.__doc__)
    two.add_argument("--folder", type=Path, default=Path("outputs/nano"))
    two.add_argument("--to", type=Path, default=ASSETS)
    two.set_defaults(run=export)
    for name, run in (("judge", judge), ("grid", grid)):
        command = commands.add_parser(name, help=run.__doc__)
        command.add_argument("--checkpoint", type=Path, default=ASSETS, help="folder of the ti2v and turbo checkpoints")
        command.add_argument("--folder", type=Path, help="a training folder, instead of a checkpoint")
        command.add_argument("--infer-steps", type=int, help="instead of the model's default")
        command.add_argument("--cfg-scale", type=float, help="instead of the model's default")
        command.add_argument("--time-shift", type=float, help="instead of the model's default")
        command.add_argument("--speed", choices=[speed.value for speed in Speed], help="exact where it is not given")
        command.set_defaults(run=run)
    commands.choices["judge"].add_argument("-n", type=int, default=40, help="held-out captions per language")
    commands.choices["judge"].add_argument("--world", choices=tuple(WORLDS), default="small")
    commands.choices["judge"].add_argument("--out", type=Path)
    commands.choices["grid"].add_argument("--seed", type=int, default=7)
    commands.choices["grid"].add_argument("--font", type=Path, help="a font with Chinese; without one: no labels")
    commands.choices["grid"].add_argument("--out", type=Path, default=ASSETS / "grid.png")
    commands.add_parser("examples", help=examples.__doc__).set_defaults(run=examples)
    for command in (one, *(commands.choices[name] for name in ("judge", "grid", "examples"))):
        command.add_argument("--device", default=device)
    return parser


def main() -> None:
    """Parse the command line and run."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = _parser().parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
