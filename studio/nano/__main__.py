"""`python -m studio.nano train|judge|grid`: make, measure and show the built-in model."""

import argparse
from pathlib import Path

import torch

from studio.nano.checkpoint import NanoSizes
from studio.nano.train import LoopSettings
from studio.nano.train_denoiser import DenoiserSettings, encode_clips, train_denoiser
from studio.nano.train_vae import VAESettings, load_trained_vae, polish_decoder, train_vae

# What two CPU cores can train in an hour; see assets/nano/README.md.
SIZES = NanoSizes(
    layers=4, llm_width=128, llm_layers=2, llm_ffn=256, clip_width=128, clip_layers=2
)
MUON = ("transformer_blocks", "transformer.layers", "encoder.layer")


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m studio.nano", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train a stage, or continue where its last run stopped")
    train.add_argument("--stage", choices=("vae", "denoiser", "decoder"), required=True)
    train.add_argument("--folder", type=Path, default=Path("outputs/nano"), help="states, caches and loss curves")
    train.add_argument("--steps", type=int, required=True)
    train.add_argument("--clips", type=int, default=3000, help="clips that are encoded once for the denoiser")
    train.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    if args.stage == "vae":
        loop = LoopSettings(args.steps, learning_rate=8e-4, hold=0.5, weight_decay=0.0)
        train_vae(VAESettings(loop), args.folder, args.device)
    if args.stage == "decoder":
        settings = VAESettings(LoopSettings(args.steps, learning_rate=6e-4, warmup=20, hold=0.4, weight_decay=0.0))
        clips = encode_clips(load_trained_vae(args.folder), DenoiserSettings(settings.loop, clips=args.clips),
                             args.folder / "latents")  # fmt: skip
        polish_decoder(settings, clips.scenes, clips.latents, args.folder)
    if args.stage == "denoiser":
        loop = LoopSettings(args.steps, learning_rate=1.5e-3, average=0.998, muon=MUON)
        train_denoiser(DenoiserSettings(loop, clips=args.clips), SIZES, load_trained_vae(args.folder), args.folder)


if __name__ == "__main__":
    main()
