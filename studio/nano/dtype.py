"""The dtype that nano's training computes in."""

import torch

from models.cpu import fast_cpu_dtype


def training_dtype(device: torch.device | str = "cpu") -> torch.dtype:
    """bfloat16 on a GPU, and on a CPU that is faster in it; else float32."""
    return fast_cpu_dtype() if torch.device(device).type == "cpu" else torch.bfloat16
