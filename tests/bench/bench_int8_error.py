"""What int8 weights cost in accuracy, at the public width: one transformer block of 604 million parameters, on any CPU.

    python tests/bench/bench_int8_error.py

The relative error of a block's update (output - input) against float32, for normal weights (limit: 2 %) and for weights
with heavy tails (Student's t, 4 degrees of freedom), whose limit is 1.1 times the error of bitsandbytes' own round trip
of the same weights. Also how fast the codes are made. A line goes to tests/bench/results/int8_error.jsonl.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import bitsandbytes as bnb
import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from models.quantized import int8_block  # noqa: E402
from models.rope import rope_tables  # noqa: E402
from models.transformer import Block, Hidden, TransformerParams  # noqa: E402
from tests.bench.bench_networks import keep_line, machine  # noqa: E402
from tests.models.cases import scratch_for  # noqa: E402

RESULTS = ROOT / "tests" / "bench" / "results" / "int8_error.jsonl"
GRID = (3, 4, 6)
PIECE = 1 << 24


def normal(weight: Tensor) -> None:
    """Unit outputs from unit inputs."""
    weight.normal_(0, weight.shape[1] ** -0.5)


def heavy(weight: Tensor) -> None:
    """The same scale, divided by the root of a mean of four squares: Student's t."""
    normal(weight)
    for piece in weight.view(-1).split(PIECE):
        squares = sum(torch.randn_like(piece).square_() for _ in range(4))
        piece.div_(squares.div_(4).sqrt_())


def hidden_for(params: TransformerParams) -> Hidden:
    """The same input for every variant."""
    generator = torch.Generator().manual_seed(5)
    count = GRID[0] * GRID[1] * GRID[2]

    def make(*shape: int) -> Tensor:
        return torch.randn(1, *shape, generator=generator)

    rope = rope_tables(GRID, params.head_dim)
    width = params.width
    return Hidden(make(count, width), make(width), make(6, width), make(97, width), rope, GRID)


def update(block: nn.Module, params: TransformerParams) -> Tensor:
    """What the block adds to its tokens."""
    hidden = hidden_for(params)
    before = hidden.tokens.clone()
    block(hidden)
    return hidden.tokens - before


def measure(fill: Callable[[Tensor], None]) -> dict[str, float]:
    """Errors of one kind of weights: bitsandbytes' round trip, then ours from the same weights."""
    torch.manual_seed(0)
    params = TransformerParams(layers=1)
    block = Block(params).requires_grad_(False)
    linears = [layer for layer in block.modules() if isinstance(layer, nn.Linear)]
    for layer in linears:
        fill(layer.weight)
    reference = update(block, params)
    own = [weight.clone() for weight in (layer.weight for layer in linears)]
    for layer in linears:
        codes, absmax, _ = bnb.functional.int8_vectorwise_quant(layer.weight.half())
        layer.weight.copy_(codes).mul_((absmax / 127)[:, None])
    theirs = update(block, params)
    for layer, weight in zip(linears, own, strict=True):
        layer.weight.copy_(weight)
    del own
    began = time.perf_counter()
    int8_block(block)
    seconds = time.perf_counter() - began
    int8_block(block, scratch_for(block))
    ours = update(block, params)
    size = reference.norm()
    errors = {"row_wise_int8": (theirs - reference).norm() / size, "ours": (ours - reference).norm() / size}
    return {name: round(error.item(), 6) for name, error in errors.items()} | {"quantise_seconds": round(seconds, 2)}


@torch.inference_mode()
def main() -> None:
    """Measure, print, append."""
    rows = {fill.__name__: measure(fill) for fill in (normal, heavy)}
    for name, row in rows.items():
        print(name, row)
    print(keep_line(RESULTS, machine() | {"width": TransformerParams().width, "rows": rows}))


if __name__ == "__main__":
    main()
