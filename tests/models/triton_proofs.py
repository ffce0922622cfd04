"""What Triton proves of models/kernels without a GPU: run under an interpreter of Python that has it.

`python -m tests.models.triton_proofs interpret` runs the kernels on CPU tensors in Triton's interpreter, in float32 (it
truncates where a GPU rounds to bfloat16), against their plain twins, and counts what they load and store.
`... compile` compiles them for GPUs that are not here and counts the width of their loads. Both print JSON. They need
processes of their own: the interpreter is chosen when Triton is imported.
"""

import json
import os
import re
import sys
from types import SimpleNamespace
from typing import Any

MODE = sys.argv[1] if __name__ == "__main__" else "compile"
if MODE == "interpret":
    os.environ["TRITON_INTERPRET"] = "1"

import numpy as np  # noqa: E402
import torch  # noqa: E402
import triton  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from models.kernels import heads, modulated_norm, moments, scaled  # noqa: E402
from models.rope import rope_tables  # noqa: E402

CAPABILITIES = (80, 89, 90)
GRID = (3, 2, 3)  # 18 tokens: two programs of the norm are whole, one is not
POINTER, HALF_POINTER, FLOAT = "*bf16", "*fp32", "fp32"


class Counter:
    """Bytes that a kernel loads and stores under the interpreter, masked lanes apart."""

    def __init__(self) -> None:
        self.nbytes = 0

    def __enter__(self) -> "Counter":
        from triton.runtime.interpreter import interpreter_builder as builder

        self._builder, self._kept = builder, {}
        for name in ("create_masked_load", "create_masked_store", "create_load", "create_store"):
            self._kept[name] = getattr(builder, name)
            setattr(builder, name, self._counting(name, self._kept[name]))
        return self

    def __exit__(self, *_: object) -> None:
        for name in self._kept:
            delattr(self._builder, name)

    def _counting(self, name: str, run: Any) -> Any:
        def counted(pointers: Any, *given: Any) -> Any:
            if "masked" in name:  # the unmasked ones are masked ones with every lane
                mask = given[0] if "load" in name else given[1]
                element = pointers.dtype.scalar.element_ty.primitive_bitwidth // 8
                self.nbytes += int(np.count_nonzero(np.broadcast_to(mask.data, pointers.data.shape))) * element
            return run(pointers, *given)

        return counted


