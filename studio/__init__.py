"""Step-Video Studio: video with Step-Video's 30B models on one GPU."""

from pathlib import Path

__version__ = "0.1.0"
# Configs lie inside the package only where a wheel installed it.
IS_INSTALLED = (Path(__file__).parent / "configs").is_dir()
PROGRAM = "step-video-studio" if IS_INSTALLED else "python app.py"  # how a user starts it
