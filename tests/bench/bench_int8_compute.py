"""Does a product in int8 pay? Seconds of one linear layer at the public shapes, and what each way of it is off by.

    python tests/bench/bench_int8_compute.py [--tokens 1024,4096]

Four ways: float32 (what a CPU computes in), bfloat16 (what a GPU computes in), int8 weights dequantised to bfloat16
before each product (--quantize int8), products in int8 (--quantize int8-compute; the rounding of the tokens is part of
it). Errors are relative to float32, for normal tokens and for tokens of which 8 channels are 30 times as large, as
language models have them. On a GPU up to 16k tokens; on a CPU fewer, best of as many runs as fit into a few seconds. A
line goes to tests/bench/results/int8_compute.jsonl.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from models.quantized import dequantize_rows, int8_compute_available, int8_product, quantize_rows  # noqa: E402
from tests.bench.bench_networks import machine  # noqa: E402

RESULTS = ROOT / "tests" / "bench" / "results" / "int8_compute.jsonl"
SHAPES = ((6144, 6144), (6144, 24576), (24576, 6144))  # in, out: projections, and both halves of the feed-forward
TOKENS = {"cpu": (1024, 4096), "cuda": (1024, 4096, 16384)}
ERROR_TOKENS = 256
LOUD_CHANNELS, LOUD = 8, 30.0
SECONDS = 4.0  # for the repetitions of one number


def ways(weight: Tensor) -> dict[str, Callable[[Tensor], Tensor]]:
    """Name -> the product of float32 tokens (n, in) with float32 weights (out, in), on the weights' device."""
    wide = weight.to(torch.bfloat16)
    codes, scale = quantize_rows(weight)
    scratch = torch.empty_like(wide)
    usual = torch.float32 if weight.device.type == "cpu" else torch.bfloat16  # int8 products come out in this
    found = {
        "float32": lambda x: F.linear(x, weight),
        "bfloat16": lambda x: F.linear(x.to(torch.bfloat16), wide),
        "int8 weights": lambda x: F.linear(x.to(torch.bfloat16), dequantize_rows(codes, scale, scratch)),
    }
    if int8_compute_available():
        found["int8 products"] = lambda x: int8_product(x.to(usual), codes, scale)
    return found


def seconds(work: Callable[[], Tensor], device: torch.device) -> float:
    """The best run, after one to warm up."""

    def once() -> float:
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    first = once()
    return min(once() for _ in range(max(1, min(50, int(SECONDS / first)))))


def tokens_for(count: int, width: int, device: torch.device, *, loud: bool) -> Tensor:
    """Normal numbers; loud: with channels as outliers make them."""
    x = torch.randn(count, width, device=device)
    if loud:
        x[:, :: width // LOUD_CHANNELS] *= LOUD
    return x


def measure(shape: tuple[int, int], counts: tuple[int, ...], device: torch.device) -> list[dict]:
    """A row per way of one layer."""
    torch.manual_seed(0)
    width, out = shape
    weight = torch.randn(out, width, device=device) * width**-0.5
    rows = []
    exact = {loud: tokens_for(ERROR_TOKENS, width, device, loud=loud) for loud in (False, True)}
    for name, product in ways(weight).items():
        row = {"shape": f"{width}x{out}", "way": name}
        for count in counts:
            x = tokens_for(count, width, device, loud=False)
            if name != "float32" and device.type == "cuda":
                x = x.to(torch.bfloat16)  # as the program has them
            row[f"seconds_{count}"] = round(seconds(lambda product=product, x=x: product(x), device), 5)
        for loud, x in exact.items():
            reference = torch.cat([F.linear(x.double(), part.double()) for part in weight.split(1024)], dim=1)
            error = (product(x).double() - reference).norm() / reference.norm()
            row["error_loud" if loud else "error"] = round(error.item(), 6)
        rows.append(row)
    return rows


def table(rows: list[dict], counts: tuple[int, ...]) -> list[str]:
    """Markdown."""
    titles = ["layer", "way", *(f"{count} tokens, ms" for count in counts), "error", "with loud channels"]
    lines = ["| " + " | ".join(titles) + " |", "|" + " --- |" * len(titles)]
    for row in rows:
        cells = [row["shape"], row["way"], *(f"{1e3 * row[f'seconds_{count}']:.1f}" for count in counts)]
        lines.append("| " + " | ".join([*cells, f"{row['error']:.2%}", f"{row['error_loud']:.2%}"]) + " |")
    return lines


@torch.inference_mode()
def main() -> None:
    """Measure, print, append."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", default=",".join(map(str, TOKENS[device.type])))
    counts = tuple(int(count) for count in parser.parse_args().tokens.split(","))
    if not int8_compute_available():
        print("bitsandbytes is not installed: no products in int8.")
    rows = [row for shape in SHAPES for row in measure(shape, counts, device)]
    print("\n".join(table(rows, counts)))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    with RESULTS.open("a") as results:
        results.write(json.dumps(machine() | {"device": name, "rows": rows}) + "\n")


if __name__ == "__main__":
    main()
