"""The page. Whatever of it is imported first, gradio and the hub's client tell nobody that it runs."""

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
