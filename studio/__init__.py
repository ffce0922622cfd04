"""Step-Video Studio: video with Step-Video's 30B models on one GPU."""

__version__ = "0.1.0"
