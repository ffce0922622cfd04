"""CUDA tensors without a GPU and without memory, and a meter of the bytes that their operators read and write.

FakeTensorMode makes tensors that have a device, sizes and strides and nothing else; so the code under test takes its
CUDA paths, at full size. A CPU build of PyTorch can do it for factories and nearly every operator. What it cannot,
because a binding asks for the device first or takes an operator apart, `_Bindings` does by other operators; what has
the layout of a machine without cuDNN (convolutions), `Traffic` answers itself. Not possible: copies from other devices,
and streams.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from models import kernels

FLASH_HEAD_DIM = 256  # wider heads go to PyTorch's memory-efficient kernel
Module = TypeVar("Module", bound=nn.Module)
aten = torch.ops.aten
NOTHING = {"empty", "new_empty", "empty_like", "empty_strided", "new_empty_strided", "_unsafe_view", "detach", "device"}
FILLED = {"new_zeros", "zeros_like", "copy_"}  # what stands first is not read
# Matrix products, attention and convolutions: their bytes are no passes of their own.
PRODUCTS = {"mm", "addmm", "addmm_", "_addmm_activation", "bmm", "baddbmm", "convolution"}
ATTENTION = {f"_scaled_dot_product_{kind}_attention" for kind in ("flash", "efficient", "cudnn")}


@contextmanager
def fake_cuda() -> Iterator[None]:
    """Tensors made inside lie on a CUDA device that does not exist; no gradients."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(kernels, "TRITON", False))  # which needs memory
        for context in (FakeTensorMode(), torch.no_grad(), torch.device("cuda"), _Bindings()):
            stack.enter_context(context)
        yield


def on_fake_cuda(module: Module, dtype: torch.dtype = torch.bfloat16) -> Module:
    """The same module, built on the meta device, with weights on the device of `fake_cuda`."""
    for owner in module.modules():
        for name, weight in list(owner.named_parameters(recurse=False)):
            setattr(owner, name, nn.Parameter(torch.empty(weight.shape, dtype=dtype), requires_grad=False))
    return module


class _Bindings(TorchFunctionMode):
    """Methods of a tensor whose Python binding looks for the device: the same by operators that do not."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs the method or its substitute."""
        kwargs = kwargs or {}
        if func is Tensor.__getitem__:
            return _index(*args)
        if func is Tensor.__setitem__:
            return aten.copy_.default(_index(args[0], args[1]), args[2])
        if func is F.rms_norm:  # in parts in a CPU build; on CUDA one kernel that moves what a layer norm moves
            return F.layer_norm(args[0], args[1], kwargs["weight"])
        if func is torch.batch_norm_update_stats:  # PyTorch has no fake kernel of it; one reading of the input
            means = aten.mean.dim(args[0], (0, 2, 3), dtype=torch.float32)
            return means, torch.empty_like(means)
        if func is F.scaled_dot_product_attention:  # a CPU build would build the square
            return _attention(*args, causal=kwargs["is_causal"])
        for method, operator in ((Tensor.contiguous, aten.contiguous.default), (Tensor.copy_, aten.copy_.default)):
            if func is method:
                return operator(*args, **kwargs)
        return func(*args, **kwargs)


def _index(x: Tensor, key: Any) -> Tensor:
    """x[key] for integers, slices, None and one Ellipsis."""
    keys = list(key) if isinstance(key, tuple) else [key]
    if Ellipsis in keys:
        at, used = keys.index(Ellipsis), sum(entry is not None for entry in keys) - 1
        keys[at : at + 1] = [slice(None)] * (x.ndim - used)
    dim = 0
    for entry in keys:
        if isinstance(entry, int):
            x = x.select(dim, entry)
            continue
        if isinstance(entry, slice):
            x = aten.slice.Tensor(x, dim, *entry.indices(x.shape[dim])) if entry != slice(None) else x
        else:
            x = x.unsqueeze(dim)
        dim += 1
    return x


def _attention(q: Tensor, k: Tensor, v: Tensor, *, causal: bool) -> Tensor:
    if q.shape[-1] > FLASH_HEAD_DIM:
        return aten._scaled_dot_product_efficient_attention(q, k, v, None, False, 0.0, causal)[0]
    return aten._scaled_dot_product_flash_attention(q, k, v, 0.0, causal)[0]


class Traffic(TorchDispatchMode):
    """Counts the bytes that operators read and write, per operator; views and allocations are free.

    A tensor that is broadcast counts once. A norm of a strided input copies it first, as PyTorch's kernels do; a
    convolution copies inputs and weights that are not channels last, and adds its bias in a pass of its own.
    """

    def __init__(self) -> None:
        super().__init__()
        self.moved: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    def elementwise(self) -> int:
        """Bytes of everything but matrix products, attention and convolutions."""
        return sum(count for name, count in self.moved.items() if name not in PRODUCTS | ATTENTION)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs the operator, then counts."""
        kwargs = dict(kwargs or {})
        name = func.__name__.split(".")[0]
        result = _answer(name, args, kwargs) if name in ANSWERS else func(*args, **kwargs)
        if func.is_view or name in NOTHING:
            return result
        written = [x for x in tree_leaves(result) if isinstance(x, Tensor)]
        kwargs.pop("out", None)
        read = [x for x in tree_leaves((args[name in FILLED :], kwargs)) if isinstance(x, Tensor)]
        self.calls[name] += 1
        self.moved[name] += sum(_bytes(x) for x in read + written)
        if name == "native_layer_norm" and not args[0].is_contiguous():
            self.moved["copy in a norm"] += 2 * _bytes(args[0])
        if name == "convolution":
            layout = torch.channels_last if args[0].ndim == 4 else torch.channels_last_3d
            strided = [x for x in args[:2] if not x.is_contiguous(memory_format=layout)]
            self.moved["copy in convolution"] += sum(2 * _bytes(x) for x in strided)
            self.moved["bias of convolution"] += 0 if args[2] is None else 2 * _bytes(result)
        return result


def _bytes(x: Tensor) -> int:
    """Bytes of the elements that are not repeated by a stride of 0."""
    count = x.element_size()
    for size, stride in zip(x.shape, x.stride(), strict=True):
        count *= size if stride else 1
    return count


def _convolution(args: Any, _: Any) -> Tensor:
    x, weight, _, stride, padding = args[:5]
    sizes = zip(x.shape[2:], weight.shape[2:], stride, padding, strict=True)
    shape = [len(x), len(weight), *((size + 2 * pad - kernel) // step + 1 for size, kernel, step, pad in sizes)]
    layout = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)


ANSWERS = {"convolution": _convolution}


def _answer(name: str, args: Any, kwargs: Any) -> Any:
    return ANSWERS[name](args, kwargs)
