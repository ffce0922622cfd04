"""The CUDA path at full size without a GPU: fake CUDA tensors of a CUDA build of PyTorch, which have no memory.

    python tests/bench/fake_gpu.py [--cases step_51 ...]     with a CUDA build of torch; CLIP needs transformers too

The program's own loops run with both texts of the longest kind: a denoising step, Step-LLM, CLIP, the VAE. Operators
that mix devices or ask the GPU for a value fail as they would wait there; copies between RAM and device are counted by
where they happen. live: bytes alive at once; reserved: what PyTorch's allocator would take for them, by its own rules
(tests/memory/planning/reserved.py); planned: the planner's activations with its slack. Weights are not counted. PyTorch
asks the card which attention it has: here it is flash, and the memory-efficient one for wide heads. Not seen: what
libraries take inside an operator. One line per case goes to tests/bench/results/fake_gpu.jsonl, a table
last; 1 where a case takes more than planned or copies within its loop.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from models import cost, kernels  # noqa: E402
from models.clip_config import CLIP_TOKENS, ClipParams  # noqa: E402
from models.geometry import VideoShape  # noqa: E402
from models.layers import TextKV  # noqa: E402
from models.step_llm import StepLLM, StepLLMParams  # noqa: E402
from models.transformer import Transformer, TransformerParams  # noqa: E402
from models.vae import VAE  # noqa: E402
from studio.memory.plan import Budgets, Plan, TextPlan  # noqa: E402
from studio.memory.planning import peaks, planner  # noqa: E402
from studio.memory.planning.footprint import Architecture, ModelSizes  # noqa: E402
from studio.memory.planning.speeds import ASSUMED  # noqa: E402
from studio.memory.sessions import TransformerSession, VAESession  # noqa: E402
from studio.memory.texts import Condition  # noqa: E402
from studio.units import GB  # noqa: E402
from tests.bench.bench_networks import keep_line, machine  # noqa: E402
from tests.memory.planning.reserved import ReservedBytes  # noqa: E402
from tests.models.fake_cuda import _attention as kernel_attention  # noqa: E402
from tests.models.fake_cuda import on_fake_cuda  # noqa: E402
from tests.models.live_bytes import LiveBytes  # noqa: E402

RESULTS = ROOT / "tests" / "bench" / "results" / "fake_gpu.jsonl"
HEIGHT, WIDTH = 544, 992
CUDA = torch.device("cuda")
BLOCKS = 3  # of a pass: the same block each time, since all are alike
COLUMNS = ("case", "live_gb", "reserved_gb", "planned_gb", "share", "copies", "attention", "seconds")
Work = Callable[[], object]


class Copies(TorchDispatchMode):
    """Counts copies between RAM and device, and the attention operators that PyTorch chose."""

    def __init__(self) -> None:
        super().__init__()
        self.between: Counter[str] = Counter()
        self.attention: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs the operator, then compares the devices of what it read and wrote."""
        result = func(*args, **(kwargs or {}))
        name = func.__name__.split(".")[0]
        devices = {leaf.device.type for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor) and leaf.ndim}
        written = {leaf.device.type for leaf in tree_leaves(result) if isinstance(leaf, Tensor)}
        if devices and written - devices or name == "copy_" and len(devices) > 1:
            self.between[f"{name} to {written.pop()}"] += 1
        if "attention" in name:
            self.attention.add(name.strip("_"))
        return result


class Kernels(TorchFunctionMode):
    """Attention without a bias as the operator of a card's kernel, for which PyTorch would build the square without a
    card; and the sums of a norm."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs the function or the kernel's operator."""
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and kwargs.get("attn_mask") is None:
            return kernel_attention(*args, causal=kwargs.get("is_causal", False))
        if func is torch.batch_norm_update_stats:  # PyTorch has no fake kernel of it
            return tuple(args[0].new_empty(args[0].shape[1], dtype=torch.float32) for _ in range(2))
        return func(*args, **kwargs)


class OneBlock:
    """Stands for a StreamedNetwork: one block on the device is every block of a pass. `texts` stands for KeptTexts."""

    def __init__(self, body: Transformer, block: nn.Module, texts: "Texts | None", copies: Copies) -> None:
        self.body, self.texts, self._block, self._copies = body, texts, block, copies
        self.copied_within = 0

    def blocks(self, *, last: bool = False) -> Iterator[tuple[int, nn.Module]]:
        """The pass; notes what was copied between RAM and device while it lasts."""
        before = self._copies.between.total()
        for index in range(BLOCKS):
            yield index, self._block
        self.copied_within += self._copies.between.total() - before


