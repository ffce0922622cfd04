"""The memory runtime: networks larger than the card, within budgets that are promises.

PyTorch's CUDA allocator reads its settings once, at its first use: segments that grow in place keep what it reserves
close to what is in use, and reserved memory is what the driver counts.
"""

import os

os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
