"""Cold start: from files the page cache has forgotten to the first block's output, and to the end of the first step.

    python tests/bench/bench_cold.py [--folder DIR] [--repeats 3]

Rows, each in a process of its own: ours with every block resident and ours from disk; the copying default (load_file,
load_state_dict) into an initialised network; load_file with assign=True into a meta network, which maps the files.
Files are written back and dropped before each run (fsync, POSIX_FADV_DONTNEED), which mincore confirms. Peaks are
VmHWM above the process's imports, mapped files included. The best of the repeats counts, since other work only ever
makes a run slower. The last line of stdout is one JSON document, also appended to tests/bench/results/cold.jsonl.
"""

import argparse
import ctypes
import json
import mmap
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from models.checkpoint import build_transformer  # noqa: E402
from models.geometry import VideoShape  # noqa: E402
from models.transformer import Transformer, TransformerParams  # noqa: E402
from studio.memory import usage as budget  # noqa: E402
from studio.memory.manager import Condition, MemoryManager  # noqa: E402
from studio.memory.plan import Budgets, RuntimeConfig  # noqa: E402
from tests.bench.bench_disk import CPU, MOTION, PARTS, status  # noqa: E402
from tests.bench.bench_networks import keep_line, machine  # noqa: E402
from tests.memory.big_model import BIG, drop_page_cache, write_big  # noqa: E402

RESULTS = ROOT / "tests" / "bench" / "results" / "cold.jsonl"
VIDEO = VideoShape(17, 64, 96)
RAM_BYTES = 16 << 30
Mark = Callable[[], None]


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Latents, prompt and CLIP embeddings."""
    shape = (1, VIDEO.latent_frames, BIG.latent_channels, VIDEO.latent_height, VIDEO.latent_width)
    return torch.randn(shape), torch.randn(1, 20, BIG.llm_width), torch.randn(1, 77, BIG.clip_width)


def ours(folder: Path, mark: Mark, *, offload: str) -> None:
    budgets = Budgets(vram_bytes=0, ram_bytes=RAM_BYTES)
    memory = MemoryManager(dict.fromkeys(PARTS, folder), RuntimeConfig(CPU, torch.float32, budgets, offload=offload))
    latents, prompt, clip = inputs()
    calls = 0

    def before_a_block() -> bool:
        nonlocal calls
        calls += 1
        if calls == 2:  # the first block has given its output
            mark()
        return False

    with memory.transformer(VIDEO) as transformer:
        condition = Condition(prompt, clip)
        transformer.velocities(
            latents, 0.5, [condition], image_latents=latents, motion_score=MOTION, cancelled=before_a_block
        )
        mark()


def copying(folder: Path, mark: Mark, *, assign: bool) -> None:
    from safetensors.torch import load_file

    module, files = build_transformer(folder)
    if not assign:
        module = Transformer(TransformerParams.from_config(files.config))
    tensors: dict[str, Tensor] = {}
    for path in files.files:
        tensors |= load_file(path)
    module.load_state_dict(tensors, assign=assign)
    step(module.eval(), mark)


def step(module: nn.Module, mark: Mark) -> None:
    latents, prompt, clip = inputs()
    hidden = module.embed(latents, torch.tensor([0.5]), prompt, clip, image_latents=latents, motion_score=MOTION)
    for index, block in enumerate(module.transformer_blocks):
        block(hidden)
        if index == 0:
            mark()
    module.head(hidden)
    mark()


VARIANTS: dict[str, Callable[[Path, Mark], None]] = {
    "ours_resident": partial(ours, offload="none"),
    "ours_disk": partial(ours, offload="disk"),
    "load_file_copy": partial(copying, assign=False),
    "load_file_assign": partial(copying, assign=True),
}


def measure(name: str, folder: Path) -> dict[str, Any]:
    """In a process of its own."""
    import safetensors.torch  # noqa: F401 - part of the imports, not of the load

    torch.set_num_threads(1)
    budget.reset_peaks(CPU)
    before, began = status("VmRSS"), time.perf_counter()
    marks: list[tuple[float, int]] = []

    def mark() -> None:
        marks.append((time.perf_counter() - began, status("VmHWM") - before))

    with torch.inference_mode():
        VARIANTS[name](folder, mark)
    (block_seconds, block_peak), (step_seconds, step_peak) = marks
    return {
        "first_block_seconds": round(block_seconds, 3),
        "first_block_peak_mb": block_peak >> 20,
        "first_step_seconds": round(step_seconds, 3),
        "first_step_peak_mb": step_peak >> 20,
    }


def resident_pages(folder: Path) -> float:
    """The share of the files' pages that the page cache holds, by mincore."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)
    held = pages = 0
    for path in folder.rglob("*.safetensors"):
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
            count = -(-len(mapped) // mmap.PAGESIZE)
            vector = ctypes.create_string_buffer(count)
            view = (ctypes.c_char * 1).from_buffer(mapped)
            if libc.mincore(ctypes.addressof(view), len(mapped), vector):
                raise OSError(ctypes.get_errno(), "mincore failed")
            del view
            held, pages = held + sum(byte & 1 for byte in vector.raw), pages + count
    return held / pages


def measured_apart(name: str, folder: Path) -> dict[str, Any]:
    """`measure` in a new process, the files dropped from the page cache before."""
    drop_page_cache(folder)
    cached = resident_pages(folder)
    if cached > 0.01:
        raise RuntimeError(f"{cached:.0%} of the files are still in the page cache")
    command = [sys.executable, __file__, "--child", name, "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    return {**json.loads(done.stdout.splitlines()[-1]), "cached_before": round(cached, 4)}


def best(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Field by field, the least."""
    return {field: min(row[field] for row in rows) for field in rows[0]}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, help="keep the checkpoint here and use it again")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", choices=VARIANTS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.child, options.folder)))
        return
    folder = options.folder or Path(tempfile.mkdtemp(prefix="bench-cold-")) / "model"
    try:
        if not folder.exists():
            write_big(folder)
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in VARIANTS}
        for _ in range(options.repeats):
            for name in VARIANTS:
                runs[name].append(measured_apart(name, folder))
                print(name, runs[name][-1], flush=True)
    finally:
        if not options.folder:
            shutil.rmtree(folder.parent)
    rows = {name: best(found) for name, found in runs.items()}
    ours_row, copy_row = rows["ours_resident"], rows["load_file_copy"]
    ratios = {
        "times_sooner": round(copy_row["first_block_seconds"] / ours_row["first_block_seconds"], 2),
        "share_of_peak": round(ours_row["first_block_peak_mb"] / copy_row["first_block_peak_mb"], 3),
    }
    print(keep_line(RESULTS, {**machine(), "repeats": options.repeats, "rows": rows, **ratios}))


if __name__ == "__main__":
    main()
