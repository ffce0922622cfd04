"""How close the networks come to this machine's own matrix speed, at the sizes of the nano model.

    python tests/bench/bench_networks.py [--repeats 15]

The floor is the time that a call's matrix products, convolutions and attention would take at the speed of one large
float32 matrix product, measured in the same run and interleaved with the calls: percent_of_floor = floor / measured.
Every row is the best of its repeats, since other work on the machine only ever makes a run slower; `load` says how much
of that there was. The last line of stdout is one JSON document, and the same line is appended to
tests/bench/results/networks.jsonl.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from models.step_llm import StepLLM, StepLLMParams  # noqa: E402
from models.transformer import Transformer, TransformerParams  # noqa: E402
from models.vae import VAE, VAEParams  # noqa: E402

RESULTS = ROOT / "tests" / "bench" / "results" / "networks.jsonl"
MATRIX = 1024  # side of the matrices whose product is the floor
LATENTS = (6, 16, 8, 14)  # frames, channels, height, width: 34 frames of 128x224
TEXT_TOKENS = 60
VAE_WIDTHS = (32, 32, 64, 64)
ROW_SECONDS = 20.0  # a row stops repeating after as long, but not before LEAST repeats
LEAST = 3
PRODUCTS = 5  # matrix products beside each call
Call = Callable[[], Any]


def network_calls() -> dict[str, Call]:
    """Row name -> the call that is timed."""
    frames, channels, height, width = LATENTS
    params = TransformerParams(heads=2, layers=8, in_channels=channels, out_channels=channels, llm_width=256,
                               clip_width=256)  # fmt: skip
    transformer = Transformer(params).eval()
    inputs = (
        torch.randn(1, *LATENTS),
        torch.tensor([0.37]),
        torch.randn(1, TEXT_TOKENS, params.llm_width),
        torch.randn(1, 77, params.clip_width),
        torch.ones(1, 77 + TEXT_TOKENS, dtype=torch.bool),
    )
    llm = StepLLM(StepLLMParams(width=256, layers=3, heads=4, groups=2, ffn_width=512, vocabulary=1024)).eval()
    vae = VAE(VAEParams(channels, VAE_WIDTHS, VAE_WIDTHS, VAE_WIDTHS[0], res_blocks=1, norm_groups=8)).eval()
    video = torch.rand(1, 17, 3, 16 * height, 16 * width) * 2 - 1
    latents = torch.randn(1, frames, channels, height, width)
    return {
        "transformer_34x128x224": partial(transformer, *inputs),
        "step_llm_60_tokens": partial(llm, torch.randint(1024, (1, TEXT_TOKENS))),
        "vae_encode_17x128x224": partial(vae.encode_moments, video),
        "vae_decode_34x128x224": partial(vae.decode, latents),
        "vae_decode_chunks_34x128x224": lambda: list(vae.decode_chunks(latents)),
    }


def flops_of(call: Call) -> int:
    """Multiplications and additions of a call's matrix products, convolutions and attention."""

    def attention(q: Tensor, k: Tensor, v: Tensor, *args: Any, out_val: Any, **kwargs: Any) -> int:
        causal = kwargs.get("is_causal", len(args) > 1 and args[1])
        batch, heads, n, width = q.shape
        return 4 * batch * heads * n * k.shape[2] * width // (2 if causal else 1)

    attention._get_raw = True  # the counter's switch for formulas that want tensors, not shapes
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # the counter knows only the GPU's
    with FlopCounterMode(display=False, custom_mapping={kernel: attention}) as counter:
        call()
    return counter.get_total_flops()


def best_seconds(call: Call, matmul: Call, repeats: int) -> tuple[float, float]:
    """Best seconds of the call and of the matrix product, taken in turn."""
    calls, products = [], []
    end = time.perf_counter() + ROW_SECONDS
    while len(calls) < repeats and (len(calls) < LEAST or time.perf_counter() < end):
        calls.append(_seconds(call))
        products += [_seconds(matmul) for _ in range(PRODUCTS)]
    return min(calls), min(products)


def _seconds(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _place(word: str) -> str:
    """A word of a command; a path is told from the repository on, since nobody else has this machine's folders."""
    return os.path.relpath(word, ROOT) if os.path.isabs(word) else word


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next(line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line)
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": cpu,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_models": bool(_git("status", "--porcelain", "models")),
        "command": " ".join(["python", *map(_place, sys.argv)]),
    }


def keep_line(results: Path, document: dict[str, Any]) -> str:
    """Append a document to a results file; the line."""
    line = json.dumps(document, ensure_ascii=False)
    results.parent.mkdir(parents=True, exist_ok=True)
    with results.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    return line


def _git(*arguments: str) -> str | None:
    """What git says of this tree; None where it is a copy without git."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@torch.inference_mode()
def main() -> None:
    """Measure, print, append."""
    parser = argparse.ArgumentParser(description="Networks against this machine's matrix speed")
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats

    a, b = torch.randn(2, MATRIX, MATRIX)
    matmul = partial(torch.mm, a, b)
    _, floor = best_seconds(matmul, matmul, repeats)
    print(f"floor: {2 * MATRIX**3 / floor / 1e9:.1f} GFLOP/s float32, {MATRIX}^3, {torch.get_num_threads()} threads")
    rows = {}
    for name, call in network_calls().items():
        flops = flops_of(call)  # warms up as well
        seconds, matmul_seconds = best_seconds(call, matmul, repeats)
        speed = 2 * MATRIX**3 / matmul_seconds
        rows[name] = {
            "seconds": round(seconds, 5),
            "gflop": round(flops / 1e9, 3),
            "floor_seconds": round(flops / speed, 5),
            "percent_of_floor": round(100 * flops / speed / seconds, 1),
        }
        print(f"{name:30s} {seconds * 1e3:9.2f} ms   {rows[name]['percent_of_floor']:5.1f} % of floor")
    document = machine() | {"floor_gflops": round(2 * MATRIX**3 / floor / 1e9, 1), "rows": rows}
    print(keep_line(RESULTS, document))


if __name__ == "__main__":
    main()
