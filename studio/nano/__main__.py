"""`python -m studio.nano train|judge|grid`: make, measure and show the built-in model."""

import argparse
from pathlib import Path

import torch

from studio.nano.train import LoopSettings
from studio.nano.train_vae import VAESettings, train_vae


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m studio.nano", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train a stage, or continue where its last run stopped")
    train.add_argument("--stage", choices=("vae", "denoiser", "turbo"), required=True)
    train.add_argument("--folder", type=Path, default=Path("outputs/nano"), help="states, caches and loss curves")
    train.add_argument("--steps", type=int, required=True)
    train.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    if args.stage == "vae":
        loop = LoopSettings(args.steps, learning_rate=8e-4, hold=0.5, weight_decay=0.0)
        train_vae(VAESettings(loop), args.folder, args.device)


if __name__ == "__main__":
    main()
