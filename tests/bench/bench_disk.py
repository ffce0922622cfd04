"""A generation from disk in little RAM: ours, accelerate's disk offload, diffusers' group offloading to disk.

    python tests/bench/bench_disk.py [--folder DIR] [--steps 2] [--variants ours accelerate diffusers]

One synthetic checkpoint (6 GB, all four networks, float32), one workload: two texts through LLM and CLIP, the denoising
steps with guidance, the decoding. Every variant runs in a process of its own with the page cache dropped before it.
Peaks are above what the process had after its imports: `peak_mb` is VmHWM, which includes mapped files; `anon_mb` is
anonymous memory, sampled. Rivals stream the transformer's blocks and the LLM's layers and keep the rest, as ours does;
they run both halves of guidance as one batch. The last line of stdout is one JSON document, also appended to
tests/bench/results/disk.jsonl.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from models.checkpoint import build, load_clip, load_vae  # noqa: E402
from models.geometry import VideoShape  # noqa: E402
from models.layout import LAYOUT  # noqa: E402
from studio.memory import usage as budget  # noqa: E402
from studio.memory.manager import Condition, MemoryManager  # noqa: E402
from studio.memory.plan import Budgets, RuntimeConfig  # noqa: E402
from tests.bench.bench_networks import keep_line, machine  # noqa: E402
from tests.memory.big_model import drop_page_cache, write_big  # noqa: E402

RESULTS = ROOT / "tests" / "bench" / "results" / "disk.jsonl"
CPU = torch.device("cpu")
VIDEO = VideoShape(17, 96, 160)
RAM_BYTES = 3 << 29  # 1.5 GB, the promise
PARTS = ("transformer", "step_llm", "clip", "vae")
TEXTS = [torch.arange(40)[None] % 13 + 3, torch.arange(17)[None] % 13 + 3]  # ids of 16 words, as the checkpoint has
CLIP_TEXT = (torch.arange(77)[None] % 9, (torch.arange(77) < 20).long()[None])
MOTION = 5.0


def noise() -> Tensor:
    shape = (1, VIDEO.latent_frames, 16, VIDEO.latent_height, VIDEO.latent_width)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def guided(first: Tensor, second: Tensor) -> Tensor:
    return second + 4.0 * (first - second)


def run_ours(folder: Path, steps: int, scratch: Path) -> Tensor:
    budgets = Budgets(vram_bytes=0, ram_bytes=RAM_BYTES + budget.process_ram())
    memory = MemoryManager(dict.fromkeys(PARTS, folder), RuntimeConfig(CPU, torch.float32, budgets, offload="disk"))
    prompts = memory.step_llm(TEXTS)
    conditions = [Condition(*pair) for pair in zip(prompts, memory.clip([CLIP_TEXT] * 2), strict=True)]
    latents = noise()
    with memory.transformer(VIDEO) as transformer:
        for step in range(steps):
            image = torch.zeros_like(latents)
            velocities = transformer.velocities(
                latents, step / steps, conditions, image_latents=image, motion_score=MOTION
            )
            latents = latents + guided(*velocities) / steps
    with memory.vae(VIDEO) as vae:
        for _ in vae.decode_chunks(latents):
            pass
    memory.release()
    return latents


def run_rival(folder: Path, steps: int, scratch: Path, offload: Callable[[Path, str, Path], nn.Module]) -> Tensor:
    """The same work with plain networks that a library offloads."""
    llm = offload(folder, "step_llm", scratch)
    prompts = [llm(ids) for ids in TEXTS]
    del llm
    clip = load_clip(folder)(*CLIP_TEXT)
    length = max(prompt.shape[1] for prompt in prompts)
    embeds = torch.cat([nn.functional.pad(prompt, (0, 0, 0, length - prompt.shape[1])) for prompt in prompts])
    mask = torch.stack([torch.arange(77 + length) < 77 + prompt.shape[1] for prompt in prompts])
    transformer = offload(folder, "transformer", scratch)
    latents = noise()
    for step in range(steps):
        both, time_ = latents.expand(2, *latents.shape[1:]), torch.full((2,), step / steps)
        image = torch.zeros_like(both)
        first, second = transformer(both, time_, embeds, clip.expand(2, -1, -1), mask, image, MOTION).split(1)
        latents = latents + guided(first, second) / steps
    del transformer
    for _ in load_vae(folder).decode_chunks(latents):
        pass
    return latents


def with_accelerate(folder: Path, component: str, scratch: Path) -> nn.Module:
    from accelerate import load_checkpoint_and_dispatch

    module, files = build(folder, component)
    place = folder / LAYOUT[component].folder
    units = {"transformer": "transformer_blocks", "step_llm": "transformer"}[component]
    device_map: dict[str, Any] = {name: "cpu" for name, _ in module.named_children()}
    device_map |= {name: "cpu" for name, _ in module.named_parameters(recurse=False)} | {units: "disk"}
    index = place / f"{LAYOUT[component].weights[0]}.index.json"
    return load_checkpoint_and_dispatch(module, index, device_map, offload_folder=scratch / component).eval()


def with_diffusers(folder: Path, component: str, scratch: Path) -> nn.Module:
    from diffusers.hooks import apply_group_offloading
    from safetensors.torch import load_file

    module, files = build(folder, component)
    tensors: dict[str, Tensor] = {}
    for path in files.files:
        tensors |= load_file(path)
    module.load_state_dict(tensors, assign=True)
    del tensors
    apply_group_offloading(
        module if component == "transformer" else module.transformer,
        onload_device=CPU,
        offload_device=CPU,
        offload_type="block_level",
        num_blocks_per_group=1,
        use_stream=False,
        offload_to_disk_path=str(scratch / component),
    )
    return module.eval()


def run_accelerate(folder: Path, steps: int, scratch: Path) -> Tensor:
    return run_rival(folder, steps, scratch, with_accelerate)


def run_diffusers(folder: Path, steps: int, scratch: Path) -> Tensor:
    return run_rival(folder, steps, scratch, with_diffusers)


VARIANTS = {"ours": run_ours, "accelerate": run_accelerate, "diffusers": run_diffusers}


@contextmanager
def sampled_anonymous(every: float = 0.01) -> Iterator[list[int]]:
    """The largest anonymous + shared memory seen, in a list of one."""
    seen, done = [budget.process_ram()], threading.Event()

    def sample() -> None:
        while not done.wait(every):
            seen[0] = max(seen[0], budget.process_ram())

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def measure(name: str, folder: Path, steps: int) -> dict[str, Any]:
    """In a process of its own: one variant's seconds and peaks above its imports."""
    import models.clip  # noqa: F401 - with transformers, part of every variant's imports

    if name == "accelerate":
        import accelerate  # noqa: F401
    if name == "diffusers":
        import diffusers.hooks  # noqa: F401
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch, torch.inference_mode():
        budget.reset_peaks(CPU)
        before = status("VmRSS"), budget.process_ram()
        began = time.perf_counter()
        with sampled_anonymous() as seen:
            latents = VARIANTS[name](folder, steps, Path(scratch))
        seconds = time.perf_counter() - began
    return {
        "seconds": round(seconds, 2),
        "peak_mb": (status("VmHWM") - before[0]) >> 20,
        "anon_mb": (seen[0] - before[1]) >> 20,
        "checksum": float(latents.double().sum()),
    }


def status(field: str) -> int:
    """A line of /proc/self/status in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def measured_apart(name: str, folder: Path, steps: int) -> dict[str, Any]:
    """`measure` in a new process with the page cache dropped."""
    drop_page_cache(folder)
    command = [sys.executable, __file__, "--child", name, "--folder", str(folder), "--steps", str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, help="keep the checkpoint here and use it again")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--child", choices=VARIANTS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.child, options.folder, options.steps)))
        return
    folder = options.folder or Path(tempfile.mkdtemp(prefix="bench-disk-")) / "model"
    try:
        if not folder.exists():
            write_big(folder)
        size = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
        rows = {}
        for name in options.variants:
            rows[name] = measured_apart(name, folder, options.steps)
            print(name, rows[name], flush=True)
    finally:
        if not options.folder:
            shutil.rmtree(folder.parent)
    print(keep_line(RESULTS, {**machine(), "checkpoint_bytes": size, "steps": options.steps, "rows": rows}))


if __name__ == "__main__":
    main()
