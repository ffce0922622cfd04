"""What lies on disk: downloading, inspecting and quantizing checkpoint folders."""

import os

os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # read when huggingface_hub is imported: it tells nothing of this machine
