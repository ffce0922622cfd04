"""nano on a CPU, in two source trees in turns: whether a change made it slower.

    git worktree add ../before REVISION
    python tests/bench/bench_paired.py --before ../before [--pairs 9] [--frames 17] [--side 64]

One process per tree, each with nano's transformer and VAE in the dtype that this CPU is fast in. They take turns, call
by call, on one thread: a guided step (both texts through every block), and a sliced decode. Processor seconds; medians,
and the median of the paired ratios with the share of pairs in which this tree took longer. The last line of stdout is
one JSON document, and the same line is appended to tests/bench/results/paired.jsonl.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "tests" / "bench" / "results" / "paired.jsonl"
NANO = ROOT / "assets" / "nano" / "t2v"  # the same weights for both trees


def calls(frames: int, side: int) -> dict[str, Callable[[], object]]:
    """What is timed, from the models/ that this process imports."""
    import torch

    from models.checkpoint import load_transformer, load_vae
    from models.cpu import fast_cpu_dtype
    from models.geometry import VideoShape

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    dtype, video = fast_cpu_dtype(), VideoShape(frames, side, side)
    transformer = load_transformer(NANO, dtype=dtype, device="cpu")
    vae = load_vae(NANO, dtype=dtype, device="cpu")
    params = transformer.params
    latents = torch.randn(video.latent_shape(params.in_channels))
    texts = [(torch.randn(1, tokens, params.llm_width), torch.randn(1, 77, params.clip_width)) for tokens in (40, 6)]

    time = torch.tensor([0.4])
    # As the program steps: what a video's texts and rotary tables are, it computes once, where the tree can.
    once = hasattr(transformer, "embed_video")
    contexts = [transformer.embed_text(*text) for text in texts] if once else []
    rope = transformer.rope(latents) if once else None

    def step() -> None:
        if once:
            hiddens = transformer.embed_video(latents, time, contexts, rope)
            for block in transformer.transformer_blocks:
                block(*hiddens)
        else:
            hiddens = [transformer.embed(latents, time, *text) for text in texts]
            for block in transformer.transformer_blocks:
                for hidden in hiddens:
                    block(hidden)
        for hidden in hiddens:
            transformer.head(hidden)

    # As the program decodes where memory is not short: two frames at once before decoding went frame by frame.
    two = {"slice_frames": 2} if "slice_frames" in signature(vae.decode_chunks).parameters else {}

    def decode() -> None:
        for _ in vae.decode_chunks(latents.to(dtype), **two):
            pass

    return {"step": step, "decode": decode}


def serve(frames: int, side: int) -> None:
    """In a child: a name on stdin, the processor seconds of that call on stdout."""
    timed = calls(frames, side)
    for call in timed.values():
        call()
    print("ready", flush=True)
    for line in sys.stdin:
        began = time.process_time()
        timed[line.strip()]()
        print(time.process_time() - began, flush=True)


class Tree:
    """A process that computes with one tree's models/."""

    def __init__(self, folder: Path, frames: int, side: int) -> None:
        command = [
            sys.executable,
            str(Path(__file__).resolve()),
            "--serve",
            "--frames",
            str(frames),
            "--side",
            str(side),
        ]
        # PYTHONPATH decides which models/ it imports: the script's own folder holds none.
        self._process = subprocess.Popen(
            command, env={"PYTHONPATH": str(folder.resolve()), "OMP_NUM_THREADS": "1", "PATH": ""}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder,
        )  # fmt: skip
        assert self._answer() == "ready"

    def seconds(self, name: str) -> float:
        """Processor seconds of one call there."""
        assert self._process.stdin is not None
        print(name, file=self._process.stdin, flush=True)
        return float(self._answer())

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def compare(before: Tree, now: Tree, name: str, pairs: int) -> dict[str, float]:
    """One call in both trees in turns; who begins changes with every pair."""
    taken: dict[Tree, list[float]] = {before: [], now: []}
    for pair in range(pairs):
        for tree in (before, now) if pair % 2 else (now, before):
            taken[tree].append(tree.seconds(name))
    ratios = [new / old for old, new in zip(taken[before], taken[now], strict=True)]
    return {
        "before_seconds": round(statistics.median(taken[before]), 4),
        "now_seconds": round(statistics.median(taken[now]), 4),
        "median_ratio": round(statistics.median(ratios), 3),
        "share_slower": round(sum(ratio > 1 for ratio in ratios) / pairs, 2),
    }


def main() -> None:
    """Measure, print, append; or serve as one of the two processes."""
    parser = argparse.ArgumentParser(description="nano in two source trees in turns")
    parser.add_argument("--before", type=Path, help="folder of the other source tree")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        return serve(asked.frames, asked.side)
    before, now = Tree(asked.before, asked.frames, asked.side), Tree(ROOT, asked.frames, asked.side)
    rows: dict[str, Any] = {}
    try:
        for name in ("step", "decode"):
            rows[name] = compare(before, now, name, asked.pairs)
            print(name, json.dumps(rows[name]), flush=True)
    finally:
        before.close()
        now.close()
    sys.path.insert(0, str(ROOT))
    from tests.bench.bench_networks import keep_line, machine

    revision = subprocess.run(["git", "rev-parse", "HEAD"], cwd=asked.before, capture_output=True, text=True)
    print(keep_line(RESULTS, machine() | {"before": revision.stdout.strip(), "pairs": asked.pairs, "rows": rows}))


if __name__ == "__main__":
    main()
