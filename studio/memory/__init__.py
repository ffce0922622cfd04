"""The memory runtime: runs networks that are larger than the GPU's memory within budgets of VRAM and RAM.

PyTorch's CUDA allocator reads its settings at its first use. With expandable segments it reserves little more than is
in use, and reserved memory is what the driver counts.
"""

import os

os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