class Texts:
    """Keys and values by text and block, computed before."""

    def __init__(self, kept: list[list[TextKV]]) -> None:
        self._kept = kept

    def keep(self, *_: Any, **__: Any) -> None:
        """All are kept."""

    def blocks(self, texts: Any) -> list[list[TextKV]]:
        """Of the first texts."""
        return self._kept[: len(texts)]


def meta(build: Callable[[], Any]) -> Any:
    """A network without memory, then on the fake device in bfloat16."""
    with torch.device("meta"):
        module = build()
    with CUDA:
        return on_fake_cuda(module)


def measured(work: Work, copies: Copies, planned: float) -> dict[str, Any]:
    """Runs the work twice, as steps follow each other; peaks of both."""
    with Kernels(), copies, LiveBytes() as live, ReservedBytes() as memory:
        work()
        work()
    return {
        "live_gb": round(live.peak / GB, 3),
        "reserved_gb": round(memory.reserved / GB, 3),
        "planned_gb": round(planned / GB, 3),
        "share": round(memory.reserved / planned, 3),
        "copies": dict(copies.between),
        "attention": sorted(copies.attention),
        "fits": memory.reserved <= planned,
    }


def step(frames: int, *, image: bool = False, kept: bool = False, conditions: int = 2) -> dict[str, Any]:
    """A denoising step by TransformerSession, from latents in RAM."""
    video = VideoShape(frames, HEIGHT, WIDTH)
    params = TransformerParams(takes_image=image, takes_motion_score=image)
    sizes = ModelSizes.of(Architecture(transformer=params), torch.bfloat16)
    plan = planner.plan_run(peaks.PlanRequest(sizes, video, Budgets(1 << 40, 1 << 40), ASSUMED["cuda"]))
    texts = TextPlan(sizes.kept_text_bytes(conditions), "direct") if kept else None
    plan = replace(plan, transformer=replace(plan.transformer, texts=texts))
    with FakeTensorMode(), torch.no_grad(), patch.object(kernels, "TRITON", False):
        body, copies = meta(partial(Transformer, replace(params, layers=1))), Copies()
        network: Any = OneBlock(body, body.transformer_blocks[0], _kept(body, conditions) if kept else None, copies)
        retry = lambda work: work(plan)  # noqa: E731
        session = TransformerSession(lambda _: network, CUDA, retry, params)
        given = [_condition(params) for _ in range(conditions)]
        latents = torch.empty(video.latent_shape(params.in_channels))
        extra = {"image_latents": latents.clone(), "motion_score": 5.0} if image else {}

        def run() -> None:
            found = session.velocities(latents, 0.5, given, **extra)
            assert [(each.shape, each.device.type) for each in found] == [(latents.shape, "cpu")] * conditions

        planned = sizes.denoise_bytes(video, conditions) * (1 + peaks.ALLOCATOR_SLACK["cuda"])
        row = measured(run, copies, planned)
    return row | {"copied_within": network.copied_within}


def _condition(params: TransformerParams) -> Condition:
    return Condition(
        torch.empty(1, cost.PROMPT_TOKENS, params.llm_width), torch.empty(1, CLIP_TOKENS, params.clip_width)
    )


def _kept(body: Transformer, conditions: int) -> Texts:
    context = torch.empty(1, cost.CONTEXT_TOKENS, body.params.width, dtype=torch.bfloat16, device=CUDA)
    block: Any = body.transformer_blocks[0]
    return Texts([[block.attn2.kv(context) for _ in range(BLOCKS)] for _ in range(conditions)])


def step_llm() -> dict[str, Any]:
    """Both texts through some layers."""
    sizes = ModelSizes.of(Architecture(), torch.bfloat16)
    with FakeTensorMode(), torch.no_grad(), patch.object(kernels, "TRITON", False):
        llm: Any = meta(partial(StepLLM, StepLLMParams(layers=BLOCKS)))
        ids = [torch.zeros(1, cost.PROMPT_TOKENS, dtype=torch.long) for _ in range(2)]

        def run() -> None:
            states = [llm(each.to(CUDA)) for each in ids]
            assert {state.cpu().shape for state in states} == {(1, cost.PROMPT_TOKENS, llm.params.width)}

        working = sizes.prompt_bytes() * (1 + peaks.ALLOCATOR_SLACK["cuda"]) + peaks.WORKSPACE_BYTES["cuda"]
        return measured(run, Copies(), working)


