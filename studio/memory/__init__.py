"""The memory runtime: runs networks that are larger than the GPU's memory within budgets of VRAM and RAM.

PyTorch's CUDA allocator reads its settings at its first use. With expandable segments it reserves little more than is
in use, and reserved memory is what the driver counts.
"""

import os
from collections.abc import MutableMapping

SETTINGS = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")  # PyTorch reads the second where the first is not there
EXPANDABLE = "expandable_segments"


def extend_allocator_settings(environment: MutableMapping[str, str]) -> None:
    """Add expandable segments to the allocator's settings, unless the user's own decide about them."""
    given = [name for name in SETTINGS if name in environment]
    for name in given or SETTINGS[-1:]:
        settings = environment.get(name, "").strip(" ,")
        if EXPANDABLE not in settings:
            environment[name] = f"{settings},{EXPANDABLE}:True".lstrip(",")


extend_allocator_settings(os.environ)
