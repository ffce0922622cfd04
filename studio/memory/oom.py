"""Retry after an out-of-memory error: the plan steps down, then the same work runs again."""

import traceback
from collections.abc import Callable
from typing import TypeVar

import torch

Result = TypeVar("Result")

# Out-of-memory messages that PyTorch raises as a plain RuntimeError: from the driver as it loads a kernel, from cuBLAS
# as it creates its handle, from cuDNN where no algorithm got its workspace.
OOM_MESSAGES = (
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
    return isinstance(error, RuntimeError) and any(message in str(error) for message in OOM_MESSAGES)


def clear_frames(error: BaseException | None) -> None:
    """Clear the local variables of the frames in an exception's traceback: they hold tensors."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def retry_on_oom(work: Callable[[], Result], step_down: Callable[[str], None]) -> Result:
    """Run `work` until it does not run out of memory.

    step_down(message): makes the next attempt need less memory; raises where nothing can be made smaller.
    """
    while True:
        try:
            return work()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            message = str(error)
            clear_frames(error)
        step_down(message)  # outside of the handler: inside it, the exception still holds tensors