def clip() -> dict[str, Any]:
    """Both texts, in float32."""
    from models.clip import ClipText

    with FakeTensorMode(), torch.no_grad(), patch.object(kernels, "TRITON", False):
        with torch.device("meta"):
            tower: Any = ClipText(ClipParams())
        with CUDA:
            on_fake_cuda(tower, torch.float32)
        ids, mask = torch.zeros(1, CLIP_TOKENS, dtype=torch.long), torch.ones(1, CLIP_TOKENS, dtype=torch.long)

        def run() -> None:
            found = tower(ids.to(CUDA), mask.to(CUDA))
            assert found.cpu().shape[:2] == (1, CLIP_TOKENS)

        return measured(run, Copies(), peaks.WORKSPACE_BYTES["cuda"])


def decode(compact: bool) -> dict[str, Any]:
    """Two chunks of a video by VAESession, of which every frame goes to RAM."""
    video, sizes = VideoShape(34, HEIGHT, WIDTH), ModelSizes.of(Architecture(), torch.bfloat16)
    plan = planner.plan_run(peaks.PlanRequest(sizes, video, Budgets(1 << 40, 1 << 40), ASSUMED["cuda"]))
    no_streams = patch.multiple(torch.cuda, Event=MagicMock, current_stream=lambda device: None)
    with FakeTensorMode(), torch.no_grad(), patch.object(kernels, "TRITON", False), no_streams:
        session = _vae_session(replace(plan, compact_decode=compact))
        latents = torch.empty(video.latent_shape(64))

        def run() -> None:
            assert sum(len(piece) for piece in session.decode_chunks(latents)) == video.frames

        planned = sizes.decode_bytes(video, compact=compact) * (1 + peaks.DECODE_GAP)
        return measured(run, Copies(), planned)


def encode_image() -> dict[str, Any]:
    """The first image by VAESession."""
    video, sizes = VideoShape(17, HEIGHT, WIDTH), ModelSizes.of(Architecture(), torch.bfloat16)
    plan = planner.plan_run(peaks.PlanRequest(sizes, video, Budgets(1 << 40, 1 << 40), ASSUMED["cuda"]))
    with FakeTensorMode(), torch.no_grad(), patch.object(kernels, "TRITON", False):
        session, image = _vae_session(plan), torch.empty(1, 1, 3, HEIGHT, WIDTH)

        def run() -> None:
            assert session.encode_image(image).shape == (1, 1, 64, HEIGHT // 16, WIDTH // 16)

        return measured(run, Copies(), sizes.encode_image_bytes(video) * (1 + peaks.ENCODE_GAP))


def _vae_session(plan: Plan) -> VAESession:
    vae = meta(VAE)
    return VAESession(lambda: vae, CUDA, torch.bfloat16, lambda work: work(plan))


CASES: dict[str, Callable[[], dict[str, Any]]] = {
    **{f"step_{frames}": partial(step, frames) for frames in (17, 51, 102, 204)},
    "step_51_one_condition": partial(step, 51, conditions=1),
    **{f"step_{frames}_texts_kept": partial(step, frames, kept=True) for frames in (51, 204)},
    **{f"step_{frames}_ti2v": partial(step, frames, image=True) for frames in (51, 204)},
    "step_llm": step_llm,
    "clip": clip,
    "encode_image": encode_image,
    "decode": partial(decode, False),
    "decode_compact": partial(decode, True),
}


def main() -> int:
    """Run the cases, keep their lines, print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    if torch.version.cuda is None:
        print("This torch has no CUDA: nothing was run.")
        return 1
    rows = []
    for name in options.cases:
        if name == "clip" and find_spec("transformers") is None:
            print("clip: transformers is not installed")
            continue
        began = time.monotonic()
        row = {"case": name} | CASES[name]() | {"seconds": round(time.monotonic() - began, 1)}
        rows.append(row)
        keep_line(options.results, machine() | row)
        print(" | ".join(str(row.get(column, "")) for column in COLUMNS), flush=True)
    wrong = [row["case"] for row in rows if not row["fits"] or row.get("copied_within")]
    print(f"more than planned, or copies within the loop: {', '.join(wrong) or 'none'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
