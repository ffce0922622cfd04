"""models, memory and the GPU tests start where torch, numpy, safetensors, psutil and pytest alone are installed."""

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRESENT = ("torch", "numpy", "safetensors", "psutil", "pytest")

# Runs in a process of its own. The GPU tests are imported and collected; what their fixtures do is run on the CPU.
PROGRAM = """
import sys
for name in {hidden!r}:
    sys.modules[name] = None
import importlib, pathlib, pytest
for path in sorted([*pathlib.Path("models").glob("*.py"), *pathlib.Path("studio/memory").rglob("*.py")]):
    if path.stem not in ("clip", "clip_pair", "tokenizers"):
        importlib.import_module(".".join(path.with_suffix("").parts).removesuffix(".__init__"))
import torch
from tests.bench import bench_stream, first_gpu
from tests.memory import big_model, test_gpu, tiny_model
torch.set_num_threads(1)
folder = tiny_model.write_model(pathlib.Path(sys.argv[1]))
with torch.inference_mode():
    latents, frames = tiny_model.generate(tiny_model.open_manager(folder))
    wanted, _ = tiny_model.slow_twin(folder, torch.float32)
assert torch.equal(latents, wanted) and len(frames) == 17
sys.exit(pytest.main(["tests/memory/test_gpu.py", "-m", "gpu", "--collect-only", "-q", "-o", "addopts="]))
"""


def needed(names: tuple[str, ...]) -> set[str]:
    """These distributions and all that they require, extras apart; normalised names."""
    found, waiting = set(), list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        found.add(name)
        try:
            lines = requires(name) or []
        except PackageNotFoundError:  # for another system or version of Python
            continue
        waiting += [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in lines if "extra ==" not in line]
    return found


def test_the_gpu_tests_start_with_four_packages(tmp_path):
    kept = needed(PRESENT)
    hidden = sorted(
        name
        for name, distributions in packages_distributions().items()
        if name.isidentifier()
        and not {re.sub(r"[-_.]+", "-", each).lower() for each in distributions} & kept
        and name not in sys.stdlib_module_names
    )
    assert {"omegaconf", "transformers", "imageio_ffmpeg", "gradio", "PIL"} <= set(hidden)
    command = [sys.executable, "-c", PROGRAM.format(hidden=hidden), str(tmp_path)]
    environment = {"PATH": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "test_every_plan_gives_the_bits_of_all_resident" in done.stdout