def random(*shape: int) -> Tensor:
    """The same for the same shape."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def error(found: Tensor, wanted: Tensor) -> float:
    """Relative, in float64."""
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


def interpreted_norm() -> dict[str, float]:
    """Two samples, slices of longer ones, a width that is no power of two."""
    width, tokens = 96, 18
    norm = nn.LayerNorm(width, eps=1e-5)
    norm.weight.copy_(1 + random(width) / 4)
    norm.bias.copy_(random(width + 1)[1:] / 4)
    x = (3 + 2 * random(2, tokens + 5, width))[:, 3 : 3 + tokens]
    shift, scale = (random(2, 6, width) / 2)[:, :, None].unbind(1)[:2]
    with Counter() as counter:
        found = modulated_norm.launch(norm.weight, norm.bias, norm.eps, x, shift, scale)
    wanted = modulated_norm.modulated_norm(norm.double(), *(y.double() for y in (x, shift, scale)))
    declared = modulated_norm.moved_bytes(2, tokens, width, 4)
    return {"error": error(found, wanted), "counted": counter.nbytes, "declared": declared}


def interpreted_heads(count: int, head_dim: int) -> dict[str, float]:
    """Two samples, written into slices of longer tensors; more heads than a tile where count is above 16."""
    tokens = 18
    projected = random(2, tokens, 3 * count * head_dim)
    scales = 1 + random(head_dim) / 4, 1 + random(head_dim + 1)[1:] / 4
    rope = rope_tables(GRID, head_dim)
    wholes = [torch.zeros(2, tokens + 7, count, head_dim) for _ in range(3)]
    with Counter() as counter:
        found = heads.launch(projected, scales, 1e-6, rope, tuple(whole[:, 4 : 4 + tokens] for whole in wholes))
    exact = tuple(x.double() for x in rope)
    wanted = heads.split_heads(projected.double(), tuple(x.double() for x in scales), 1e-6, exact)
    assert all(not whole[:, :4].any() and not whole[:, 4 + tokens :].any() for whole in wholes), (
        "written beside its part"
    )
    declared = heads.moved_bytes(2, tokens, count, head_dim, 4)
    worst = max(error(*pair) for pair in zip(found, wanted, strict=True))
    return {"error": worst, "counted": counter.nbytes, "declared": declared}


def picture(channels: int, height: int, width: int, wider: int = 1) -> Tensor:
    """(1, c, h, w), channels last, means of channels apart; wider: as a part of an image of so many times c."""
    whole = random(1, height, width, channels * wider) + 3 * random(channels * wider)
    return whole[..., -channels:].permute(0, 3, 1, 2)


def interpreted_moments(parts: int) -> dict[str, float]:
    """At most so many parts, of which the last is not whole; a bias that is still lacking."""
    moments.PARTS = parts
    image, lacking, groups = picture(128, 9, 15), random(128), 32
    with Counter() as counter:
        found = moments.launch(image, groups, lacking)
    grouped = (image + lacking[:, None, None]).double()[0].reshape(groups, -1)
    wanted = grouped.mean(1), grouped.var(1, correction=0)
    declared = moments.moved_bytes(128, groups, 9 * 15, 4)
    return {"error": max(map(error, found, wanted)), "counted": counter.nbytes, "declared": declared}


def interpreted_scaled(*, silu: bool, more: bool, wider: int) -> dict[str, float]:
    """Written into a part of a wider image where wider is above 1."""
    image, out = picture(128, 9, 15), torch.zeros(1, 9, 15, 128 * wider)[..., -128:].permute(0, 3, 1, 2)
    gain, offset, added = random(128), random(129)[1:], picture(128, 9, 15) / 2 if more else None
    with Counter() as counter:
        found = scaled.launch(image, gain, offset, silu, added, out)
    exact = [x.double() for x in (image, gain, offset)]
    wanted = scaled.scaled(*exact, silu=silu, more=added.double() if added is not None else None)
    declared = scaled.moved_bytes(128, 9 * 15, 4, more=more)
    return {"error": error(found, wanted), "counted": counter.nbytes, "declared": declared}


def launched(module: Any, kernel: str, launch: Any) -> SimpleNamespace:
    """What a launch of the program's own code gives to a kernel: positional and named arguments, the grid. No kernel of
    the module runs."""
    seen = {name: SimpleNamespace() for name in vars(module) if name.endswith("_kernel")}

    class Spy:
        def __init__(self, told: SimpleNamespace) -> None:
            self._told = told

        def __getitem__(self, grid: Any) -> Any:
            return lambda *given, **named: self._told.__dict__.update(grid=grid, given=given, named=named)

    kept = {name: getattr(module, name) for name in seen}
    for name, told in seen.items():
        setattr(module, name, Spy(told))
    try:
        launch()
    finally:
        for name, real in kept.items():
            setattr(module, name, real)
    return seen[kernel]


def compiled(kernel: Any, seen: SimpleNamespace, capability: int) -> dict[str, Any]:
    """The kernel for a card, specialised for exactly these arguments as a launch does it."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    types = {torch.bfloat16: "*bf16", torch.float32: "*fp32", int: "i32", float: "fp32"}
    names, warps = kernel.arg_names, seen.named.pop("num_warps", None) or seen.warps
    seen.warps = warps
    signature, attrs = {}, {}
    for place, value in enumerate(seen.given):
        signature[names[place]] = types[value.dtype if isinstance(value, Tensor) else type(value)]
        number = value.data_ptr() if isinstance(value, Tensor) else value
        if isinstance(number, int) and number % 16 == 0:
            attrs[(place,)] = [["tt.divisibility", 16]]
    signature |= dict.fromkeys(seen.named, "constexpr")
    source = ASTSource(fn=kernel, signature=signature, constexprs=seen.named, attrs=attrs)
    built = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": warps})
    moves = re.findall(r"(ld|st)\.global[\w.:]*?(?:\.(v\d))?\.(b\d+)\b", built.asm["ptx"])
    widths: dict[str, int] = {}
    for kind, vector, scalar in moves:
        width = int(vector[1:] or 1 if vector else 1) * int(scalar[1:]) // 8
        widths[f"{kind} {width}"] = widths.get(f"{kind} {width}", 0) + 1
    spilled = re.search(r"\.local \.align", built.asm["ptx"]) is not None
    return {"widths": widths, "cubin": len(built.asm["cubin"]), "spills": spilled}


