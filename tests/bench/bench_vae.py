"""The VAE at nano sizes: encode and decode against this machine's matrix speed, slices against the whole.

    python tests/bench/bench_vae.py [--repeats 5] [--z-channels 8] [--res-blocks 2]

34 frames of 128x224, 32 channels, mult (1, 1, 2, 2). percent_of_floor = floor / measured, the floor being the time that
the convolutions and the attention would take at the speed of one large matrix product timed beside them. Both are
processor seconds of all threads, which a busy machine lengthens far less than wall seconds; the best of the repeats
counts, and the rows take turns. Bytes are those of all live tensors at their peak, weights and input apart. The last
line of stdout is one JSON document, and the same line is appended to tests/bench/results/vae.jsonl.
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from models.vae import VAE, VAEParams  # noqa: E402
from models.vae_convs import Keep  # noqa: E402
from tests.bench.bench_networks import MATRIX, flops_of, keep_line, machine  # noqa: E402
from tests.models.live_bytes import LiveBytes  # noqa: E402

RESULTS = ROOT / "tests" / "bench" / "results" / "vae.jsonl"
WIDTHS = (32, 32, 64, 64)
HEIGHT, WIDTH, FRAMES = 128, 224, 34


def vae_calls(vae: VAE) -> dict[str, Callable[[], object]]:
    """Row name -> the call that is measured."""
    video = torch.rand(1, FRAMES, 3, HEIGHT, WIDTH) * 2 - 1
    latents = torch.randn(1, FRAMES // 17 * 3, vae.params.z_channels, HEIGHT // 16, WIDTH // 16)

    def sliced(keep: Keep) -> None:
        for _ in vae.decode_chunks(latents, keep=keep):
            pass

    return {
        "encode_1": partial(vae.encode_moments, video[:, :1]),
        f"encode_{FRAMES}": partial(vae.encode_moments, video),
        f"decode_{FRAMES}": partial(vae.decode, latents),
        "decode_17": partial(vae.decode, latents[:, :3]),
        **{f"decode_{FRAMES}_{keep}": partial(sliced, keep) for keep in Keep},
    }


def clocked(call: Callable[[], object]) -> tuple[float, float]:
    """Processor and wall seconds of one call."""
    processor, wall = time.process_time(), time.perf_counter()
    call()
    return time.process_time() - processor, time.perf_counter() - wall


@torch.inference_mode()
def main() -> None:
    """Measure, print, append."""
    parser = argparse.ArgumentParser(description="The VAE at nano sizes")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--z-channels", type=int, default=8)
    parser.add_argument("--res-blocks", type=int, default=2)
    asked = parser.parse_args()
    vae = VAE(VAEParams(asked.z_channels, WIDTHS, WIDTHS, WIDTHS[0], asked.res_blocks, norm_groups=8)).eval()
    calls = vae_calls(vae)
    matmul = partial(torch.mm, *torch.randn(2, MATRIX, MATRIX))
    products = [clocked(matmul)[0] for _ in range(20)]
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(asked.repeats):
        for name, call in calls.items():
            times[name].append(clocked(call))
            products += [clocked(matmul)[0] for _ in range(5)]
    speed = 2 * MATRIX**3 / min(products)
    print(f"floor: {speed / 1e9:.1f} GFLOP per processor second, float32, {torch.get_num_threads()} threads")
    rows = {}
    for name, call in calls.items():
        flops = flops_of(call)
        with LiveBytes() as live:
            call()
        seconds = min(processor for processor, _ in times[name])
        rows[name] = {
            "percent_of_floor": round(100 * flops / speed / seconds, 1),
            "processor_seconds": round(seconds, 3),
            "wall_seconds": round(min(wall for _, wall in times[name]), 3),
            "gflop": round(flops / 1e9, 1),
            "peak_mib": round(live.peak / 2**20, 1),
        }
        row = rows[name]
        print(f"{row['percent_of_floor']:5.1f} % of floor  {name:24s} {seconds:8.3f} s  {row['peak_mib']:8.1f} MiB")
    # A whole decode takes all chunks at once, as training does: the peak to compare with is that of one chunk.
    whole, one_chunk, slices = (rows[f"decode_{end}"] for end in (FRAMES, 17, f"{FRAMES}_slices_of_1"))
    compared = {
        "slices_over_whole_seconds": round(slices["processor_seconds"] / whole["processor_seconds"], 3),
        "whole_over_slices_peak": round(one_chunk["peak_mib"] / slices["peak_mib"], 2),
    }
    print(f"slices of 1 against the whole: {compared}")
    print(keep_line(RESULTS, machine() | {"floor_gflops": round(speed / 1e9, 1), "rows": rows} | compared))


if __name__ == "__main__":
    main()
