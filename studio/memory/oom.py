"""Out of memory is not the end: free what can be freed, take a smaller plan, repeat what ran."""

import traceback
from collections.abc import Callable
from typing import TypeVar

import torch

Result = TypeVar("Result")

# How PyTorch says it where it has no exception of its own for it: the driver when it loads a kernel, cuBLAS when it
# makes its handle, and convolutions when not one of cuDNN's algorithms got its workspace.
SPOKEN = (
    "DefaultCPUAllocator: can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "unable to find an engine to execute this computation",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that RAM or device memory was refused."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in SPOKEN)


def forget_frames(error: BaseException | None) -> None:
    """Clear the local variables of the finished frames an exception came through: they hold tensors."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def run_resiliently(work: Callable[[], Result], step_down: Callable[[str], None]) -> Result:
    """`work`, repeated for as long as it runs out of memory.

    step_down: makes the next attempt need less, given what was said; raises where nothing is left to give up.
    """
    while True:
        try:
            return work()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            said = str(error)
            forget_frames(error)
        step_down(said)  # outside of the handler, where the exception no longer holds on to anything