def full_size() -> dict[str, tuple[Any, SimpleNamespace]]:
    """The launches of a block at public width, of the second chunk of a video's tokens."""
    width, count, head_dim, chunk = 6144, 48, 128, slice(4096, 4096 + 4000)
    tokens = torch.empty(1, 9000, width, dtype=torch.bfloat16)
    norm = nn.LayerNorm(width, dtype=torch.bfloat16)
    shift, scale = torch.empty(1, 6, 1, width, dtype=torch.bfloat16).unbind(1)[:2]
    rope = tuple(torch.empty(9000, 1, head_dim)[chunk] for _ in range(2))
    wholes = [torch.empty(1, 9000, count, head_dim, dtype=torch.bfloat16)[:, chunk] for _ in range(3)]
    projected = torch.empty(1, 4000, 3 * width, dtype=torch.bfloat16)
    scales = tuple(torch.empty(head_dim, dtype=torch.bfloat16) for _ in range(2))
    norm_launch = launched(
        modulated_norm,
        "modulated_norm_kernel",
        lambda: modulated_norm.launch(norm.weight, norm.bias, 1e-5, tokens[:, chunk], shift, scale),
    )
    heads_launch = launched(heads, "heads_kernel", lambda: heads.launch(projected, scales, 1e-6, rope, tuple(wholes)))
    frame = torch.empty(1, 544, 992, 128, dtype=torch.bfloat16).permute(0, 3, 1, 2)
    window = torch.empty(1, 544, 992, 384, dtype=torch.bfloat16)[..., 128:256].permute(0, 3, 1, 2)
    gain, bias = torch.empty(128), torch.empty(128, dtype=torch.bfloat16)
    moments_launch = launched(moments, "moments_kernel", lambda: moments.launch(frame, 32, bias))
    joined_launch = launched(moments, "joined_kernel", lambda: moments.launch(frame, 32, bias))
    scaled_launch = launched(scaled, "scaled_kernel", lambda: scaled.launch(frame, gain, gain, True, frame, window))
    return {
        "moments": (moments.moments_kernel, moments_launch),
        "joined moments": (moments.joined_kernel, joined_launch),
        "scaled": (scaled.scaled_kernel, scaled_launch),
        "modulated_norm": (modulated_norm.modulated_norm_kernel, norm_launch),
        "heads": (heads.heads_kernel, heads_launch),
    }


@torch.no_grad()
def main() -> None:
    """Prints what was proven as JSON."""
    if MODE == "interpret":
        told: dict[str, Any] = {"modulated_norm": interpreted_norm()}
        told |= {f"heads {count} x {width}": interpreted_heads(count, width) for count, width in ((3, 128), (20, 64))}
        told["moments, 5 parts"] = interpreted_moments(9)
        told["moments, 2 parts of 3 steps"] = interpreted_moments(2)
        told["scaled"] = interpreted_scaled(silu=False, more=True, wider=1)
        told["scaled silu"] = interpreted_scaled(silu=True, more=False, wider=3)
        told["scaled silu more"] = interpreted_scaled(silu=True, more=True, wider=1)
    else:
        told = {
            f"{name} sm_{capability}": compiled(kernel, seen, capability)
            for name, (kernel, seen) in full_size().items()
            for capability in CAPABILITIES
        }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
